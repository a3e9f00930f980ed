"""Trust policies and trust stores, in the files that ``notation`` reads (``~/.config/notation`` on Linux).

``trustpolicy.oci.json``, else ``trustpolicy.json``, and ``truststore/x509/{ca,signingAuthority,tsa}/NAME/*``. Source:
notaryproject/specifications, trust-store-trust-policy.md. A document that ``notation`` refuses is refused here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.attestors import AttestorCertificates
from registry_pipelines.evidence.notation.aws_signer import is_trusted
from registry_pipelines.evidence.notation.envelope import X509_SCHEME
from registry_pipelines.evidence.notation.identities import ANY, SUBJECT, is_named, overlap, read_subject
from registry_pipelines.evidence.x509 import Certificate, is_authority, is_self_signed, name_of, read_certificates
from registry_pipelines.oci.decoding import ready

Check = Literal["integrity", "authenticity", "authenticTimestamp", "expiry", "revocation"]
Action = Literal["enforce", "log", "skip"]
Level = Literal["strict", "permissive", "audit", "skip"]
StoreKind = Literal["ca", "signingAuthority", "tsa"]

CHECKS: tuple[Check, ...] = get_args(Check)
_LEVELS: Mapping[Level, Mapping[Check, Action]] = {
    "strict": dict.fromkeys(CHECKS, "enforce"),
    "permissive": {"integrity": "enforce", "authenticity": "enforce", **dict.fromkeys(CHECKS[2:], "log")},
    "audit": {"integrity": "enforce", **dict.fromkeys(CHECKS[1:], "log")},
    "skip": dict.fromkeys(CHECKS, "skip"),
}
MAX_FILE_BYTES = 1024 * 1024
"""A trust policy, or a file of certificates."""
_STORE_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_SCOPE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d+)?(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+")
_POLICY_FILES = ("trustpolicy.oci.json", "trustpolicy.json")


class Verification(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How strictly a statement verifies."""

    level: Level
    override: dict[Check, Action] = {}
    verify_timestamp: Literal["always", "afterCertExpiry"] = "always"

    def action(self, check: Check) -> Action:
        """What is done when a check fails."""
        return self.override.get(check) or _LEVELS[self.level][check]


class Statement(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Who may sign what: one policy of a document."""

    name: str
    registry_scopes: list[str]
    """Full repositories, or ``*`` alone."""
    signature_verification: Verification
    trust_stores: list[str] = []
    """``KIND:NAME``."""
    trusted_identities: list[str] = []

    @property
    def skips(self) -> bool:
        """Whether nothing is verified."""
        return self.signature_verification.level == "skip"

    def trusts(self, leaf: Certificate) -> bool:
        """Whether a certificate that its store vouches for is one of those named."""
        if self.trusted_identities == [ANY]:
            return True
        named = [one.partition(":")[2] for one in self.trusted_identities if one.startswith(f"{SUBJECT}:")]
        return any(is_named(leaf, read_subject(text)) for text in named)

    def trusts_profile(self, attributes: Mapping[str, str]) -> bool:
        """Whether a signing profile of AWS Signer is one of those named, by its ARN."""
        return is_trusted(attributes, self.trusted_identities)

    def stores(self, kind: StoreKind) -> list[str]:
        """The names of its stores of a kind, each once."""
        pairs = [one.split(":", 1) for one in self.trust_stores]
        return list(dict.fromkeys(name for each, name in pairs if each == kind))


class Document(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A trust policy document."""

    version: Literal["1.0"]
    trust_policies: list[Statement]

    def statement_for(self, repository: str) -> Statement | None:
        """The statement for a repository (``host/path``): the one that names it, else the one for ``*``."""
        exact = [one for one in self.trust_policies if repository in one.registry_scopes]
        general = [one for one in self.trust_policies if ANY in one.registry_scopes]
        return next(iter(exact or general), None)


@dataclass(frozen=True)
class Trust:
    """A trust policy with its stores, read whole."""

    document: Document
    stores: Mapping[tuple[StoreKind, str], Sequence[Certificate]]
    """By kind and name."""

    def statement_for(self, repository: str) -> Statement:
        """Raises SignatureInvalid where none applies: what no policy names is not trusted."""
        statement = self.document.statement_for(repository)
        if statement is None:
            raise SignatureInvalid(
                "no statement of the Notation trust policy has this repository among its `registryScopes`",
                where=repository,
                do="Add the repository to a statement's `registryScopes`",
            )
        return statement

    def anchors(self, statement: Statement, scheme: str) -> list[Certificate]:
        """Whom a statement trusts for signatures of a scheme."""
        return self._certificates(statement, "ca" if scheme == X509_SCHEME else "signingAuthority")

    def timestamp_anchors(self, statement: Statement) -> list[Certificate]:
        """Whom a statement trusts for timestamps."""
        return self._certificates(statement, "tsa")

    def _certificates(self, statement: Statement, kind: StoreKind) -> list[Certificate]:
        return [one for name in statement.stores(kind) for one in self.stores[kind, name]]


def notation_folder() -> Path:
    """Where ``notation`` keeps its configuration on Linux."""
    told = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(told) if told else Path.home() / ".config") / "notation"


def read_trust(folder: Path) -> Trust:
    """Read a folder like ``~/.config/notation``: its policy, and every store that the policy names.

    Raises InputError, which names the file and what is wrong with it.
    """
    path = next((folder / name for name in _POLICY_FILES if os.path.lexists(folder / name)), None)
    if path is None:
        raise InputError(
            "there is no Notation trust policy",
            where=str(folder / _POLICY_FILES[-1]),
            do="Write one, or `notation policy import` it",
        )
    document = read_document(_read_file(path), where=str(path))
    named = {tuple(one.split(":", 1)) for each in document.trust_policies for one in each.trust_stores}
    stores = {(kind, name): _read_store(folder, kind, name) for kind, name in sorted(named)}
    return Trust(document, stores)  # type: ignore[arg-type]  # the kinds are those that the document may name


def trust_in(name: str, files: AttestorCertificates) -> Trust:
    """Trust these authorities and identities for every repository, strictly. name: of who they are, for messages.

    Raises InputError, which names the file or the identity and what is wrong with it.
    """
    stores: dict[tuple[StoreKind, str], list[Certificate]] = {
        ("ca", name): read_anchors(files.roots, "ca"),
        ("tsa", name): read_anchors(files.timestamps, "tsa"),
    }
    if not stores["ca", name]:
        raise InputError(f"no certificate is named whose signatures count as {name}")
    statement = Statement(
        name=name,
        registry_scopes=[ANY],
        signature_verification=Verification(level="strict"),
        trust_stores=[f"{kind}:{name}" for (kind, _), held in stores.items() if held],
        trusted_identities=list(files.identities),
    )
    document = Document(version="1.0", trust_policies=[statement])
    if problem := next(iter(_problems(document)), ""):
        raise InputError(f"the certificates of {name} cannot be trusted: {problem}")
    return Trust(document, stores)


def read_anchors(paths: Iterable[Path], kind: str, *, links: bool = False) -> list[Certificate]:
    """All certificates of some files, as a store of this kind holds them. links: a file may be a link to one, as
    volumes of Kubernetes have them. Raises InputError, which names the file."""
    anchors = []
    for path in paths:
        for certificate in read_certificates(_read_file(path, links=links), where=str(path)):
            _check_stored(certificate, kind, str(path))
            anchors.append(certificate)
    return anchors


def read_document(raw: bytes, *, where: str = "") -> Document:
    """Parse and check a trust policy. Raises InputError."""
    try:
        document = msgspec.json.decode(raw, type=ready(Document))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the Notation trust policy cannot be read: {error}", where=where) from error
    problem = next(iter(_problems(document)), "")
    if problem:
        raise InputError(f"the Notation trust policy is not valid: {problem}", where=where)
    return document


def write_document(document: Document) -> bytes:
    """As a file for ``notation``. Raises InputError for one that it would refuse."""
    raw = msgspec.json.format(msgspec.json.encode(document), indent=2)
    read_document(raw)
    return raw + b"\n"


def _problems(document: Document) -> list[str]:
    if not document.trust_policies:
        return ["it has no statement"]
    problems = []
    names = [one.name for one in document.trust_policies]
    scopes = [scope for one in document.trust_policies for scope in one.registry_scopes]
    problems += [f"two statements are named {name!r}" for name in names if names.count(name) > 1]
    problems += [f"two statements have the scope {scope!r}" for scope in scopes if scopes.count(scope) > 1]
    for statement in document.trust_policies:
        found = (*_scope_problems(statement), *_level_problems(statement), *_trust_problems(statement))
        problems += [f"statement {statement.name!r}: {problem}" for problem in found]
    return problems


def _scope_problems(statement: Statement) -> list[str]:
    if not statement.name:
        return ["it has no name"]
    if not statement.registry_scopes or (len(statement.registry_scopes) > 1 and ANY in statement.registry_scopes):
        return ["`registryScopes` are repositories, or `*` alone"]
    return [
        f"the scope {scope!r} is not a full repository, like host.example/path/name"
        for scope in statement.registry_scopes
        if scope != ANY and not _SCOPE.fullmatch(scope)
    ]


def _level_problems(statement: Statement) -> list[str]:
    verification = statement.signature_verification
    if verification.level == "skip" and verification.override:
        return ["level `skip` has nothing to override"]
    problems = []
    for check, action in verification.override.items():
        if check == "integrity":
            problems.append("integrity is always enforced")
        elif action == "skip" and check != "revocation":
            problems.append(f"{check} can be logged, and not skipped")
    return problems


def _trust_problems(statement: Statement) -> list[str]:
    told = statement.trust_stores, statement.trusted_identities
    if statement.skips:
        if statement.registry_scopes == [ANY]:
            return ["level `skip` for every repository verifies nothing at all"]
        return ["level `skip` has neither `trustStores` nor `trustedIdentities`"] if any(told) else []
    if not all(told):
        return ["`trustStores` and `trustedIdentities` are both needed"]
    problems = []
    for store in statement.trust_stores:
        kind, _, name = store.partition(":")
        if kind not in get_args(StoreKind) or not _STORE_NAME.fullmatch(name) or name in (".", ".."):
            problems.append(f"the trust store {store!r} is not ca:NAME, signingAuthority:NAME or tsa:NAME")
    return problems + _identity_problems(statement.trusted_identities)


def _identity_problems(identities: Sequence[str]) -> list[str]:
    if ANY in identities:
        return ["`*` stands alone among the identities"] if len(identities) > 1 else []
    subjects: list[dict[str, str]] = []
    for identity in identities:
        kind, colon, value = identity.partition(":")
        if not colon or not value:
            return [f"the identity {identity!r} is not {SUBJECT}: SUBJECT"]
        if kind != SUBJECT:  # a plugin's; nobody here is trusted by it
            continue
        try:
            subjects.append(read_subject(value))
        except ValueError as error:
            return [f"the identity {identity!r}: {error}"]
    doubled = any(overlap(one, other) for one in subjects for other in subjects if one is not other)
    return ["two identities overlap: what one names is in the other"] if doubled else []


def _read_store(folder: Path, kind: str, name: str) -> list[Certificate]:
    path = folder / "truststore" / "x509" / kind / name
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise InputError("a trust store is a folder, and no link to one", where=str(path))
        files = sorted(path.iterdir())
    except OSError as error:
        do = f"Add its certificates: notation cert add --type {kind} --store {name} FILE"
        raise InputError(f"the trust store cannot be read: {error.strerror}", where=str(path), do=do) from error
    certificates = read_anchors(files, kind)
    if not certificates:
        raise InputError("the trust store holds no certificate", where=str(path))
    return certificates


def _check_stored(certificate: Certificate, kind: str, where: str) -> None:
    if kind == "tsa" and not (is_authority(certificate) and is_self_signed(certificate)):
        what = "is no root, and only roots are trusted for timestamps"
    elif not is_authority(certificate) and not is_self_signed(certificate):
        what = "is neither an authority's nor self-signed"
    else:
        return
    raise InputError(f"the certificate of {name_of(certificate)} {what}", where=where)


def _read_file(path: Path, *, links: bool = False) -> bytes:
    """A file that is no link, as ``notation`` takes them: a link could be turned to another file later."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError("this is not a regular file", where=str(path))
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = " (links are not followed)" if path.is_symlink() and not links else ""
        raise InputError(f"the file cannot be read: {error.strerror}{why}", where=str(path)) from error
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"the file has more than {MAX_FILE_BYTES} bytes", where=str(path))
    return content
