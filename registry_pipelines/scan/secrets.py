"""Secrets in the files of a layer, found while it streams: private keys, tokens, and files that hold passwords.

Which files are looked into is decided by name and size; a layer's budget bounds the rest. A value is never kept: only
where it is, what it is, and six digits of its hash, by which two places are known to hold the same one (24 bits: too
few to find a password by trying). Token forms are those that their issuers document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from registry_pipelines.scan.facts import FoundSecret

KIB = 1024
MAX_NAMED_BYTES = 256 * KIB
"""Of a file whose name says that it may hold a secret; kubeconfigs of hundreds of clusters have less."""
MAX_SMALL_BYTES = 64 * KIB
"""Larger files that are named like nothing here are not looked into."""
MAX_LAYER_BYTES = 16 * KIB * KIB
"""Looked into in one layer; an application has a few MiB of small files."""
MAX_FOUND = 500
"""Of one layer."""
MAX_OF_FILE = 20
"""Of one file."""
MAX_VALUES = 200
"""Looked at in one file; the same value counts once."""

_Reader = Callable[[bytes], Iterator[tuple[str, bytes, int]]]

_FIXED_NAMES = frozenset(
    (
        *(".netrc", "_netrc", ".pypirc", "pip.conf", "pip.ini", ".npmrc", ".yarnrc.yml", ".git-credentials"),
        *(".dockercfg", "kubeconfig", ".condarc", "uv.toml", "auth.toml", ".s3cfg", ".boto", "kaggle.json"),
        *(".databrickscfg", ".pgpass", ".my.cnf", "credentials", "credentials.json", ".env", ".envrc"),
        *("application_default_credentials.json", "service-account.json", "service_account.json", "token"),
        *("stored_tokens", "terraform.tfstate", "secrets.toml", "secrets.yaml", "secrets.yml", "secrets.json"),
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"),
    )
)
_SUFFIXES = (".pem", ".key", ".p8", ".ppk", ".tfvars", ".kubeconfig", ".env", "_key")
_PATHS = (".docker/config.json", ".kube/config", ".aws/config", ".git/config")
_INSTALLED = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages|node_modules|conda-meta)/|(?:^|/)\.git/"
    r"|\A(?:usr/(?!src/|local/(?!lib/|cuda|share/))|lib(?:32|64|x32)?/|s?bin/|boot/|opt/(?:conda|nvidia|rocm)"
    r"|var/(?:lib/(?:dpkg|apt|rpm)|cache)/)"
)
"""Folders of packages: only files with a name of the above are looked into there."""
_BINARY = (
    ".pyc", ".so", ".a", ".o", ".gz", ".xz", ".zst", ".bz2", ".zip", ".whl", ".png", ".jpg", ".jpeg", ".gif", ".ico",
    ".woff", ".woff2", ".ttf", ".pdf", ".mo", ".npy", ".npz", ".parquet", ".safetensors",
)  # fmt: skip


class _Form(NamedTuple):
    kind: str
    needle: bytes
    """Looked for first: a search for bytes is a hundred times faster than an expression."""
    pattern: re.Pattern[bytes]


def _form(kind: str, needle: str, pattern: str) -> _Form:
    return _Form(kind, needle.encode(), re.compile(rb"(?<![A-Za-z0-9_])" + pattern.encode()))


_FORMS = (
    _form("aws-access-key", "AKIA", r"AKIA[A-Z2-7]{16}(?![A-Z0-9])"),
    _form("github-token", "ghp_", r"ghp_[A-Za-z0-9]{36,255}"),
    _form("github-token", "gho_", r"gho_[A-Za-z0-9]{36,255}"),
    _form("github-token", "ghs_", r"ghs_[A-Za-z0-9]{36,255}"),
    _form("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{36,255}"),
    _form("gitlab-token", "glpat-", r"glpat-[A-Za-z0-9_-]{20,64}"),
    _form("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{30,64}(?![A-Za-z0-9])"),
    _form("slack-token", "xox", r"xox[abprs]-[0-9A-Za-z-]{20,250}"),
    _form("google-api-key", "AIza", r"AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    _form("google-oauth-token", "ya29.", r"ya29\.[0-9A-Za-z_-]{20,500}"),
    _form("index-token", "pypi-AgE", r"pypi-AgE[A-Za-z0-9_-]{50,500}"),
    _form("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    _form("docker-token", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{20,64}"),
    _form("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{40,200}"),
    _form("openai-key", "sk-", r"sk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,100}T3BlbkFJ[A-Za-z0-9_-]{20,100}"),
    _form("nvidia-key", "nvapi-", r"nvapi-[A-Za-z0-9_-]{40,100}"),
    _form("databricks-token", "dapi", r"dapi[0-9a-f]{32}(?![0-9a-f])"),
    _form("stripe-key", "sk_live_", r"sk_live_[0-9A-Za-z]{20,200}"),
    _form("azure-storage-key", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{80,90}={0,2}"),
)
_KEY_MARK = b"PRIVATE KEY"
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,20})PRIVATE KEY(?: BLOCK)?-----")
_KEY_WINDOW = 600
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{16,}")
_URL = re.compile(rb"[a-z][a-z0-9+.-]{1,20}://([^\s/:@'\"<>]{0,100}):([^\s/@'\"<>]{3,200})@[A-Za-z0-9\[]")

_SECRET_NAME = re.compile(
    r"(?:\A|[_.-])(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|API[_-]?KEY|ACCESS[_-]?KEY|PRIVATE[_-]?KEY|CREDENTIALS?|AUTH[_-]?KEY)"
    r"(?:S|_?VALUE)?\Z",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    r"^[ \t]{0,100}(?:export )?([A-Za-z_][A-Za-z0-9_.-]{0,100})[ \t]{0,10}[=:]([^\r\n]{1,2000})", re.MULTILINE
)
_PLACEHOLDER = re.compile(
    r"\A(?:\W*|[\"']?(?:\$|<|\{\{|%\(|/|file:|env:|ENC\[|vault:).*|[x*.]+"
    r"|(?:none|null|true|false|todo|tbd|secret|passw(?:or)?d|token|changeme|change_?me|replace_?me|placeholder|dummy|test"
    r"|your|my|insert|redacted|example|foo|bar|fake|unset|undefined)(?:[-_ .].*|\d*))\Z",
    re.IGNORECASE | re.DOTALL,
)
_MIN_VALUE = 6


def wanted(name: str, size: int) -> int:
    """How many bytes of a file are to be looked into; 0: none. name: its path below the root."""
    if not size:
        return 0
    base = name[name.rfind("/") + 1 :]
    if _is_named(name, base):
        return min(size, MAX_NAMED_BYTES)
    if size > MAX_SMALL_BYTES or base.endswith(_BINARY) or _in_packages(name[: len(name) - len(base)]):
        return 0
    return size


def _is_named(name: str, base: str) -> bool:
    """Whether its name says that it may hold a secret. Asked of each file of a layer, so by cheap tests."""
    return (
        base in _FIXED_NAMES
        or base.endswith(_SUFFIXES)
        or base.startswith(".env.")
        or name.endswith(_PATHS)
        or name.startswith("run/secrets/")
    )


@lru_cache(maxsize=1024)
def _in_packages(folder: str) -> bool:
    """Files of one folder stand behind each other."""
    return _INSTALLED.search(folder) is not None


@dataclass
class SecretFinder:
    """Of one layer: asks which files are wanted, and looks into them."""

    found: list[FoundSecret] = field(default_factory=list)
    unsearched: int = 0
    """Files that were wanted, and not looked into any more."""
    _left: int = MAX_LAYER_BYTES

    def wanted(self, name: str, size: int) -> int:
        """Bytes of a file that are to be given to :meth:`search`; 0: none."""
        count = wanted(name, size)
        if count and (count > self._left or len(self.found) >= MAX_FOUND):
            self.unsearched += 1
            return 0
        self._left -= count
        return count

    def search(self, name: str, raw: bytes) -> None:
        """Look into the beginning of a file."""
        self.found += secrets_in(name, raw)[: MAX_FOUND - len(self.found)]


def secrets_in(name: str, raw: bytes) -> list[FoundSecret]:
    """What a file holds, each value once, at most :data:`MAX_OF_FILE`. name: its path, which says what form it may
    have. Never raises."""
    found: dict[str, FoundSecret] = {}
    for kind, value, at in islice(_values(name, raw), MAX_VALUES):
        mark = short_hash(value)
        if mark not in found:  # the form of a token, which comes first, says more than that of its file
            found[mark] = FoundSecret(path=name, kind=kind, hash=mark, line=raw.count(b"\n", 0, at) + 1)
        if len(found) == MAX_OF_FILE:
            break
    return list(found.values())


def short_hash(value: bytes) -> str:
    """Six hexadecimal digits, by which the same value is known elsewhere."""
    return hashlib.sha256(value).hexdigest()[:6]


def _values(name: str, raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Kind, value, and where it begins."""
    yield from _tokens(raw)
    if _KEY_MARK in raw:
        yield from _private_keys(raw)
    base = name[name.rfind("/") + 1 :]
    if reader := _READERS.get(base) or _reader_of(name, base):
        yield from reader(raw)
    elif b"://" in raw and _is_named(name, base):
        yield from _url_passwords(raw)


def _tokens(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    for form in _FORMS:
        if form.needle in raw:
            for match in form.pattern.finditer(raw):
                if b"EXAMPLE" not in match[0] and len(set(match[0])) > 9:
                    yield form.kind, match[0], match.start()


def _private_keys(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    """With their content behind them: programs name the mark alone."""
    for match in _KEY.finditer(raw):
        window = raw[match.end() : match.end() + _KEY_WINDOW].replace(b"\\n", b"\n")
        if window.count(b"-----"):
            window = window[: window.index(b"-----")]
        body = b"".join(_BASE64.findall(window))
        if len(body) < 40:
            continue
        encrypted = b"ENCRYPTED" in match[1] or b"ENCRYPTED" in window
        kind = "encrypted-private-key" if encrypted else "private-key"
        if not encrypted and b'"private_key"' in raw and b'"client_email"' in raw:
            kind = "gcp-service-account"
        yield kind, body, match.start()


def _url_passwords(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    """``https://user:password@host``."""
    for match in _URL.finditer(raw):
        if is_value(match[2].decode("utf-8", "replace")):
            yield "url-password", match[2], match.start()


def _netrc(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    for match in re.finditer(rb"(?<!\S)password\s+(\S{1,500})", raw):
        if is_value(match[1].decode("utf-8", "replace")):
            yield "netrc", match[1], match.start()


def _lines_of(kind: str, pattern: str) -> _Reader:
    compiled = re.compile(pattern.encode(), re.MULTILINE | re.IGNORECASE)

    def reader(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
        for match in compiled.finditer(raw):
            if is_value(match[1].decode("utf-8", "replace")):
                yield kind, match[1], match.start()
        yield from _url_passwords(raw)

    return reader


def _assignments(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Of a ``.env``: names that sound like secrets, with a value."""
    text = raw.decode("utf-8", "replace")
    for match in _ASSIGNED.finditer(text):
        value = match[2].strip().strip("\"'")
        if _SECRET_NAME.search(match[1]) and is_value(value):
            yield "env-file", value.encode("utf-8", "replace"), len(text[: match.start()].encode("utf-8", "replace"))
    yield from _url_passwords(raw)


_START = r"^[ \t]{0,100}"
_VALUE = r"[ \t]{0,100}[=:][ \t]{0,100}[\"']?([^\s\"',}]{1,2000})"
_KUBECONFIG = _lines_of("kubeconfig", _START + r"(?:- )?\"?(?:client-key-data|token|password)\"?" + _VALUE)
_READERS = {
    ".netrc": _netrc,
    "_netrc": _netrc,
    ".pypirc": _lines_of("pypirc", _START + r"password" + _VALUE),
    ".dockercfg": _lines_of("docker-auth", r"\"(?:auth|identitytoken|registrytoken)\"" + _VALUE),
    ".npmrc": _lines_of("npm-token", r"^[^\n]{0,200}_(?:authToken|password|auth)" + _VALUE),
    "kubeconfig": _KUBECONFIG,
    ".pgpass": _lines_of("pgpass", r"^(?!#)(?:[^:\n]{0,200}:){4}([^\s:]{1,200})$"),
    ".my.cnf": _lines_of("my-cnf", _START + r"password" + _VALUE),
    "kaggle.json": _lines_of("kaggle-key", r"\"key\"" + _VALUE),
    ".databrickscfg": _lines_of("databricks-token", _START + r"(?:token|password|client_secret)" + _VALUE),
    ".s3cfg": _lines_of("aws-secret-key", _START + r"secret_key" + _VALUE),
    "credentials": _lines_of("aws-secret-key", _START + r"aws_(?:secret_access_key|session_token)" + _VALUE),
    "auth.toml": _lines_of("poetry-auth", _START + r"password" + _VALUE),
    ".env": _assignments,
    ".envrc": _assignments,
}


def _reader_of(name: str, base: str) -> _Reader | None:
    if name.endswith(".docker/config.json"):
        return _READERS[".dockercfg"]
    if name.endswith((".kube/config", ".kubeconfig")):
        return _KUBECONFIG
    if name.endswith((".aws/config", "run/secrets/aws")):
        return _READERS["credentials"]
    if base.startswith(".env.") or base.endswith((".env", ".tfvars")):
        return _assignments if not base.endswith(("example", "sample", "template", "dist")) else None
    return None


def is_value(text: str) -> bool:
    """Whether it may be a secret, and is no placeholder or reference."""
    return len(text) >= _MIN_VALUE and not _PLACEHOLDER.match(text[:300]) and len(set(text)) > 3


def sounds_secret(name: str) -> bool:
    """Whether a variable of this name usually holds a secret (``HF_TOKEN``, ``DB_PASSWORD``)."""
    return _SECRET_NAME.search(name[:200]) is not None and not name.upper().endswith(
        ("_FILE", "_PATH", "_URL", "_NAME")
    )


def secrets_in_text(text: str) -> list[tuple[str, str]]:
    """Kind and short hash of the tokens, keys and passwords of URLs in a text: a command, a label, a variable."""
    raw = text.encode("utf-8", "replace")
    values = [*_tokens(raw), *(_private_keys(raw) if _KEY_MARK in raw else ()), *_url_passwords(raw)]
    return list(dict.fromkeys((kind, short_hash(value)) for kind, value, _ in values[:MAX_VALUES]))


def without_tokens(text: str, instead: str) -> str:
    """A text with something else in place of each token of a known form."""
    for form in _FORMS:
        if form.needle.decode() in text:
            text = re.sub(form.pattern.pattern.decode(), instead, text)
    return text
