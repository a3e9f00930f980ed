"""Notation's COSE envelope: a tagged COSE_Sign1 (RFC 9052) with the chain in ``x5chain`` (RFC 9360).

Source: notaryproject/specifications, signature-envelope-cose.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.cbor import CborInvalid, Tagged, read_cbor, write_cbor
from registry_pipelines.evidence.notation.envelope import (
    AGENT,
    AUTHENTIC_TIME,
    AUTHORITY_SCHEME,
    COSE_TYPE,
    EXPIRY,
    MAX_ENVELOPE_BYTES,
    PAYLOAD_TYPE,
    SCHEME,
    SIGNING_TIME,
    TIMESTAMP,
    Envelope,
    Signed,
    check_critical,
    critical_of,
    names_of,
    signed_attributes,
)
from registry_pipelines.progress import count_text

_SIGN1, _EPOCH = 18, 1
_ALG, _CRIT, _CONTENT_TYPE, _X5CHAIN = 1, 2, 3, 33
_ALGORITHMS = {-7: "ES256", -35: "ES384", -36: "ES512", -37: "PS256", -38: "PS384", -39: "PS512"}
_NUMBERS = {name: number for number, name in _ALGORITHMS.items()}
_NAMES = frozenset({SCHEME, AUTHENTIC_TIME, EXPIRY})


def read_cose(raw: bytes, *, where: str = "") -> Envelope:
    """Parse; nothing is verified. Raises SignatureInvalid."""
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise SignatureInvalid(f"it has {len(raw)} bytes, at most {MAX_ENVELOPE_BYTES} are read", where=where)
    try:
        return _read(read_cbor(raw))
    except ValueError as error:  # CborInvalid is one
        raise SignatureInvalid(f"this Notation signature is not valid: {error}", where=where) from error


def to_be_signed_cose(payload: bytes, algorithm: str, signed: Signed) -> bytes:
    """What a signature is made over (RFC 9052 section 4.4); the envelope carries its parts."""
    header: dict[int | str, Any] = {
        _ALG: _NUMBERS[algorithm],
        _CRIT: critical_of(signed),
        _CONTENT_TYPE: PAYLOAD_TYPE,
        SCHEME: signed.scheme,
    }
    if signed.time:
        header[AUTHENTIC_TIME if signed.scheme == AUTHORITY_SCHEME else SIGNING_TIME] = _epoch(signed.time)
    if signed.expiry:
        header[EXPIRY] = _epoch(signed.expiry)
    return _structure(write_cbor(header), payload)


def write_cose(
    to_be_signed: bytes, signature: bytes, chain: Sequence[bytes], *, agent: str, timestamp: bytes = b""
) -> bytes:
    """Serialise. chain: DER, leaf first; a list also of one, which RFC 9360 would write without."""
    _, protected, _, payload = read_cbor(to_be_signed)
    header: dict[int | str, Any] = {_X5CHAIN: list(chain), AGENT: agent}
    if timestamp:
        header[TIMESTAMP] = timestamp
    return write_cbor(Tagged(_SIGN1, [protected, header, payload, signature]))


def _read(value: Any) -> Envelope:
    if not isinstance(value, Tagged) or value.tag != _SIGN1 or not isinstance(value.value, list):
        raise CborInvalid("it is no COSE_Sign1 with its tag")
    if len(value.value) != 4:
        raise CborInvalid(f"it has {count_text(len(value.value), 'part')}, expected 4")
    protected, unprotected, payload, signature = value.value
    if not all(isinstance(part, bytes) for part in (protected, payload, signature)):
        raise CborInvalid("a part of it is not a string of bytes")
    header = read_cbor(protected)
    if not isinstance(header, dict) or not isinstance(unprotected, dict):
        raise CborInvalid("a header is no map")
    chain = unprotected.get(_X5CHAIN, [])
    certificates = chain if isinstance(chain, list) else [chain]
    timestamp = unprotected.get(TIMESTAMP, b"")
    if not all(isinstance(part, bytes) for part in (*certificates, timestamp)):
        raise CborInvalid("a certificate or the timestamp is not a string of bytes")
    return Envelope(
        media_type=COSE_TYPE,
        payload=payload,
        payload_type=str(header.get(_CONTENT_TYPE)),
        algorithm=_ALGORITHMS.get(header[_ALG], "") if isinstance(header.get(_ALG), int) else "",
        signed=_signed(header),
        to_be_signed=_structure(protected, payload),
        signature=signature,
        certificates=tuple(certificates),
        timestamp=timestamp,
        agent=str(unprotected.get(AGENT, "")),
    )


def _signed(header: dict[int | str, Any]) -> Signed:
    critical = header.get(_CRIT)
    unknown = tuple(str(name) for name in names_of(critical) if name not in _NAMES)
    times = [_time(header, name) for name in (SIGNING_TIME, AUTHENTIC_TIME, EXPIRY)]
    signed = signed_attributes(header.get(SCHEME), times, unknown)
    check_critical(critical, {str(name) for name in header}, signed)
    return signed


def _time(header: dict[int | str, Any], name: str) -> datetime | None:
    value = header.get(name)
    if value is None:
        return None
    if not isinstance(value, Tagged) or value.tag != _EPOCH or type(value.value) is not int:  # a bool is none
        raise CborInvalid(f"{name} is no time in whole seconds")
    try:
        return datetime.fromtimestamp(value.value, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise CborInvalid(f"{name} is no time") from error


def _epoch(at: datetime) -> Tagged:
    return Tagged(_EPOCH, int(at.timestamp()))


def _structure(protected: bytes, payload: bytes) -> bytes:
    return write_cbor(["Signature1", protected, b"", payload])
