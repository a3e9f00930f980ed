"""Notation envelopes with any fault wanted, signed all the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from registry_pipelines.evidence.cbor import Tagged, write_cbor
from registry_pipelines.oci.manifests import Descriptor
from tests.doubles.authorities import Issued

PREFIX = "io.cncf.notary."
JSON_PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"


def halves(der: bytes) -> bytes:
    return b"".join(part.to_bytes(32) for part in decode_dss_signature(der))


def payload_of(subject: Descriptor, **changed: Any) -> bytes:
    target = {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size, **changed}
    return json.dumps({"targetArtifact": target}).encode()


def ders(chain: Sequence[x509.Certificate]) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in chain]


def forged_jws(
    by: Issued,
    payload: bytes,
    header: Mapping[str, Any] = {},
    *,
    chain: Sequence[x509.Certificate] | None = None,
    after: Callable[[dict[str, Any]], Any] = lambda document: document,
) -> bytes:
    """header: what is another in the protected header; None takes it out. chain: in place of the signer's. after: what
    is done to the document when it is signed."""
    usual = {
        "alg": "ES256",
        "cty": JSON_PAYLOAD,
        "crit": [f"{PREFIX}signingScheme"],
        f"{PREFIX}signingScheme": "notary.x509",
        f"{PREFIX}signingTime": "2026-01-01T00:00:00Z",
    }
    protected = {name: value for name, value in {**usual, **header}.items() if value is not None}
    parts = [to_url(json.dumps(protected).encode()), to_url(payload)]
    signature = by.key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256()))
    certificates = [base64.b64encode(one).decode() for one in ders(by.chain if chain is None else chain)]
    document = {"protected": parts[0], "payload": parts[1], "signature": to_url(halves(signature))}
    return json.dumps(after({**document, "header": {"x5c": certificates}})).encode()


def forged_cose(
    by: Issued,
    payload: bytes,
    header: Mapping[int | str, Any] = {},
    *,
    chain: Sequence[x509.Certificate] | None = None,
    after: Callable[[list[Any]], Any] = lambda parts: Tagged(18, parts),
) -> bytes:
    """The same as COSE. after: what becomes of the four parts."""
    usual: dict[int | str, Any] = {
        1: -7,
        2: [f"{PREFIX}signingScheme"],
        3: JSON_PAYLOAD,
        f"{PREFIX}signingScheme": "notary.x509",
        f"{PREFIX}signingTime": Tagged(1, 1767225600),
    }
    protected = write_cbor({name: value for name, value in {**usual, **header}.items() if value is not None})
    signed = by.key.sign(write_cbor(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA256()))
    unprotected = {33: ders(by.chain if chain is None else chain)}
    return write_cbor(after([protected, unprotected, payload, halves(signed)]))


def to_url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def flipped(text: str) -> str:
    """base64url of other bytes."""
    raw = bytearray(from_url(text))
    raw[len(raw) // 2] ^= 1
    return to_url(bytes(raw))
