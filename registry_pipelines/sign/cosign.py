"""Image signatures in both forms that are in use.

``.sig`` tag with a simple-signing payload (sigstore/cosign, specs/SIGNATURE_SPEC.md): read by cosign 2.5.0, skopeo and
CRI-O. Bundle v0.3 referrer with predicate type ``https://sigstore.dev/cosign/sign/v1``: cosign 3. Both are written,
either is enough.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from registry_pipelines.errors import EvidenceMissing, SignatureInvalid
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.bounds import MAX_PAYLOAD_BYTES, MAX_SIGNATURES
from registry_pipelines.evidence.dsse import decode_base64, decode_unverified
from registry_pipelines.evidence.model import (
    Attestations,
    Rejected,
    Signer,
    VerifiedAttestation,
    Verifier,
)
from registry_pipelines.evidence.predicates import SIGNATURE_TYPE
from registry_pipelines.evidence.referrers import read_layer
from registry_pipelines.evidence.tagged import SIGNATURE_ANNOTATION, append_layer, cosign_tag, read_layers
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import SIMPLE_SIGNING
from registry_pipelines.progress import condensed
from registry_pipelines.registry.protocol import Place

CRITICAL_TYPE = "cosign container image signature"
"""``critical.type``; compared exactly, because Binary Authorization signs the same shape with another type."""


class _Identity(msgspec.Struct):
    reference: str = msgspec.field(name="docker-reference", default="")


class _Image(msgspec.Struct):
    digest: str = msgspec.field(name="docker-manifest-digest")


class _Critical(msgspec.Struct):
    identity: _Identity
    image: _Image
    type: str


class _Payload(msgspec.Struct):
    critical: _Critical


@dataclass(frozen=True)
class ImageSignature:
    """A signature over an image's digest, believed because of ``key_id``."""

    form: str
    """``sig`` (cosign's tag) or ``bundle`` (Sigstore bundle v0.3 referrer)."""
    key_id: str
    identity: str
    """The repository the signer named; empty when it named none. A copy keeps the name of its source."""
    descriptor: Descriptor
    """The manifest that carries the signature."""


@dataclass(frozen=True)
class ImageVerification:
    """The signatures of an image that are believed, at least one, and those that are not."""

    digest: Digest
    signatures: tuple[ImageSignature, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class SignedImage:
    """Both forms of the signature, there now."""

    digest: Digest
    sig: Descriptor
    """The manifest under the ``.sig`` tag."""
    bundle: Descriptor
    """The bundle referrer."""
    changed: bool


def sign_image(
    place: Place,
    descriptor: Descriptor,
    signer: Signer,
    *,
    identity: str,
    consumers: Sequence[str] = (),
    known: Attestations | None = None,
) -> SignedImage:
    """Sign a manifest by digest, in both forms, unless this key did so before. Signatures of others stay.

    identity: what it is signed as, stated in the ``.sig`` form: a repository (``registry.example/app``), with a tag for
    programs that compare exactly (``identities``). consumers: the same of other repositories, with a ``.sig`` of its
    own each: skopeo, podman and CRI-O compare it with the repository that they pull from. known: as in
    :func:`registry_pipelines.evidence.attestations.attest_once`. Raises RegistryError, ManifestInvalid (the tag holds
    something that is not cosign's).
    """
    from registry_pipelines.evidence.keys import verifier_of

    digest = descriptor.digest
    bundle = attest_once(place, descriptor, SIGNATURE_TYPE, {}, signer, known=known)
    found = [each for each in _tag_signatures(place, digest, verifier_of(signer)) if isinstance(each, ImageSignature)]
    there = {each.identity for each in found}
    missing = [each for each in dict.fromkeys([identity, *consumers]) if each not in there]
    sigs = [each.descriptor for each in found]
    sigs += [_append_signature(place, digest, signer, each) for each in missing]
    return SignedImage(digest, sigs[-1], bundle.descriptor, bundle.changed or bool(missing))


def verify_image(
    place: Place, digest: Digest, verifier: Verifier, *, known: Attestations | None = None
) -> ImageVerification:
    """Find a signature over exactly ``digest`` by a trusted key, in either form.

    known: what :func:`read_attestations` found for this digest and verifier, when the caller has it. The identity in
    the signature is returned, not judged: copies in other registries keep the name of their source.
    Raises EvidenceMissing (there is no signature), SignatureInvalid (there are, none is believed; every reason is
    given), RegistryError.
    """
    signatures: list[ImageSignature] = []
    rejected: list[Rejected] = []
    for signature in (*_tag_signatures(place, digest, verifier), *_bundle_signatures(place, digest, verifier, known)):
        if isinstance(signature, ImageSignature):
            signatures.append(signature)
        else:
            rejected.append(signature)
    if signatures:
        return ImageVerification(digest, tuple(signatures), tuple(rejected))
    where = f"{place}@{digest}"
    if not rejected:
        raise EvidenceMissing("the image is not signed", where=where, do="Sign it with a trusted key")
    reasons = "; ".join(condensed(str(refusal) for refusal in rejected)[:10])
    raise SignatureInvalid(
        f"no signature is believed: {reasons}", where=where, do="Trust the signer's key, or sign with a trusted one"
    )


def _append_signature(place: Place, digest: Digest, signer: Signer, identity: str) -> Descriptor:
    payload = write_payload(digest, identity)
    return append_layer(
        place,
        cosign_tag(digest, "sig"),
        payload,
        media_type=SIMPLE_SIGNING,
        annotations={SIGNATURE_ANNOTATION: base64.b64encode(signer.sign(payload)).decode()},
    ).descriptor


def write_payload(digest: Digest, identity: str) -> bytes:
    """The simple-signing payload (containers/image, docs/containers-signature.5.md)."""
    critical = {
        "identity": {"docker-reference": identity},
        "image": {"docker-manifest-digest": str(digest)},
        "type": CRITICAL_TYPE,
    }
    return msgspec.json.encode({"critical": critical, "optional": None})


def check_payload(raw: bytes, digest: Digest, *, where: str = "") -> str:
    """Return the identity of a payload that is a cosign signature over ``digest``. Raises SignatureInvalid."""
    payload = decode_unverified(raw, _Payload, where=where, what="simple-signing payload")
    if payload.critical.type != CRITICAL_TYPE:
        raise SignatureInvalid(f"`critical.type` is {payload.critical.type[:100]!r}, not cosign's", where=where)
    if payload.critical.image.digest != digest:
        raise SignatureInvalid(
            f"the signature is over {payload.critical.image.digest[:140]}, not {digest}", where=where
        )
    return str(payload.critical.identity.reference)


def _tag_signatures(place: Place, digest: Digest, verifier: Verifier) -> Iterator[ImageSignature | Rejected]:
    read = partial(_tag_signature, place, digest, verifier)
    return read_layers(place, cosign_tag(digest, "sig"), read, limit=MAX_SIGNATURES)


def _tag_signature(
    place: Place, digest: Digest, verifier: Verifier, carrier: Descriptor, layer: Descriptor
) -> ImageSignature:
    if layer.media_type != SIMPLE_SIGNING:
        raise SignatureInvalid(f"the layer is {layer.media_type[:100]}, expected {SIMPLE_SIGNING}")
    text = (layer.annotations or {}).get(SIGNATURE_ANNOTATION, "")
    signature = decode_base64(text, where="", what="signature annotation")
    raw = read_layer(place, layer, limit=MAX_PAYLOAD_BYTES)
    if isinstance(raw, Rejected):
        raise SignatureInvalid(raw.reason)
    key_id = verifier.vouching([verifier.verify(raw, signature)], SIGNATURE_TYPE)
    return ImageSignature("sig", key_id, check_payload(raw, digest), carrier)


def _bundle_signatures(
    place: Place, digest: Digest, verifier: Verifier, known: Attestations | None
) -> Iterator[ImageSignature | Rejected]:
    attestations = known or read_attestations(place, digest, verifier, predicate_type=SIGNATURE_TYPE)
    for attestation in attestations.of_type(SIGNATURE_TYPE):
        yield _as_signature(attestation)
    yield from attestations.rejected


def _as_signature(attestation: VerifiedAttestation) -> ImageSignature:
    return ImageSignature("bundle", attestation.key_id, "", attestation.descriptor)
