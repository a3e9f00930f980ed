"""A Sigstore of our own: an authority for certificates, a log of certificates, logs of signatures, timestamps.

``PrivateSigstore(folder, openssl)`` signs statements as somebody and gives the bundle as a dictionary, so that a test
can damage any part of it; ``trust_root()`` is what verifiers are given. Written after the formats' own documents, with
nothing of the code under test; ``cosign`` and the Python package ``sigstore`` believe what it makes (tests/evidence).
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import rfc3161_client
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.doubles.authorities import CODE, STAMPS, Issued, OpensslTimestamps, make_root

ISSUER = "https://token.example"
WORKFLOW = "https://git.example/team/app/.github/workflows/release.yml@refs/tags/v1.2.3"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUST_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
Log = Literal["rekor1", "rekor2", ""]
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_RAW_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_SHA256 = ec.ECDSA(hashes.SHA256())


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pae(kind: str, payload: bytes) -> bytes:
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


class PrivateSigstore:
    """See the module."""

    def __init__(self, folder: Path, openssl: str) -> None:
        self.root = make_root("sigstore root")
        self.authority = self.root.issue("sigstore", ca=True, path_length=0, uses=(CODE,))
        self.publisher = ec.generate_private_key(ec.SECP256R1())
        self.log1 = ec.generate_private_key(ec.SECP256R1())
        self.log2 = ed25519.Ed25519PrivateKey.generate()
        self.stamper = make_root("stamps root").issue("stamps", uses=(STAMPS,))
        self.stamps = OpensslTimestamps(openssl, folder, self.stamper)
        self.entries: list[bytes] = [b"the first entry", b"the second entry", b"the third entry"]

    def certificate(
        self,
        subject: str = WORKFLOW,
        issuer: str = ISSUER,
        *,
        authority: Issued | None = None,
        begins: timedelta = timedelta(minutes=-5),
        ends: timedelta = timedelta(minutes=5),
        key: Any = None,
        published: bool = True,
        claims: dict[str, str] | None = None,
    ) -> Issued:
        """A certificate for an identity, published in the log of certificates. begins, ends: from now. claims: further
        ones of the issuer, by the last number of their object identifier."""
        above = authority or self.authority
        key = key or ec.generate_private_key(ec.SECP256R1())
        name: x509.GeneralName = x509.UniformResourceIdentifier(subject)
        if "@" in subject and "/" not in subject:
            name = x509.RFC822Name(subject)
        text = issuer.encode()
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(above.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
            .add_extension(x509.ExtendedKeyUsage([CODE]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_RAW_OID, text), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, bytes([0x0C, len(text)]) + text), critical=False)
        )
        for number, value in (claims or {}).items():
            oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
            content = bytes([0x0C, len(value)]) + value.encode()
            builder = builder.add_extension(x509.UnrecognizedExtension(oid, content), critical=False)
        made = builder.sign(above.key, hashes.SHA256())
        if published:
            listed = self._sct(made.tbs_certificate_bytes, above)
            made = builder.add_extension(x509.UnrecognizedExtension(_SCT_OID, listed), critical=False).sign(
                above.key, hashes.SHA256()
            )
        return Issued(made, key, (made, *above.chain))

    def _sct(self, body: bytes, above: Issued) -> bytes:
        """The value of the extension: an OCTET STRING of a TLS list with one SCT (RFC 6962, section 3.3)."""
        at = int(datetime.now(UTC).timestamp() * 1000)
        issuer = hashlib.sha256(spki(above.key)).digest()
        signed = struct.pack(">BBQH", 0, 0, at, 1) + issuer + len(body).to_bytes(3) + body + b"\0\0"
        signature = self.publisher.sign(signed, _SHA256)
        log_id = hashlib.sha256(spki(self.publisher)).digest()
        sct = b"\0" + log_id + struct.pack(">QH", at, 0) + b"\4\3" + struct.pack(">H", len(signature)) + signature
        listed = struct.pack(">HH", len(sct) + 2, len(sct)) + sct
        length = bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])
        return b"\4" + length + listed

    def sign(
        self,
        payload: bytes,
        signer: Issued | None = None,
        *,
        log: Log = "rekor1",
        stamped: bool = False,
        kind: str = "application/vnd.in-toto+json",
        at: datetime | None = None,
    ) -> dict[str, Any]:
        """A bundle: the payload in an envelope, signed by a fresh certificate unless one is given. at: when the log
        says that it took it."""
        signer = signer or self.certificate()
        signature = _sign(signer.key, pae(kind, payload))
        material: dict[str, Any] = {"certificate": {"rawBytes": b64(der(signer.certificate))}}
        if log:
            material["tlogEntries"] = [self.entry(signer, payload, signature, kind, log, at)]
        if stamped:
            material["timestampVerificationData"] = {
                "rfc3161Timestamps": [{"signedTimestamp": b64(self.stamp(signature))}]
            }
        envelope = {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": b64(signature)}]}
        return {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}

    def stamp(self, signature: bytes) -> bytes:
        request = (
            rfc3161_client.TimestampRequestBuilder()
            .data(signature)
            .nonce(nonce=True)
            .cert_request(cert_request=False)
            .build()
        )
        return self.stamps.answer(request.as_bytes())

    def entry(
        self, signer: Issued, payload: bytes, signature: bytes, kind: str, log: Log, at: datetime | None = None
    ) -> dict[str, Any]:
        """What a log gives back for a signature."""
        pem, raw = signer.certificate.public_bytes(Encoding.PEM), der(signer.certificate)
        if log == "rekor1":
            spec: dict[str, Any] = {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
            }
            name, version = "dsse", "0.0.1"
        else:
            digest = b64(hashlib.sha256(pae(kind, payload)).digest())
            verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": b64(raw)}}
            record = {"content": b64(signature), "verifier": verifier}
            spec = {"hashedRekordV002": {"data": {"algorithm": "SHA2_256", "digest": digest}, "signature": record}}
            name, version = "hashedrekord", "0.0.2"
        body = canonical({"apiVersion": version, "kind": name, "spec": spec})
        self.entries.append(body)
        index = len(self.entries) - 1
        entry: dict[str, Any] = {
            "logIndex": str(index),
            "logId": {"keyId": b64(self.log_id(log))},
            "kindVersion": {"kind": name, "version": version},
            "canonicalizedBody": b64(body),
            "inclusionProof": self.proof(index, log),
        }
        if log == "rekor1":
            seconds = int((at or datetime.now(UTC)).timestamp())
            promise = {"body": b64(body), "integratedTime": seconds, "logID": self.log_id(log).hex(), "logIndex": index}
            entry["integratedTime"] = str(seconds)
            entry["inclusionPromise"] = {"signedEntryTimestamp": b64(self.log1.sign(canonical(promise), _SHA256))}
        return entry

    def proof(self, index: int, log: Log) -> dict[str, Any]:
        leaves = [hashlib.sha256(b"\0" + body).digest() for body in self.entries]
        root, path = _tree(leaves), _path(leaves, index)
        origin = self.name(log)
        text = f"{origin}{' - 17' if log == 'rekor1' else ''}\n{len(leaves)}\n{b64(root)}\n"
        signed = _sign(self.log1 if log == "rekor1" else self.log2, text.encode())
        line = f"\u2014 {origin} {b64(self.log_id(log)[:4] + signed)}\n"
        return {
            "logIndex": str(index),
            "rootHash": b64(root),
            "treeSize": str(len(leaves)),
            "hashes": [b64(each) for each in path],
            "checkpoint": {"envelope": f"{text}\n{line}"},
        }

    def name(self, log: Log) -> str:
        return "rekor.example" if log == "rekor1" else "log2.rekor.example"

    def log_id(self, log: Log) -> bytes:
        if log == "rekor1":
            return hashlib.sha256(spki(self.log1)).digest()
        raw = self.log2.public_key().public_bytes_raw()
        return hashlib.sha256(f"{self.name(log)}\n".encode() + b"\1" + raw).digest()

    def trust_root(self, *without: str, window: dict[str, str] | None = None) -> dict[str, Any]:
        """The document. without: sections that are left empty. window: when everything is believed."""
        valid = window or {"start": "2020-01-01T00:00:00Z"}

        def log(url: str, key: Any, log_id: bytes, details: str) -> dict[str, Any]:
            public = {"rawBytes": b64(spki(key)), "keyDetails": details, "validFor": valid}
            return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": {"keyId": b64(log_id)}}

        def authority(url: str, chain: Iterable[x509.Certificate]) -> dict[str, Any]:
            listed = [{"rawBytes": b64(der(each))} for each in chain]
            subject = {"organization": "platform", "commonName": "sigstore"}
            return {"subject": subject, "uri": url, "certChain": {"certificates": listed}, "validFor": valid}

        published = hashlib.sha256(spki(self.publisher)).digest()
        root = {
            "mediaType": TRUST_ROOT,
            "tlogs": [
                log("https://rekor.example", self.log1, self.log_id("rekor1"), "PKIX_ECDSA_P256_SHA_256"),
                log("https://log2.rekor.example", self.log2, self.log_id("rekor2"), "PKIX_ED25519"),
            ],
            "certificateAuthorities": [authority("https://fulcio.example", self.authority.chain)],
            "ctlogs": [log("https://ct.example", self.publisher, published, "PKIX_ECDSA_P256_SHA_256")],
            "timestampAuthorities": [authority("https://stamps.example", self.stamper.chain)],
        }
        return {name: [] if name in without else value for name, value in root.items()}


def changed(bundle: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy in which one field is another; ``a.b.0.c`` names it. None takes it out."""
    made = copy.deepcopy(bundle)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner: Any = made
    for step in steps:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return made


def _sign(key: Any, payload: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        chosen = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]
        return key.sign(payload, ec.ECDSA(chosen))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(payload)
    return bytes(key.sign(payload, padding.PKCS1v15(), hashes.SHA256()))


def _tree(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return hashlib.sha256(b"\1" + _tree(leaves[:split]) + _tree(leaves[split:])).digest()


def _path(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*_path(leaves[:split], index), _tree(leaves[split:])]
    return [*_path(leaves[split:], index - split), _tree(leaves[:split])]


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)
