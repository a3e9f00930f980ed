"""What a transparency log says of a signature: that it holds it, and since when (sigstore/rekor, pkg/types)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import LogEntry
from registry_pipelines.evidence.dsse import decode_base64, decode_unverified
from registry_pipelines.evidence.keyless.merkle import check_inclusion
from registry_pipelines.evidence.keyless.signatures import is_signed
from registry_pipelines.evidence.keyless.trust_root import Log, TrustRoot
from registry_pipelines.evidence.x509 import Certificate, der_of
from registry_pipelines.pem import read_blocks

_HASHES = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "SHA2_256": hashlib.sha256,
    "SHA2_384": hashlib.sha384,
    "SHA2_512": hashlib.sha512,
}


@dataclass(frozen=True)
class Signed:
    """What an entry must be about. payload: of an envelope; None for a file."""

    content: bytes
    """The signed bytes: a file's, or an envelope's in their encoding for signing."""
    payload: bytes | None
    signature: bytes
    certificate: Certificate


@dataclass(frozen=True)
class Logged:
    """A log that holds the signature. at: when it took it, where it signed that; Rekor 2 leaves it to timestamps."""

    log: Log
    at: datetime | None


def check_entry(entry: LogEntry, version: tuple[int, int], signed: Signed, root: TrustRoot) -> Logged:
    """Raise SignatureInvalid unless a log of the trust root holds exactly this signature. version: of the bundle; the
    first one had the log's promise alone."""
    log = next((each for each in root.logs if each.log_id == entry.log_id), None)
    if log is None:
        raise SignatureInvalid("the bundle's log entry is of a log that the trust root does not name")
    if not entry.promise and version == (0, 1):
        raise SignatureInvalid("a bundle of version 0.1 has the log's inclusion promise, and this one has none")
    if entry.proof is None and version > (0, 1):
        raise SignatureInvalid("the bundle's log entry has no inclusion proof")
    _check_body(entry, signed)
    if entry.proof is not None:
        check_inclusion(entry.body, entry.proof, log)
    at = _promised_at(entry, log)
    if at is not None and not log.window.holds(at):
        raise SignatureInvalid("the log took the signature when the trust root did not believe that log")
    return Logged(log, at)


def _promised_at(entry: LogEntry, log: Log) -> datetime | None:
    """When the log says that it took the entry. Raises SignatureInvalid for a promise that it did not sign."""
    if not entry.promise:
        return None
    promised = {
        "body": base64.b64encode(entry.body).decode(),
        "integratedTime": entry.integrated_at,
        "logID": entry.log_id.hex(),
        "logIndex": entry.index,
    }
    if not is_signed(log.key, entry.promise, msgspec.json.encode(promised)):
        raise SignatureInvalid("the log did not sign the inclusion promise")
    try:
        return datetime.fromtimestamp(entry.integrated_at, UTC) if entry.integrated_at else None
    except (OverflowError, ValueError, OSError) as error:
        raise SignatureInvalid("the time in the log entry is none") from error


def _check_body(entry: LogEntry, signed: Signed) -> None:
    """Raise SignatureInvalid unless the entry names this content, this signature and this certificate."""
    body = decode_unverified(entry.body, dict[str, Any], where="", what="log entry")
    if (body.get("kind"), body.get("apiVersion")) != (entry.kind, entry.version):
        raise SignatureInvalid("the log entry is of another kind than the bundle says")
    match = _KINDS.get((entry.kind, entry.version))
    if match is None:
        raise SignatureInvalid(f"log entries of the kind {entry.kind[:40]} {entry.version[:20]} are not read")
    try:
        found = match(body["spec"], signed)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise SignatureInvalid(f"the log entry lacks a field of its kind: {error!r}"[:200]) from error
    if not found:
        raise SignatureInvalid("the log entry is of another signature than the bundle's")


def _hashedrekord_1(spec: dict[str, Any], signed: Signed) -> bool:
    signature = spec["signature"]
    return (
        signed.payload is None
        and _is_hash(spec["data"]["hash"], signed.content)
        and _bytes(signature["content"]) == signed.signature
        and _is_pem(_bytes(signature["publicKey"]["content"]), signed)
    )


def _hashedrekord_2(spec: dict[str, Any], signed: Signed) -> bool:
    record = spec["hashedRekordV002"]
    return (
        _is_digest(record["data"], signed.content)
        and _bytes(record["signature"]["content"]) == signed.signature
        and _is_verifier(record["signature"]["verifier"], signed)
    )


def _dsse_1(spec: dict[str, Any], signed: Signed) -> bool:
    [one] = spec["signatures"]
    return (
        signed.payload is not None
        and _is_hash(spec["payloadHash"], signed.payload)
        and _bytes(one["signature"]) == signed.signature
        and _is_pem(_bytes(one["verifier"]), signed)
    )


def _dsse_2(spec: dict[str, Any], signed: Signed) -> bool:
    record = spec["dsseV002"]
    [one] = record["signatures"]
    return (
        signed.payload is not None
        and _is_digest(record["payloadHash"], signed.payload)
        and _bytes(one["content"]) == signed.signature
        and _is_verifier(one["verifier"], signed)
    )


def _intoto_2(spec: dict[str, Any], signed: Signed) -> bool:
    content = spec["content"]
    [one] = content["envelope"]["signatures"]
    return (
        signed.payload is not None
        and _is_hash(content["payloadHash"], signed.payload)
        and _bytes(one["sig"]) == base64.b64encode(signed.signature)  # this kind encodes it twice
        and _is_pem(_bytes(one["publicKey"]), signed)
    )


_KINDS = {
    ("hashedrekord", "0.0.1"): _hashedrekord_1,
    ("hashedrekord", "0.0.2"): _hashedrekord_2,
    ("dsse", "0.0.1"): _dsse_1,
    ("dsse", "0.0.2"): _dsse_2,
    ("intoto", "0.0.2"): _intoto_2,
}


def _bytes(text: str) -> bytes:
    return decode_base64(text, where="", what="field of the log entry")


def _is_hash(said: dict[str, str], content: bytes) -> bool:
    return _HASHES[said["algorithm"]](content).hexdigest() == said["value"]


def _is_digest(said: dict[str, str], content: bytes) -> bool:
    return _HASHES[said["algorithm"]](content).digest() == _bytes(said["digest"])


def _is_pem(pem: bytes, signed: Signed) -> bool:
    [block] = read_blocks(pem)
    return block.label == "CERTIFICATE" and block.content == der_of(signed.certificate)


def _is_verifier(verifier: dict[str, Any], signed: Signed) -> bool:
    return _bytes(verifier["x509Certificate"]["rawBytes"]) == der_of(signed.certificate)
