"""Dead Simple Signing Envelope, version 1 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from registry_pipelines.errors import KeyRefused, SignatureInvalid
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES, MAX_ENVELOPE_SIGNATURES
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.media_types import IN_TOTO
from registry_pipelines.progress import count_text


class _Signature(msgspec.Struct, omit_defaults=True):
    sig: str
    keyid: str | None = ""


class EnvelopeJson(msgspec.Struct, rename="camel"):
    """The JSON form; ``payload`` and ``sig`` are base64."""

    payload: str
    payload_type: str
    signatures: list[_Signature]


class Envelope(msgspec.Struct, frozen=True):
    """Payload bytes exactly as signed, their type, and the signatures (DER)."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that are signed. Lengths are decimal counts of bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, signer: Signer, *, payload_type: str = IN_TOTO) -> Envelope:
    """Sign ``payload``, an in-toto statement, byte for byte as it is."""
    return Envelope(payload_type, payload, (signer.sign(pae(payload_type, payload)),))


def verify_envelope(
    envelope: Envelope, verifier: Verifier, *, where: str = "", payload_type: str = IN_TOTO
) -> tuple[str, ...]:
    """Return the ids of the believed keys that signed the envelope, in its order; a key id inside it is never trusted.
    payload_type: what the envelope must hold, an in-toto statement unless told.

    Not decided here: whether one of them is believed for what the payload says.

    Raises SignatureInvalid.
    """
    if envelope.payload_type != payload_type:
        found = envelope.payload_type[:100]
        raise SignatureInvalid(f"the payload type is {found!r}, expected {payload_type}", where=where)
    signed = pae(envelope.payload_type, envelope.payload)
    key_ids: list[str] = []
    refused: list[str] = []
    for signature in envelope.signatures:
        try:
            key_ids.append(verifier.verify(signed, signature))
        except KeyRefused as error:
            refused.append(error.what)
        except SignatureInvalid:
            continue
    if key_ids:
        return tuple(key_ids)
    if refused:
        raise KeyRefused("; ".join(dict.fromkeys(refused)), where=where, do="Have a key sign it that is believed today")
    raise SignatureInvalid(
        f"none of its {count_text(len(envelope.signatures), 'signature')} was made by a trusted key",
        where=where,
        do="Trust the signer's public key, or have a trusted signer attest again",
    )


def envelope_json(envelope: Envelope) -> EnvelopeJson:
    """The JSON form. No ``keyid``: cosign writes none, and nobody may trust it."""
    return EnvelopeJson(
        payload=base64.b64encode(envelope.payload).decode(),
        payload_type=envelope.payload_type,
        signatures=[_Signature(base64.b64encode(signature).decode()) for signature in envelope.signatures],
    )


def envelope_from_json(fields: EnvelopeJson, *, where: str = "") -> Envelope:
    """Decode the base64 fields. Raises SignatureInvalid."""
    if not 1 <= len(fields.signatures) <= MAX_ENVELOPE_SIGNATURES:
        raise SignatureInvalid(
            f"the envelope has {count_text(len(fields.signatures), 'signature')}, "
            f"expected 1 to {MAX_ENVELOPE_SIGNATURES}",
            where=where,
        )
    payload = decode_base64(fields.payload, where=where, what="payload")
    signatures = tuple(decode_base64(each.sig, where=where, what="signature") for each in fields.signatures)
    return Envelope(fields.payload_type, payload, signatures)


def write_envelope(envelope: Envelope) -> bytes:
    """Serialise to JSON, as the layer of a cosign ``.att`` tag carries it."""
    return msgspec.json.encode(envelope_json(envelope))


def read_envelope(raw: bytes, *, where: str = "", max_bytes: int = MAX_BUNDLE_BYTES) -> Envelope:
    """Parse JSON; nothing is verified here. Raises SignatureInvalid, for more than ``max_bytes`` too."""
    fields = decode_unverified(raw, EnvelopeJson, where=where, what="DSSE envelope", max_bytes=max_bytes)
    return envelope_from_json(fields, where=where)


def decode_unverified(raw: bytes, kind: type[Any], *, where: str, what: str, max_bytes: int = MAX_BUNDLE_BYTES) -> Any:
    """Decode bounded JSON of unknown origin. Raises SignatureInvalid, never anything else."""
    if len(raw) > max_bytes:
        raise SignatureInvalid(f"this {what} has {len(raw)} bytes, at most {max_bytes} are read", where=where)
    try:
        return msgspec.json.decode(raw, type=ready(kind))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SignatureInvalid(f"this {what} is not valid: {error}", where=where) from error


def decode_base64(text: str, *, where: str, what: str) -> bytes:
    """Standard or URL-safe base64, with padding; consumers must take both (envelope.md). Raises SignatureInvalid."""
    try:
        return base64.b64decode(text.translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureInvalid(f"the {what} is not base64: {error}", where=where) from error


_URL_SAFE = str.maketrans("-_", "+/")
