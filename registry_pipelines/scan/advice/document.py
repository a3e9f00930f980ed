"""What signed evidence says about the bytes of a release (predicate ``urn:registry-pipelines:image-advice:v1``).

The same image gives the same document under the same rules, whenever it is made: nothing is written twice. Written by
the stage ``image_advice``, read by the gate (``promote``). It has paths and numbers, never a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry_pipelines.evidence.attestations import Attested, attest_once
from registry_pipelines.evidence.model import Attestations, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import IMAGE_ADVICE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advice.kinds import Severity

RULES = 1
"""One more whenever a kind finds something else than before: of several documents about one release the latest rules
count."""


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """A finding: bytes that need not be there, or something that does otherwise than one thinks."""

    kind: str
    severity: Severity = "warning"
    files: int = 0
    size: int = 0
    compressed: int = 0
    layers: tuple[int, ...] = ()
    layer_bytes: tuple[int, ...] = ()
    """Stored bytes in each of ``layers``; empty: not told apart."""
    why: str
    do: str
    examples: tuple[str, ...] = ()
    line: int = 0
    """Of the Dockerfile that was given; 0: of none that is known."""


class PlatformAdvice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One image of a release."""

    image: Digest
    """Its manifest."""
    platform: str
    compressed: int
    """Bytes of its layers as stored."""
    unpacked: int
    wasted: int
    """Stored bytes that need not be there, each once: an estimate (see ``FilePart.compressed``)."""
    wasted_unpacked: int
    advice: tuple[Advice, ...] = ()
    unread: tuple[str, ...] = ()
    """Why some of it was not looked at: nothing is known about that."""


class ImageAdvice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All images of a release."""

    subject: Digest
    """The release, as ``sign`` and ``judge`` name it."""
    rules: int
    looked_for: tuple[str, ...]
    """Kinds that were looked for: of any other nothing is known."""
    platforms: tuple[PlatformAdvice, ...]

    @classmethod
    def decode(cls, raw: bytes, *, where: str = "") -> ImageAdvice:
        """Read the JSON form. Raises ManifestInvalid."""
        return decode_json(raw, cls, where=where, what="image advice")


def attest_advice(
    place: Place,
    subject: Descriptor,
    document: ImageAdvice,
    signer: Signer,
    *,
    known: Attestations | None = None,
) -> Attested:
    """Sign it as a scanner, whatever it found. The rest as in
    :func:`registry_pipelines.evidence.attestations.attest_once`."""
    return attest_once(place, subject, IMAGE_ADVICE_TYPE, msgspec.Raw(encode_json(document)), signer, known=known)


def signed_advice(attestation: VerifiedAttestation) -> ImageAdvice:
    """The document in an attestation of its type. Raises ManifestInvalid."""
    return ImageAdvice.decode(msgspec.json.encode(attestation.predicate), where=str(attestation.descriptor.digest))


def counting(documents: Sequence[ImageAdvice]) -> list[ImageAdvice]:
    """Those that count of several about one release: all of the latest rules."""
    latest = max((each.rules for each in documents), default=0)
    return [each for each in documents if each.rules == latest]
