"""In-toto statements (github.com/in-toto/attestation, spec/v1/statement.md; v0.1 is accepted when reading).

``cosign attest``, 2.5.0 as 3.1.1, still writes ``_type`` v0.1; GitHub and we write v1. The fields used are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from registry_pipelines.errors import DigestInvalid, SignatureInvalid
from registry_pipelines.evidence.bounds import MAX_SUBJECTS
from registry_pipelines.evidence.dsse import decode_unverified
from registry_pipelines.oci.digest import HEX_LENGTHS, Digest
from registry_pipelines.progress import count_text

STATEMENT_V1 = "https://in-toto.io/Statement/v1"
STATEMENT_TYPES = frozenset({STATEMENT_V1, "https://in-toto.io/Statement/v0.1"})

_FIELDS = frozenset({"_type", "subject", "predicateType", "predicate"})


class _Subject(msgspec.Struct, omit_defaults=True):
    digest: dict[str, str]
    name: str = ""


class _Statement(msgspec.Struct, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str
    predicate: dict[str, Any]


@dataclass(frozen=True)
class Statement:
    """A claim (predicate) about content (subjects)."""

    predicate_type: str
    predicate: Mapping[str, Any]
    subjects: tuple[Digest, ...]
    """sha256 and sha512 digests of all subjects; other algorithms name nothing in a registry and are left out."""


def write_statement(
    predicate_type: str, predicate: Mapping[str, Any] | msgspec.Raw, *, subjects: Iterable[Digest], name: str
) -> bytes:
    """Serialise a v1 statement. name: the repository, for people; verification goes by digest alone."""
    listed = [{"name": name, "digest": {digest.algorithm: digest.hex}} for digest in subjects]
    return msgspec.json.encode(
        {"_type": STATEMENT_V1, "subject": listed, "predicateType": predicate_type, "predicate": predicate}
    )


def read_statement(raw: bytes, *, where: str = "") -> Statement:
    """Parse a statement. Raises SignatureInvalid, which names the field.

    Not checked here: who signed it, what it is about.
    """
    statement = decode_unverified(raw, _Statement, where=where, what="in-toto statement")
    if statement.type not in STATEMENT_TYPES:
        raise SignatureInvalid(f"`_type` {statement.type[:100]!r} is not an in-toto statement", where=where)
    if len(statement.subject) > MAX_SUBJECTS:
        raise SignatureInvalid(
            f"the statement has {count_text(len(statement.subject), 'subject')}, at most {MAX_SUBJECTS} are read",
            where=where,
        )
    subjects = tuple(digest for subject in statement.subject for digest in _digests(subject, where))
    return Statement(statement.predicate_type, statement.predicate, subjects)


def check_signable(raw: bytes, *, where: str = "") -> None:
    """Raise SignatureInvalid for a statement that two programs may read as two different ones: a key of some object is
    there twice, or the statement has other fields than its four.

    Asked before somebody else's bytes are signed as they are. We take the last of two equal keys, others the first or
    none; a program that does not look at capitals (Go's ``encoding/json``, below cosign 2) takes ``PredicateType`` for
    the type. So who may push would have the builder sign a verdict that only others see.
    """
    import json  # five modules, for who signs alone

    fields: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        fields[:] = [name for name, _ in pairs]  # of the outermost object in the end
        if len(set(fields)) != len(fields):
            twice = next(name for name in fields if fields.count(name) > 1)
            raise ValueError(f"{twice[:100]!r} is there twice in one object")

    try:
        json.loads(raw, object_pairs_hook=look)
    except (ValueError, RecursionError) as error:
        raise SignatureInvalid(f"the statement cannot be signed as it is: {error}"[:300], where=where) from error
    strange = sorted(set(fields) - _FIELDS)
    if strange:
        raise SignatureInvalid(f"the statement cannot be signed: it has a field {strange[0][:100]!r}", where=where)


def check_statement(statement: Statement, digest: Digest, *, predicate_type: str = "", where: str = "") -> None:
    """Raise SignatureInvalid unless the *signed* statement is about ``digest`` and of this type (empty: any type).

    Annotations and index entries say so too, but nobody signed those (GHSA-w6c6-c85g-mmv6).
    """
    if digest not in statement.subjects:
        named = ", ".join(subject.short for subject in statement.subjects[:3]) or "nothing in a registry"
        raise SignatureInvalid(f"the signed statement is about {named}, not about {digest}", where=where)
    if predicate_type and statement.predicate_type != predicate_type:
        raise SignatureInvalid(
            f"the signed statement is a {statement.predicate_type[:200]}, not a {predicate_type}", where=where
        )


def _digests(subject: _Subject, where: str) -> Iterable[Digest]:
    for algorithm, value in subject.digest.items():
        if algorithm in HEX_LENGTHS:
            try:
                yield Digest.parse(f"{algorithm}:{value}")
            except DigestInvalid as error:
                raise SignatureInvalid(f"a subject of the statement: {error.what}", where=where) from error
