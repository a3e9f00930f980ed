"""RFC 3161 timestamps: somebody with a clock signed that these bytes existed at a moment.

What is timestamped is a signature (Notation, Sigstore), so that it stays good after its certificate has expired. A
token is a CMS SignedData over a TSTInfo; ``timestamp_authority`` asks for one over HTTP. Source: RFC 3161, 5652, 5816.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.der import (
    BOOLEAN,
    GENERALIZED_TIME,
    NULL,
    OCTET_STRING,
    SEQUENCE,
    SET,
    DerInvalid,
    Node,
    optional,
    read_der,
    write_der,
    write_integer,
    write_oid,
)
from registry_pipelines.evidence.x509 import (
    UNREADABLE,
    Certificate,
    Purpose,
    check_dates,
    der_of,
    find_chain,
    load_certificates,
    name_of,
)
from registry_pipelines.progress import count_text

MAX_TOKEN_BYTES = 128 * 1024
"""A token with its chain has about 6 KiB."""

_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
_SHA256 = "2.16.840.1.101.3.4.2.1"
_DIGESTS: Mapping[str, hashes.HashAlgorithm] = {
    _SHA256: hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
"""SHA-1 is none of them: neither what is timestamped nor the token may hang on it."""
_SIGNED_WITH: Mapping[str, hashes.HashAlgorithm] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
    "1.2.840.10045.4.3.4": hashes.SHA512(),
}
_BY_KEY = ("1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112")
"""Signature algorithms that are the key's kind alone: rsaEncryption, ecPublicKey, Ed25519."""
_PSS = "1.2.840.113549.1.1.10"


@dataclass(frozen=True)
class Timestamp:
    """A verified timestamp: the bytes existed at ``at``, give or take ``accuracy``."""

    at: datetime
    """UTC."""
    accuracy: timedelta
    """Zero where the authority says none."""
    chain: tuple[Certificate, ...]
    """The authority's, leaf to the anchor; every one was valid then."""
    policy: str
    """The authority's own policy, a dotted OID."""

    @property
    def earliest(self) -> datetime:
        """The bytes may have been stamped as early as this."""
        return self.at - self.accuracy

    @property
    def latest(self) -> datetime:
        """And as late as this."""
        return self.at + self.accuracy


@dataclass(frozen=True)
class TimestampRequest:
    """What is sent to an authority, and the nonce that its answer must repeat."""

    raw: bytes
    nonce: int


def write_request(content: bytes) -> TimestampRequest:
    """A TimeStampReq for the SHA-256 of ``content``, with a nonce, that asks for the authority's certificates."""
    nonce = secrets.randbits(64)
    algorithm = write_der(SEQUENCE, write_oid(_SHA256), write_der(NULL))
    imprint = write_der(SEQUENCE, algorithm, write_der(OCTET_STRING, hashlib.sha256(content).digest()))
    raw = write_der(SEQUENCE, write_integer(1), imprint, write_integer(nonce), write_der(BOOLEAN, b"\xff"))
    return TimestampRequest(raw, nonce)


def read_response(raw: bytes, content: bytes, *, nonce: int | None = None, where: str = "") -> bytes:
    """The token of a TimeStampResp that grants one over ``content``; it is the form that Sigstore bundles carry.

    nonce: of the request; None where it is not known any more. Nobody's signature is checked yet. Raises
    SignatureInvalid.
    """
    try:
        token = _granted(_parse(raw, "timestamp response"))
        info = _TokenInfo.read(_SignedData.read(read_der(token)).content)
        info.check_imprint(content)
        if nonce is not None and info.nonce != nonce:
            raise DerInvalid("the timestamp answers another request: its nonce differs")
    except DerInvalid as error:
        raise SignatureInvalid(str(error), where=where) from error
    return token


def verify_token(
    token: bytes,
    content: bytes,
    *,
    anchors: Sequence[Certificate],
    certificates: Sequence[Certificate] = (),
    where: str = "",
) -> Timestamp:
    """When a trusted authority saw ``content``.

    token: the CMS SignedData in DER. anchors: certificates of authorities that are trusted, roots as a rule; the
    chain's certificates are valid at the moment that the token names, whatever the time is now. certificates: further
    ones, for tokens that bring none along. Raises SignatureInvalid, which says why not.
    """
    try:
        signed = _SignedData.read(_parse(token, "timestamp"))
        info = _TokenInfo.read(signed.content)
        info.check_imprint(content)
        brought = load_certificates(signed.certificates, where=where)
        leaf = signed.signer.find([*brought, *certificates])
        signed.verify(leaf)
    except DerInvalid as error:
        raise SignatureInvalid(str(error), where=where) from error
    others = [*brought, *certificates]
    chain = find_chain(leaf, others, anchors, Purpose.TIMESTAMPS, at=info.at, where=where)
    stamp = Timestamp(info.at, info.accuracy, chain, info.policy)
    check_dates(chain, stamp.earliest, stamp.latest, where=where)
    return stamp


def _parse(raw: bytes, what: str) -> Node:
    if len(raw) > MAX_TOKEN_BYTES:
        raise DerInvalid(f"the {what} has {len(raw)} bytes, at most {MAX_TOKEN_BYTES} are read")
    try:
        return read_der(raw)
    except DerInvalid as error:
        raise DerInvalid(f"the {what} is not DER: {error}") from error


def _granted(response: Node) -> bytes:
    """The encoded token of a response; what the authority says instead is in DerInvalid."""
    status, *rest = _fields(response, 1, "a timestamp response")
    code, *more = _fields(status, 1, "the response's status")
    if code.integer() not in (0, 1):  # granted, granted with modifications
        words = [text.content for one in more if one.tag == SEQUENCE for text in one.children()]
        said = b"; ".join(words).decode(errors="replace")[:200]
        raise DerInvalid(f"the authority refused (status {code.integer()}){f': {said}' if said else ''}")
    if not rest:
        raise DerInvalid("the authority granted a timestamp and sent none")
    return rest[0].encoded


@dataclass(frozen=True)
class _TokenInfo:
    """TSTInfo, RFC 3161 section 2.4.2."""

    policy: str
    algorithm: str
    imprint: bytes
    at: datetime
    accuracy: timedelta
    nonce: int | None

    @classmethod
    def read(cls, raw: bytes) -> _TokenInfo:
        version, policy, imprint, _serial, at, *rest = _fields(read_der(raw), 5, "the timestamp's content")
        if version.integer() != 1:
            raise DerInvalid(f"the timestamp's content has version {version.integer()}, expected 1")
        algorithm, hashed = _fields(imprint, 2, "what is timestamped")[:2]
        given, left = optional(rest, SEQUENCE)
        _ordering, left = optional(left, BOOLEAN)
        nonce, left = optional(left, 0x02)
        _authority, left = optional(left, 0xA0)
        extensions, left = optional(left, 0xA1)
        if left:
            raise DerInvalid("the timestamp's content has a field that is not known")
        if extensions is not None and any(_is_critical(one) for one in extensions.children()):
            raise DerInvalid("the timestamp has a critical extension that is not understood here")
        return cls(
            policy.oid(),
            _algorithm(algorithm),
            hashed.of(OCTET_STRING, "the hash").content,
            at.of(GENERALIZED_TIME, "the timestamp's time").time(),
            _accuracy(given),
            nonce.integer() if nonce else None,
        )

    def check_imprint(self, content: bytes) -> None:
        if _hash(self.algorithm, content) != self.imprint:
            raise DerInvalid("the timestamp is of other bytes")


@dataclass(frozen=True)
class _SignerInfo:
    """SignerInfo, RFC 5652 section 5.3."""

    issuer: bytes
    """DER of the issuer's name; empty where the key identifier is given instead."""
    serial: int
    key_identifier: bytes
    digest: str
    attributes: bytes
    """The signed attributes as they are hashed: a SET."""
    algorithm: str
    signature: bytes

    @classmethod
    def read(cls, node: Node) -> _SignerInfo:
        _version, name, digest, *rest = _fields(node, 3, "a signer")
        attributes, rest2 = optional(rest, 0xA0)
        if attributes is None or len(rest2) < 2:
            raise DerInvalid("the timestamp's signer has no signed attributes")
        issuer, serial, identifier = b"", 0, b""
        if name.tag == 0x80:
            identifier = name.content
        else:
            issuer_node, serial_node = _fields(name, 2, "the signer's name")[:2]
            issuer, serial = issuer_node.encoded, serial_node.integer()
        return cls(
            issuer,
            serial,
            identifier,
            _algorithm(digest),
            write_der(SET, attributes.content),
            _algorithm(rest2[0]),
            rest2[1].of(OCTET_STRING, "a signature").content,
        )

    def find(self, certificates: Sequence[Certificate]) -> Certificate:
        """The signer's certificate, that its signed attributes name, too."""
        named = self._attribute(_SIGNING_CERTIFICATE_V2) or self._attribute(_SIGNING_CERTIFICATE)
        if named is None:
            raise DerInvalid("the timestamp does not say by which certificate it is signed")
        for certificate in certificates:
            if self._is_named(certificate):
                if not _is_hash_of(named, certificate, v2=self._attribute(_SIGNING_CERTIFICATE_V2) is not None):
                    raise DerInvalid("the timestamp is signed for another certificate of the same name")
                return certificate
        raise DerInvalid("the timestamp brings no certificate of its signer")

    def _is_named(self, certificate: Certificate) -> bool:
        if self.key_identifier:
            try:
                found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
            except (*UNREADABLE, x509.ExtensionNotFound):
                return False
            return found == self.key_identifier
        return certificate.serial_number == self.serial and certificate.issuer.public_bytes() == self.issuer

    def _attribute(self, kind: str) -> Node | None:
        """The one value of an attribute; None where it is not there."""
        found = [fields for one in read_der(self.attributes).children() if (fields := _attribute(one))[0] == kind]
        if not found:
            return None
        if len(found) > 1 or len(found[0][1]) != 1:
            raise DerInvalid("an attribute of the timestamp's signer is there twice")
        return found[0][1][0]

    def check_attributes(self, content: bytes) -> None:
        kind, hashed = self._attribute(_CONTENT_TYPE), self._attribute(_MESSAGE_DIGEST)
        if kind is None or kind.oid() != _TST_INFO:
            raise DerInvalid("what the timestamp's signer signed is no timestamp")
        if hashed is None or hashed.of(OCTET_STRING, "a hash").content != _hash(self.digest, content):
            raise DerInvalid("the timestamp's signature is over other content")


@dataclass(frozen=True)
class _SignedData:
    """A ContentInfo of a SignedData, RFC 5652 sections 3 and 5.1."""

    content: bytes
    certificates: list[bytes]
    signer: _SignerInfo

    @classmethod
    def read(cls, node: Node) -> _SignedData:
        kind, wrapped = _fields(node, 2, "a timestamp")[:2]
        if kind.oid() != _SIGNED_DATA:
            raise DerInvalid("the timestamp is not signed data")
        (data,) = _fields(wrapped.of(0xA0, "signed data"), 1, "signed data")[:1]
        _version, _digests, encapsulated, *rest = _fields(data, 3, "signed data")
        content_kind, *content = _fields(encapsulated, 1, "signed content")
        if content_kind.oid() != _TST_INFO or not content:
            raise DerInvalid("the signed data is no timestamp")
        (octets,) = _fields(content[0].of(0xA0, "signed content"), 1, "signed content")[:1]
        certificates, left = optional(rest, 0xA0)
        _revoked, left = optional(left, 0xA1)
        signers = left[0].of(SET, "the signers").children() if left else []
        if len(signers) != 1:
            raise DerInvalid(f"the timestamp has {count_text(len(signers), 'signer')}, expected one")
        return cls(
            octets.of(OCTET_STRING, "signed content").content,
            [one.encoded for one in certificates.children() if one.tag == SEQUENCE] if certificates else [],
            _SignerInfo.read(signers[0]),
        )

    def verify(self, leaf: Certificate) -> None:
        """Raise DerInvalid unless the leaf's key signed the content."""
        self.signer.check_attributes(self.content)
        signer = self.signer
        hashed = _SIGNED_WITH.get(signer.algorithm) or _DIGESTS.get(signer.digest)
        if hashed is None or signer.algorithm not in (*_SIGNED_WITH, *_BY_KEY, _PSS):
            raise DerInvalid(f"the timestamp is signed in a way that is not accepted ({signer.algorithm})")
        try:
            key = leaf.public_key()
            if isinstance(key, rsa.RSAPublicKey):
                scheme: padding.AsymmetricPadding = padding.PKCS1v15()
                if signer.algorithm == _PSS:
                    scheme = padding.PSS(padding.MGF1(hashed), padding.PSS.AUTO)
                key.verify(signer.signature, signer.attributes, scheme, hashed)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signer.signature, signer.attributes, ec.ECDSA(hashed))
            elif isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signer.signature, signer.attributes)
            else:
                raise DerInvalid(f"the key of {name_of(leaf)} signs no timestamps that are read here")
        except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
            if isinstance(error, DerInvalid):
                raise
            raise DerInvalid(f"the timestamp's signature is not that of {name_of(leaf)}") from error


def _is_hash_of(named: Node, certificate: Certificate, *, v2: bool) -> bool:
    """Whether the first certificate of a SigningCertificate(V2) attribute is this one (RFC 5035, RFC 2634)."""
    identifiers = _fields(named, 1, "the signing certificate")[0].of(SEQUENCE, "the signing certificate").children()
    if not identifiers:
        return False
    fields = _fields(identifiers[0], 1, "the signing certificate")
    der = der_of(certificate)
    if not v2:  # names the certificate by SHA-1; what is signed does not hang on it
        return fields[0].of(OCTET_STRING, "a hash").content == hashlib.sha1(der, usedforsecurity=False).digest()
    algorithm = _SHA256
    if fields[0].tag == SEQUENCE:
        algorithm, fields = _algorithm(fields[0]), fields[1:]
    return bool(fields) and fields[0].of(OCTET_STRING, "a hash").content == _hash(algorithm, der)


def _hash(algorithm: str, content: bytes) -> bytes:
    chosen = _DIGESTS.get(algorithm)
    if chosen is None:
        raise DerInvalid(f"the timestamp uses a hash that is not accepted ({algorithm})")
    return hashlib.new(chosen.name, content).digest()


def _attribute(node: Node) -> tuple[str, list[Node]]:
    kind, values = _fields(node, 2, "an attribute")[:2]
    return kind.oid(), values.of(SET, "an attribute").children()


def _algorithm(node: Node) -> str:
    return _fields(node, 1, "an algorithm")[0].oid()


def _is_critical(extension: Node) -> bool:
    fields = _fields(extension, 2, "an extension")
    return fields[1].tag == BOOLEAN and fields[1].content != b"\x00"


def _accuracy(node: Node | None) -> timedelta:
    """Accuracy ::= SEQUENCE { seconds INTEGER, millis [0], micros [1] }, all optional."""
    if node is None:
        return timedelta()
    seconds, rest = optional(node.children(), 0x02)
    millis, rest = optional(rest, 0x80)
    micros, rest = optional(rest, 0x81)
    whole = seconds.integer() if seconds else 0
    parts = [int.from_bytes(one.content) if one else 0 for one in (millis, micros)]
    if rest or not 0 <= whole <= 86400 or any(part > 999 for part in parts):
        raise DerInvalid("the timestamp's accuracy makes no sense")
    return timedelta(seconds=whole, milliseconds=parts[0], microseconds=parts[1])


def _fields(node: Node, at_least: int, what: str) -> list[Node]:
    fields = node.children()
    if len(fields) < at_least:
        raise DerInvalid(f"{what} has {count_text(len(fields), 'field')}, expected {at_least}")
    return fields
