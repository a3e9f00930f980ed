"""Sigstore bundles, v0.3 (github.com/sigstore/protobuf-specs, sigstore_bundle.proto): an envelope and a key hint.

Only the key form is made and believed: no certificate, no transparency log. Other verification material is ignored, so
a keyless bundle is simply one that no trusted key signed.
"""

from __future__ import annotations

import base64

import msgspec

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.dsse import (
    Envelope,
    EnvelopeJson,
    decode_unverified,
    envelope_from_json,
    envelope_json,
)
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    dsse_envelope: EnvelopeJson | None = None


def write_bundle(envelope: Envelope, *, key_id: str) -> bytes:
    """Serialise. key_id: ``sha256:<hex>`` of the SPKI; the bundle carries it in base64, as cosign 3 does."""
    hint = base64.b64encode(bytes.fromhex(key_id.partition(":")[2])).decode()
    return msgspec.json.encode(
        {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": hint}},
            "dsseEnvelope": envelope_json(envelope),
        }
    )


def read_bundle(raw: bytes, *, where: str = "") -> Envelope:
    """The envelope of a bundle; nothing is verified, the hint is not read. Raises SignatureInvalid."""
    bundle = decode_unverified(raw, _Bundle, where=where, what="Sigstore bundle")
    if bundle.media_type != SIGSTORE_BUNDLE:
        raise SignatureInvalid(f"`mediaType` of the bundle is {bundle.media_type[:100]!r}", where=where)
    if bundle.dsse_envelope is None:
        raise SignatureInvalid("the bundle has no `dsseEnvelope`", where=where)
    return envelope_from_json(bundle.dsse_envelope, where=where)
