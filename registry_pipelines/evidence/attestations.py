"""Attestations: signed in-toto statements about a digest, as Sigstore bundle v0.3 referrers (cosign 3's default).

Written also under cosign's ``.att`` tag when asked, for readers like cosign 2.5.0; both places are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from registry_pipelines.errors import ClosureIncomplete, InputError, SignatureInvalid
from registry_pipelines.evidence.artifacts import attach, bundle_annotations
from registry_pipelines.evidence.bounds import MAX_ATTESTATION_BYTES, MAX_BUNDLE_BYTES, MAX_SIGNATURES
from registry_pipelines.evidence.bundles import read_bundle, write_bundle
from registry_pipelines.evidence.dsse import Envelope, read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation, Verifier
from registry_pipelines.evidence.referrers import Referrer, open_referrers, read_layer
from registry_pipelines.evidence.statements import (
    check_signable,
    check_statement,
    read_statement,
    write_statement,
)
from registry_pipelines.evidence.tagged import SIGNATURE_ANNOTATION, append_layer, cosign_tag, read_layers
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import DSSE_ENVELOPE, SIGSTORE_BUNDLE
from registry_pipelines.registry.protocol import Place


@dataclass(frozen=True)
class Attested:
    """An attestation that is there now."""

    predicate_type: str
    descriptor: Descriptor
    changed: bool
    """False: an equal one by the same key was there; nothing was written."""


def attest(
    place: Place, subject: Descriptor, predicate_type: str, predicate: Mapping[str, Any], signer: Signer
) -> Descriptor:
    """Sign a claim about ``subject`` and attach it. Returns the bundle's manifest; see :func:`attest_once`."""
    return attest_once(place, subject, predicate_type, predicate, signer).descriptor


def attest_once(
    place: Place,
    subject: Descriptor,
    predicate_type: str,
    predicate: Mapping[str, Any] | msgspec.Raw,
    signer: Signer,
    *,
    known: Attestations | None = None,
    att_tag: bool = False,
) -> Attested:
    """Sign a claim unless this key made the same one before.

    predicate: JSON data, or a JSON object that goes in byte for byte. known: what :func:`read_attestations` found with
    a verifier that believes the signer, when the caller has it already. att_tag: write cosign's ``.att`` tag too.
    Raises InputError when the statement is larger than readers take, SignatureInvalid for a predicate of bytes that
    may be read in two ways (a key twice), RegistryError.
    """
    statement = write_statement(predicate_type, predicate, subjects=[subject.digest], name=str(place))
    return attest_statement(place, subject, statement, signer, known=known, att_tag=att_tag)


def attest_statement(
    place: Place,
    subject: Descriptor,
    statement: bytes,
    signer: Signer,
    *,
    known: Attestations | None = None,
    att_tag: bool = False,
) -> Attested:
    """Sign a statement that exists already (the build's provenance), byte for byte as it is.

    Raises SignatureInvalid when it is no in-toto statement about ``subject``, or one that may be read in two ways,
    otherwise as :func:`attest_once`.
    """
    from registry_pipelines.evidence.keys import verifier_of

    if len(statement) > MAX_BUNDLE_BYTES // 2:
        raise InputError(f"the statement has {len(statement)} bytes, at most {MAX_BUNDLE_BYTES // 2} can be attested")
    claim = read_statement(statement, where=str(place))
    check_statement(claim, subject.digest, where=str(place))
    check_signable(statement, where=str(place))
    if known is None:
        known = read_attestations(place, subject.digest, verifier_of(signer), predicate_type=claim.predicate_type)
    same = [
        attestation.descriptor
        for attestation in known.of_type(claim.predicate_type)
        if (attestation.key_id, attestation.subjects, attestation.predicate)
        == (signer.key_id, claim.subjects, claim.predicate)
    ]
    bundles = [carrier for carrier in same if carrier.artifact_type == SIGSTORE_BUNDLE]
    wants_tag = att_tag and len(same) == len(bundles)
    if bundles and not wants_tag:
        return Attested(claim.predicate_type, bundles[0], changed=False)
    envelope = sign_envelope(statement, signer)
    bundle = bundles[0] if bundles else _attach_bundle(place, subject, envelope, signer, claim.predicate_type)
    if wants_tag:
        _append_att(place, subject.digest, envelope, claim.predicate_type)
    return Attested(claim.predicate_type, bundle, changed=True)


def read_attestations(
    place: Place,
    digest: Digest,
    verifier: Verifier,
    *,
    predicate_type: str = "",
    referrers: Iterable[Referrer | Rejected] | None = None,
) -> Attestations:
    """Every attestation about ``digest`` that a trusted key signed, and why others were not believed.

    predicate_type: only this type, judged by the signed statement; empty: all types. referrers: those of ``digest`` as
    :func:`open_referrers` gives them, for who looks at others among them too. Bundles and the ``.att`` tag are read.
    Raises RegistryError when the registry does not answer, ClosureIncomplete when there are more of them, or larger
    ones, than are read.
    """
    verified: list[VerifiedAttestation] = []
    rejected: list[Rejected] = []
    if referrers is None:
        referrers = open_referrers(place, digest)
    for attestation in _read_all(place, digest, verifier, referrers):
        if isinstance(attestation, Rejected):
            rejected.append(attestation)
        elif predicate_type in ("", attestation.predicate_type):
            verified.append(attestation)
    return Attestations(tuple(verified), tuple(rejected))


class _Allowance:
    """How much is read about one digest."""

    def __init__(self, where: str) -> None:
        self._where, self._left = where, MAX_ATTESTATION_BYTES

    def take(self, layer: Descriptor) -> None:
        """Raise ClosureIncomplete when it is used up: the statement that denies could be among those left."""
        self._left -= layer.size if 0 <= layer.size <= MAX_BUNDLE_BYTES else 0  # larger ones are not read
        if self._left < 0:
            raise ClosureIncomplete(
                f"its attestations have more than {MAX_ATTESTATION_BYTES} bytes together, and no more are read",
                where=self._where,
                do="Delete referrers that are no evidence",
            )


def _read_all(
    place: Place, digest: Digest, verifier: Verifier, referrers: Iterable[Referrer | Rejected]
) -> Iterator[VerifiedAttestation | Rejected]:
    allowance = _Allowance(f"{place}@{digest}")
    for referrer in referrers:
        if isinstance(referrer, Rejected):
            yield referrer
        elif referrer.carries(SIGSTORE_BUNDLE):
            yield _read_bundle_referrer(place, digest, referrer, verifier, allowance)
    read = partial(_read_att_layer, place, digest, verifier, allowance)
    yield from read_layers(place, cosign_tag(digest, "att"), read, limit=MAX_SIGNATURES)


def _read_bundle_referrer(
    place: Place, digest: Digest, referrer: Referrer, verifier: Verifier, allowance: _Allowance
) -> VerifiedAttestation | Rejected:
    where = str(referrer.descriptor.digest)
    layers = referrer.manifest.layers
    if len(layers) != 1 or layers[0].media_type != SIGSTORE_BUNDLE:
        return Rejected(where, "a bundle artifact has exactly one layer of the bundle's media type")
    allowance.take(layers[0])
    raw = read_layer(place, layers[0], limit=MAX_BUNDLE_BYTES)
    if isinstance(raw, Rejected):
        return Rejected(where, raw.reason)
    try:
        bundle = read_bundle(raw, where=where)
        signed_by = verifier.verify_bundle(bundle)
        return _believe(bundle.envelope, signed_by, digest, verifier, _bundle(referrer.descriptor))
    except SignatureInvalid as error:
        return Rejected(where, error.what)


def _read_att_layer(
    place: Place, digest: Digest, verifier: Verifier, allowance: _Allowance, carrier: Descriptor, layer: Descriptor
) -> VerifiedAttestation:
    if layer.media_type != DSSE_ENVELOPE:
        raise SignatureInvalid(f"the layer is {layer.media_type[:100]}, expected {DSSE_ENVELOPE}")
    allowance.take(layer)
    raw = read_layer(place, layer, limit=MAX_BUNDLE_BYTES)
    if isinstance(raw, Rejected):
        raise SignatureInvalid(raw.reason)
    envelope = read_envelope(raw)
    return _believe(envelope, verify_envelope(envelope, verifier), digest, verifier, carrier)


def _bundle(descriptor: Descriptor) -> Descriptor:
    """The descriptor with its artifact type, whatever the registry's list said."""
    return msgspec.structs.replace(descriptor, artifact_type=SIGSTORE_BUNDLE)


def _believe(
    envelope: Envelope, signed_by: Sequence[str], digest: Digest, verifier: Verifier, carrier: Descriptor
) -> VerifiedAttestation:
    statement = read_statement(envelope.payload)
    check_statement(statement, digest)
    key_id = verifier.vouching(signed_by, statement.predicate_type)
    return VerifiedAttestation(statement.predicate_type, statement.predicate, statement.subjects, key_id, carrier)


def _attach_bundle(
    place: Place, subject: Descriptor, envelope: Envelope, signer: Signer, predicate_type: str
) -> Descriptor:
    descriptor = attach(
        place,
        subject=subject,
        artifact_type=SIGSTORE_BUNDLE,
        content=write_bundle(envelope, key_id=signer.key_id),
        media_type=SIGSTORE_BUNDLE,
        annotations=_annotations(predicate_type),
    )
    return _bundle(descriptor)


def _append_att(place: Place, digest: Digest, envelope: Envelope, predicate_type: str) -> None:
    append_layer(
        place,
        cosign_tag(digest, "att"),
        write_envelope(envelope),
        media_type=DSSE_ENVELOPE,
        annotations={SIGNATURE_ANNOTATION: "", "predicateType": predicate_type},
    )


def _annotations(predicate_type: str) -> dict[str, str]:
    return {
        **bundle_annotations(predicate_type),
        "org.opencontainers.image.created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
