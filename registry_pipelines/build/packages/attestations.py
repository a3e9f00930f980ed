"""Who published a file: attestations of an index (PEP 740, "Index hosted attestations"), verified offline.

An index stores what a publisher (a workflow, an account) signed when it uploaded: a statement that names the file and
its sha256, a certificate of ten minutes, an entry of a log. That is a Sigstore bundle in other words, so it is verified
as one (``evidence.keyless``). The index says who the publisher is; believed is what the certificate says, and both must
agree.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import read_bundle
from registry_pipelines.evidence.keyless.identity import read_claim
from registry_pipelines.evidence.keyless.trust_root import TrustRoot
from registry_pipelines.evidence.keyless.verify import KeylessSignature, verify_keyless
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE

MAX_PROVENANCE_BYTES = 8 * 1024**2
"""Of one file; an attestation has 5 to 10 KB, and a file one or two."""

MAX_ATTESTATIONS = 32
"""That are verified of one file."""

STATEMENT = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATES = ("/attestations/publish/v1", "slsa.dev/provenance/v1")
"""Ends of the predicate types that the specification knows."""

_GITHUB = "https://token.actions.githubusercontent.com"
_GITLAB = "https://gitlab.com"
_GOOGLE = "https://accounts.google.com"


class _Material(msgspec.Struct):
    certificate: str
    transparency_entries: list[Any]


class _Envelope(msgspec.Struct):
    statement: str
    signature: str


class _Attestation(msgspec.Struct):
    version: int
    verification_material: _Material
    envelope: _Envelope


class _Publisher(msgspec.Struct):
    kind: str
    repository: str = ""
    workflow: str = ""
    workflow_filepath: str = ""
    email: str = ""


class _Bundle(msgspec.Struct):
    publisher: _Publisher
    attestations: list[_Attestation]


class _Provenance(msgspec.Struct):
    version: int
    attestation_bundles: list[_Bundle]


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, rename="camel"):
    type_: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str


def publishers_of(raw: bytes, *, filename: str, sha256: str, roots: Sequence[TrustRoot]) -> list[str]:
    """Who published a file, each as a configuration writes it (``github:owner/repository/workflow.yml``), by the
    provenance that its index gave. Nobody where the index names nobody, or a kind of publisher that is not known here.

    Every attestation must hold: one that does not is no pass. Raises SignatureInvalid.
    """
    try:
        found = msgspec.json.decode(raw, type=ready(_Provenance))
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise SignatureInvalid(f"its provenance cannot be read: {str(error)[:200]}", where=filename) from error
    if found.version != 1:
        raise SignatureInvalid(f"its provenance is of version {found.version}, and 1 is read here", where=filename)
    if sum(len(bundle.attestations) for bundle in found.attestation_bundles) > MAX_ATTESTATIONS:
        raise SignatureInvalid(f"it has more than {MAX_ATTESTATIONS} attestations", where=filename)
    names = []
    for bundle in found.attestation_bundles:
        for attestation in bundle.attestations:
            try:
                names.append(_verified(attestation, bundle.publisher, filename, sha256, roots))
            except SignatureInvalid as error:
                said = f"an attestation of it does not hold: {error.what}"
                raise SignatureInvalid(said, where=filename, do=_DO) from error
    return [name for name in dict.fromkeys(names) if name]


_DO = "Do not use it before its project, or whoever runs the index, says why; `signing.trust_root` may be old, too"


def _verified(
    attestation: _Attestation, publisher: _Publisher, filename: str, sha256: str, roots: Sequence[TrustRoot]
) -> str:
    if attestation.version != 1:
        raise SignatureInvalid(f"it is of version {attestation.version}, and 1 is read here")
    bundle = read_bundle(_as_bundle(attestation), where=filename)
    refused: SignatureInvalid | None = None
    for root in roots:
        try:
            signed = verify_keyless(bundle, root)
            break
        except SignatureInvalid as error:
            refused = refused or error
    else:
        raise refused or SignatureInvalid("no trust root is given")
    _check_statement(bundle.envelope.payload, bundle.envelope.payload_type, filename, sha256)
    return _named(publisher, signed)


def _as_bundle(attestation: _Attestation) -> bytes:
    material, envelope = attestation.verification_material, attestation.envelope
    return msgspec.json.encode(
        {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {
                "certificate": {"rawBytes": material.certificate},
                "tlogEntries": material.transparency_entries,
            },
            "dsseEnvelope": {
                "payload": envelope.statement,
                "payloadType": STATEMENT,
                "signatures": [{"sig": envelope.signature}],
            },
        }
    )


def _check_statement(payload: bytes, kind: str, filename: str, sha256: str) -> None:
    """Raise SignatureInvalid unless a statement is about this very file."""
    try:
        statement = msgspec.json.decode(payload, type=ready(_Statement))
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise SignatureInvalid(f"its statement cannot be read: {str(error)[:200]}") from error
    if kind != STATEMENT or statement.type_ != _STATEMENT_TYPE:
        raise SignatureInvalid("it signs something else than a statement")
    if not statement.predicate_type.endswith(_PREDICATES):
        raise SignatureInvalid(f"its predicate type is not known here: {statement.predicate_type[:100]!r}")
    if len(statement.subject) != 1:
        raise SignatureInvalid("its statement is not about one file")
    [subject] = statement.subject
    if not _same_file(subject.name, filename):
        raise SignatureInvalid(f"it is about {subject.name[:100]!r}")
    if subject.digest.get("sha256") != sha256:
        raise SignatureInvalid("it is about another content of the file")


def _same_file(one: str, other: str) -> bool:
    """Whether two names mean one wheel: the statement has the name in its normalised form."""
    try:
        return one == other or parse_wheel_filename(one) == parse_wheel_filename(other)
    except (InvalidWheelFilename, ValueError):
        return False


def _named(publisher: _Publisher, signed: KeylessSignature) -> str:
    """The publisher as a configuration names it; empty for one of a kind whose certificates are not known here. Raises
    SignatureInvalid where the certificate is another's."""
    if publisher.kind == "GitHub":
        home, issuer = f"https://github.com/{publisher.repository}", _GITHUB
        workflow = f"{home}/.github/workflows/{publisher.workflow}"
        named = f"github:{publisher.repository}/{publisher.workflow}"
        good = bool(publisher.repository and publisher.workflow) and _is_workflow(signed, home, workflow)
    elif publisher.kind == "GitLab":
        path = publisher.workflow_filepath or publisher.workflow
        home, issuer = f"https://gitlab.com/{publisher.repository}", _GITLAB
        named = f"gitlab:{publisher.repository}"
        good = bool(publisher.repository and path) and _is_workflow(signed, home, f"{home}//{path}")
    elif publisher.kind == "Google":
        named, issuer = f"google:{publisher.email}", _GOOGLE
        good = signed.identity.subject == publisher.email != ""
    else:
        return ""
    if signed.identity.issuer != issuer or not good:
        said = f"the index says that {named[:200]} published it, and the certificate is of "
        raise SignatureInvalid(f"{said}{signed.identity.subject[:300]}")
    return named


def _is_workflow(signed: KeylessSignature, home: str, workflow: str) -> bool:
    """Whether a certificate is that of a repository's own workflow. Not by its subject: that is a workflow, too, which
    another repository calls ("reusable"), and the caller is who published."""
    claims = {number: read_claim(signed.certificate, number) for number in (12, 13, 14, 18)}
    ran = {f"{workflow}@{claims[number]}" for number in (13, 14) if claims[number]}
    return claims[12] == home and claims[18] in ran


def check_attestation(raw: bytes, *, filename: str, sha256: str, where: str) -> None:
    """Raise SignatureInvalid for an attestation that is not one, or is about another file. Who signed it is for who
    reads it: an index looks at that, and so does every build."""
    try:
        found = msgspec.json.decode(raw, type=ready(_Attestation))
        payload = base64.b64decode(found.envelope.statement, validate=True)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise SignatureInvalid(f"it is no attestation: {str(error)[:200]}", where=where) from error
    try:
        _check_statement(payload, STATEMENT, filename, sha256)
    except SignatureInvalid as error:
        do = "Attest the wheel that is published, or take the attestation away"
        raise SignatureInvalid(error.what, where=where, do=do) from error


def is_published_by(names: Sequence[str], wanted: str) -> bool:
    """Whether one of the publishers is the wanted one; a repository alone stands for all of its workflows."""
    return any(name == wanted or (wanted.count("/") == 1 and name.startswith(f"{wanted}/")) for name in names)


__all__ = ["MAX_PROVENANCE_BYTES", "check_attestation", "is_published_by", "publishers_of"]
