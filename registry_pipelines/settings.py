"""What a setting may look like: secrets, lengths of time, names and patterns, and the marks that say so in a type.

A policy, a target or a retention rule is one class, in its stage; the configuration holds that class itself. Its type
hints say what may be written (``Annotated[str, GLOB]``, numbers by :class:`msgspec.Meta`), the docstring below each
field what it means; :mod:`registry_pipelines.config` reads both. So this is below the stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal, NoReturn

import msgspec

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d{1,9})(KiB|MiB|GiB|MB|GB)\Z")
_UNITS = {"GiB": 1 << 30, "GB": 10**9, "MiB": 1 << 20, "MB": 10**6, "KiB": 1 << 10}
SIZE_PATTERN = r"^[0-9]{1,9}(KiB|MiB|GiB|MB|GB)$"
DURATION_PATTERN = r"^[0-9]{1,9}(ms|s|m|h|d|w)$"


class Secret(str):
    """A secret string. ``repr`` and ``format`` never show it; :meth:`reveal` gives the value.

    ``str(secret)`` and an f-string hide it too, so that a log line cannot leak it by accident.
    """

    __slots__ = ()

    def reveal(self) -> str:
        """The value itself, as a plain ``str``."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"

    def __str__(self) -> str:
        return "***" if self else ""

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled, so that it cannot reach a file or another process")


class Duration(timedelta):
    """A length of time, written as a whole number with a unit: ms, s, m, h, d, w (``30s``, ``7d``)."""

    def __str__(self) -> str:
        seconds = self.total_seconds()
        for unit in ("w", "d", "h", "m", "s"):
            if seconds and seconds % _SECONDS[unit] == 0:
                return f"{int(seconds // _SECONDS[unit])}{unit}"
        return f"{round(seconds * 1000)}ms"

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a duration. Raises ValueError with a sentence for people."""
        match = _DURATION.match(text)
        if not match:
            raise ValueError(f"{text!r} is not a duration; write a whole number and ms, s, m, h, d or w, like 7d")
        try:
            return cls(seconds=int(match[1]) * _SECONDS[match[2]])
        except OverflowError as error:
            raise ValueError(f"{text!r} is longer than a duration can be") from error


class Size(int):
    """A number of bytes, written as a whole number with a unit: KiB, MiB, GiB (``4MiB``), and as media are sold MB, GB
    (``25GB``)."""

    def __str__(self) -> str:
        for unit, factor in _UNITS.items():
            if self and self % factor == 0:
                return f"{self // factor}{unit}"
        return f"{int(self)} bytes"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read a size. Raises ValueError with a sentence for people."""
        match = _SIZE.match(text)
        if not match:
            raise ValueError(f"{text!r} is not a size; write a whole number and KiB, MiB, GiB, MB or GB, like 4MiB")
        return cls(int(match[1]) * _UNITS[match[2]])


class Pattern(msgspec.Struct, frozen=True):
    """What a string must look like. ``what`` names it for people, ``do`` says how to write it."""

    expression: str
    what: str
    do: str

    def check(self, text: str) -> str:
        """Return ``text`` when it matches. Raises ValueError."""
        if not re.search(self.expression, text) or text.endswith("\n"):
            raise ValueError(f"{text[:120]!r} is not {self.what}; {self.do}")
        return text


NAME = Pattern(r"^[a-z0-9][a-z0-9_-]{0,62}$", "a name", "use 1 to 63 lower-case letters, digits, - and _")
HOST = Pattern(
    r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$",
    "a registry host",
    "write host or host:port, without https:// and without a path",
)
HOST_AND_PREFIX = Pattern(
    r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
    "a registry host, with a prefix of its repositories or without",
    "write host, host:port or host/prefix, without https://",
)
REPOSITORY = Pattern(
    r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
    "a repository name",
    "use lower-case letters, digits, single . _ - between them, and / between parts",
)
PREFIX = Pattern(
    r"^([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)?$",
    "a repository prefix",
    "write it like a repository name, without a slash at its ends; empty for none",
)
ARTIFACT = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9._-]+)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$",
    "an artifact with its tag or digest",
    "write <registry>/<repository>:<tag>",
)
TAG = Pattern(
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", "a tag", "use at most 128 letters, digits, _ . -, not starting with . or -"
)
FEED = Pattern(
    r"^(https://[^\s/@?#]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]{1,5})?)(/[^\s?#]*)?$",
    "the address of an export of advisories",
    "write https://host/path, without user and password; plain http is for this machine alone",
)
ECOSYSTEM = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$", "an OSV ecosystem", "write PyPI, Debian or crates.io, without a release"
)
DIGEST = Pattern(r"^sha256:[0-9a-f]{64}$", "a digest", "write sha256: and 64 hex digits")
SCANNER = Pattern(
    r"^(trivy|grype|ecr|inspector|google|google-on-demand)$",
    "a scanner that is known",
    "write trivy, grype, ecr, inspector, google or google-on-demand",
)
PLATFORM_PATTERN = r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$"
LIBC = Pattern(
    r"^(glibc-2\.\d{1,3}|musl-1\.\d{1,3}|none)?$", "a C library", "write glibc-2.31, musl-1.2 or none, for example"
)
GLOB = Pattern(
    r"^[A-Za-z0-9_.*?\[\]!/-]{1,255}$", "a pattern", "use letters, digits, _ . - / and the wildcards * ? [ ]"
)
AWS_ACCOUNT = Pattern(r"^[0-9]{12}$", "an AWS account", "write its 12 digits in quotes")
AWS_OWNER = Pattern(r"^([0-9]{12})?$", "an AWS account", "write its 12 digits in quotes")
SIGNING_PROFILE = Pattern(
    r"^([A-Za-z0-9_]{2,64})?$", "a signing profile of AWS Signer", "write its name: 2 to 64 letters, digits and _"
)
DOCKER_HOST = Pattern(
    r"^(unix:///[^\s?#]+|ssh://[^\s?#]+|tcp://[^\s/@?#]+:[0-9]{1,5})?$",
    "the address of a Docker engine",
    "write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST",
)
KUBE_RESOURCE = Pattern(
    r"^[a-z0-9.-]{1,253}/v[a-z0-9]{1,30}/[a-z0-9-]{1,63}$",
    "a resource of Kubernetes",
    "write group/version/plural, like argoproj.io/v1alpha1/rollouts",
)
KUBE_NAME = Pattern(
    r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
    "the name of an object of Kubernetes or Cloud Run",
    "use lower-case letters, digits, - and .",
)
AWS_REGION = Pattern(r"^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$", "an AWS region", "write it like eu-west-1 or us-gov-west-1")
AWS_ROLE = Pattern(
    r"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512})?$",
    "the ARN of a role",
    "write arn:aws:iam::ACCOUNT:role/NAME",
)
ATTESTOR = Pattern(
    r"^projects/[a-z0-9:.-]{1,100}/attestors/[A-Za-z0-9_-]{1,100}$",
    "an attestor of Binary Authorization",
    "write projects/PROJECT/attestors/NAME",
)
GOOGLE_PROJECT = Pattern(
    r"^([a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$",
    "a Google Cloud project",
    "write its id, 6 to 30 lower-case letters, digits and -",
)
GOOGLE_LOCATION = Pattern(
    r"^(us|europe|asia|[a-z]+-[a-z]+[0-9]{1,2})$",
    "a location of Artifact Registry",
    "write a region like europe-west1, or us, europe, asia",
)
GOOGLE_HOST = Pattern(
    r"^((us|eu|asia)\.)?gcr\.io$", "a host of Container Registry", "write gcr.io, us.gcr.io, eu.gcr.io or asia.gcr.io"
)
SERVICE_ACCOUNT = Pattern(
    r"^([A-Za-z0-9._-]+@[A-Za-z0-9.-]+)?$", "a service account", "write NAME@PROJECT.iam.gserviceaccount.com"
)
KMS = Pattern(
    r"^(awskms:[A-Za-z0-9:/_-]+|gcpkms:projects/[^\s?#]+/cryptoKeyVersions/[0-9]+|azurekms://[A-Za-z0-9.-]+/keys"
    r"/[A-Za-z0-9/-]+|hv:[A-Za-z0-9_.-]+/[0-9]+|hsm:[0-9]*(\?label=[^\s&]+)?)$",
    "the address of a key in a key service",
    "write awskms:KEY (id, ARN or alias/NAME), gcpkms:projects/.../cryptoKeyVersions/1, "
    "azurekms://VAULT/keys/NAME/VERSION, hv:NAME/VERSION (Vault) or hsm:ID?label=TOKEN (PKCS#11)",
)
REPORTS = Pattern(
    r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]|file://)(/[^?#\s]*)?$",
    "a place for reports",
    "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///FOLDER",
)
WEBHOOK = Pattern(
    r"^https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?][!-\"$-~]*)?$",
    "the address of a webhook",
    "write https://host/path; a name or a password does not stand in it",
)
EMAIL = Pattern(
    r"^[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{2,63}$",
    "an e-mail address",
    "write NAME@HOST, without a name for people before it",
)
OWNER = Pattern(
    r"^(team:[A-Za-z0-9][A-Za-z0-9._-]{0,63}|[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})$",
    "an owner as Dagster has them",
    "write an e-mail address, or team: and a name",
)
SOURCE = Pattern(
    r"^(https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~%+,@=-]+)+)?$",
    "where code is to be read",
    "write https://HOST/ORG/REPO/blob/COMMIT, without a slash at its end and without a password",
)
DNS_NAME = Pattern(
    r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a name of the DNS",
    "write it whole, in lower case and without a dot at its end, like images.example.com",
)
ZONE = Pattern(
    r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$",
    "a zone of the DNS",
    "write the id of a hosted zone (Z0123456789), the name of a managed zone, or a domain without a dot at its end",
)
CHECK_ID = Pattern(
    r"^([A-Za-z0-9-]{1,64})?$", "the id of a health check", "write it as `aws route53 list-health-checks` shows it"
)
HEALTH_PATH = Pattern(
    r"^(/[A-Za-z0-9._~/-]{0,254})?$", "a path", "write it from its slash on, like /healthz, without host and query"
)
REPOSITORY_DIGEST = Pattern(
    r"^([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*@sha256:[0-9a-f]{64})?$",
    "a repository with a digest",
    "write REPOSITORY@sha256: and 64 hex digits, without the registry",
)


class Names(msgspec.Struct, frozen=True):
    """Marks a string that names an entry of a top-level section of the configuration."""

    section: str


class Instead(msgspec.Struct, frozen=True):
    """Marks a choice for words that people write there and that are none (any more); ``do`` says what to write."""

    words: tuple[str, ...]
    do: str


class Short(msgspec.Struct, frozen=True):
    """Marks an object that may be written as the text of one of its fields, where the others are as they are."""

    field: str


class Existing(msgspec.Struct, frozen=True):
    """Marks a path that must be there when what the configuration says is done; ``config check`` looks. what: ``file``,
    ``folder``, or ``file or folder``. A text with ``://`` is an address, and nothing is looked for."""

    what: Literal["file", "folder", "file or folder"]


FILE = Existing("file")
FOLDER = Existing("folder")


class Unwritten(msgspec.Struct, frozen=True):
    """Marks a field that is not written in the file. from_key: it is the entry's own name in its section."""

    from_key: bool = False


EntryName = Annotated[str, Unwritten(from_key=True)]


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that a mistyped one most likely is; empty where none is like it."""
    import difflib  # for those who mistyped alone

    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    # Two letters that changed places are the commonest slip: `prot` is `port`, and not the equally near `root`.
    return min(close, key=lambda each: sorted(each) != sorted(name), default="")


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """``unknown <what> `name```, with the closest known name, or all when they are few."""
    names = sorted(known)
    if best := closest(name, names):
        hint = f"did you mean `{best}`?"
    elif names:
        hint = f"there are: {', '.join(names[:20])}"
    else:
        hint = "there are none"
    return f"unknown {what} `{name[:80]}`; {hint}"
