"""Notation's JWS envelope: RFC 7515's JSON form with a list of critical attributes that are signed.

Source: notaryproject/specifications, signature-envelope-jws.md.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.dsse import decode_base64, decode_unverified
from registry_pipelines.evidence.notation.aws_signer import understood
from registry_pipelines.evidence.notation.envelope import (
    AGENT,
    AUTHENTIC_TIME,
    AUTHORITY_SCHEME,
    EXPIRY,
    JWS_TYPE,
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
from registry_pipelines.oci.decoding import ready

_URL_SAFE = re.compile(r"[A-Za-z0-9_-]*")
_KNOWN = frozenset({"alg", "cty", "crit", SCHEME, SIGNING_TIME, AUTHENTIC_TIME, EXPIRY})
_NAMES = frozenset({SCHEME, AUTHENTIC_TIME, EXPIRY})
"""What a list of critical attributes may name and is understood; ``alg`` and its like do not belong there."""


class _Header(msgspec.Struct):
    chain: list[str] = msgspec.field(name="x5c", default_factory=list)
    timestamp: str = msgspec.field(name=TIMESTAMP, default="")
    agent: str = msgspec.field(name=AGENT, default="")


class _Jws(msgspec.Struct):
    payload: str
    protected: str
    signature: str
    header: _Header


def read_jws(raw: bytes, *, where: str = "") -> Envelope:
    """Parse; nothing is verified. Raises SignatureInvalid."""
    jws: _Jws = decode_unverified(raw, _Jws, where=where, what="Notation signature")
    header: dict[str, Any] = decode_unverified(
        _from_url(jws.protected, "protected header", where), dict[str, Any], where=where, what="protected header"
    )
    try:
        signed = _signed(header)
    except ValueError as error:
        raise SignatureInvalid(str(error), where=where) from error
    certificates = [decode_base64(one, where=where, what="certificate") for one in jws.header.chain]
    return Envelope(
        media_type=JWS_TYPE,
        payload=_from_url(jws.payload, "payload", where),
        payload_type=str(header.get("cty")),
        algorithm=str(header.get("alg")),
        signed=signed,
        to_be_signed=f"{jws.protected}.{jws.payload}".encode(),
        signature=_from_url(jws.signature, "signature", where),
        certificates=tuple(certificates),
        timestamp=decode_base64(jws.header.timestamp, where=where, what="timestamp"),
        agent=jws.header.agent,
    )


def to_be_signed_jws(payload: bytes, algorithm: str, signed: Signed) -> bytes:
    """What a signature is made over: both halves that the envelope then carries."""
    header: dict[str, Any] = {"alg": algorithm, "crit": critical_of(signed), "cty": PAYLOAD_TYPE, SCHEME: signed.scheme}
    if signed.time:
        header[AUTHENTIC_TIME if signed.scheme == AUTHORITY_SCHEME else SIGNING_TIME] = _text(signed.time)
    if signed.expiry:
        header[EXPIRY] = _text(signed.expiry)
    return b".".join(_to_url(part) for part in (msgspec.json.encode(header, order="deterministic"), payload))


def write_jws(
    to_be_signed: bytes, signature: bytes, chain: Sequence[bytes], *, agent: str, timestamp: bytes = b""
) -> bytes:
    """Serialise. chain: DER, leaf first."""
    protected, payload = to_be_signed.decode().split(".")
    header: dict[str, Any] = {"x5c": [base64.b64encode(one).decode() for one in chain], AGENT: agent}
    if timestamp:
        header[TIMESTAMP] = base64.b64encode(timestamp).decode()
    signed = {"payload": payload, "protected": protected, "header": header, "signature": _to_url(signature).decode()}
    return msgspec.json.encode(signed)


def _signed(header: dict[str, Any]) -> Signed:
    critical = header.get("crit")
    listed = names_of(critical)
    # Only a signing authority signs for AWS Signer: below `notary.x509` anybody's certificate could claim a profile.
    plugin = understood(header, listed) if header.get(SCHEME) == AUTHORITY_SCHEME else {}
    unknown = tuple(str(name) for name in listed if name not in _NAMES and name not in plugin)
    times = [_time(header, name) for name in (SIGNING_TIME, AUTHENTIC_TIME, EXPIRY)]
    signed = signed_attributes(header.get(SCHEME), times, unknown, plugin)
    check_critical(critical, set(header), signed)
    return signed


def _time(header: dict[str, Any], name: str) -> datetime | None:
    text = header.get(name)
    if text is None:
        return None
    try:
        at: datetime = msgspec.convert(text, ready(datetime))
    except msgspec.ValidationError as error:
        raise ValueError(f"{name} is no RFC 3339 time") from error
    if at.tzinfo is None or not 2000 <= at.year < 9999:  # near the ends no zone's time can be told in UTC
        raise ValueError(f"{name} is no RFC 3339 time of this age")
    return at.astimezone(UTC)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _from_url(text: str, what: str, where: str) -> bytes:
    try:
        if not _URL_SAFE.fullmatch(text):
            raise ValueError("it has other characters, or padding")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as error:
        raise SignatureInvalid(f"the {what} is not base64url: {error}", where=where) from error


def _to_url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
