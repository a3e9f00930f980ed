"""What a Notation signature says, apart from its form, and the rules it must obey before anybody is trusted.

Source: notaryproject/specifications, signature-specification.md and signature-envelope-{jws,cose}.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.dsse import decode_unverified
from registry_pipelines.evidence.x509 import Certificate, Purpose, check_chain, load_certificates
from registry_pipelines.oci.digest import Digest

PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json"
JWS_TYPE = "application/jose+json"
COSE_TYPE = "application/cose"

SCHEME = "io.cncf.notary.signingScheme"
SIGNING_TIME = "io.cncf.notary.signingTime"
AUTHENTIC_TIME = "io.cncf.notary.authenticSigningTime"
EXPIRY = "io.cncf.notary.expiry"
AGENT = "io.cncf.notary.signingAgent"
TIMESTAMP = "io.cncf.notary.timestampSignature"

X509_SCHEME = "notary.x509"
"""Who signs has a certificate and says the time himself."""
AUTHORITY_SCHEME = "notary.x509.signingAuthority"
"""A signing service that is trusted for the time, too (AWS Signer)."""

MAX_ENVELOPE_BYTES = 1024 * 1024
"""One envelope; with a timestamp and both chains it has about 10 KiB."""

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_BY_BITS = {2048: "PS256", 3072: "PS384", 4096: "PS512"}
_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class Target(msgspec.Struct, rename="camel", omit_defaults=True):
    """What is signed: the descriptor of an image's manifest, and what the signer says beside it."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Payload(msgspec.Struct, rename="camel"):
    target_artifact: Target


@dataclass(frozen=True)
class Signed:
    """The signed attributes. Times are UTC, to the second."""

    scheme: str = X509_SCHEME
    time: datetime | None = None
    """When it was signed, as the signer says; under AUTHORITY_SCHEME the authority's word."""
    expiry: datetime | None = None
    unknown: tuple[str, ...] = ()
    """Critical attributes that are not understood here."""
    plugin: Mapping[str, str] = field(default_factory=dict)
    """Critical attributes of AWS Signer, see ``aws_signer``; empty for everybody else."""


@dataclass(frozen=True)
class Envelope:
    """A signature as it was read. Nothing is verified; see :func:`check_integrity`."""

    media_type: str
    payload: bytes
    payload_type: str
    algorithm: str
    """JOSE's name, ``ES256``."""
    signed: Signed
    to_be_signed: bytes
    """What the signature is over."""
    signature: bytes
    """r and s one after the other, or RSA's."""
    certificates: tuple[bytes, ...]
    """DER, leaf first."""
    timestamp: bytes = b""
    """An RFC 3161 token over ``signature``; empty for none. Not signed, but by the authority itself."""
    agent: str = ""


def read_payload(raw: bytes, *, where: str = "") -> Target:
    """What the payload says. Raises SignatureInvalid."""
    payload = decode_unverified(raw, _Payload, where=where, what="Notation payload")
    target: Target = payload.target_artifact
    return target


def write_payload(target: Target) -> bytes:
    """The payload of both forms."""
    return msgspec.json.encode(_Payload(target))


def check_target(target: Target, digest: Digest, *, media_type: str, size: int, where: str = "") -> None:
    """Raise SignatureInvalid unless the payload is about exactly this manifest."""
    if (target.digest, target.media_type, target.size) != (digest, media_type, size):
        named = f"{target.digest[:140]} ({target.media_type[:100]}, {target.size} bytes)"
        raise SignatureInvalid(f"the signature is over {named}, not {digest}", where=where)


def check_integrity(envelope: Envelope, *, where: str = "") -> tuple[Certificate, ...]:
    """The chain of certificates whose leaf signed these bytes; its root is anybody's.

    The chain is one, leaf to self-signed root, and every certificate may do what it did; the algorithm is the one of
    the leaf's key. Raises SignatureInvalid, also for a critical attribute that is not understood.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureInvalid(f"the payload is {envelope.payload_type[:100]!r}, expected {PAYLOAD_TYPE}", where=where)
    _check_attributes(envelope.signed, where)
    chain = tuple(load_certificates(envelope.certificates, where=where))
    check_chain(chain, Purpose.CODE, where=where)
    wanted = algorithm_of(chain[0], where=where)
    if envelope.algorithm != wanted:
        raise SignatureInvalid(f"the algorithm is {envelope.algorithm[:40]!r}, the key's is {wanted}", where=where)
    _check_signature(chain[0], envelope, where)
    return chain


def algorithm_of(leaf: Certificate, *, where: str = "") -> str:
    """The one algorithm that the specification has for a certificate's key. Raises SignatureInvalid for no such key."""
    try:
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid(f"the leaf's key cannot be read: {error}", where=where) from error
    found = None
    if isinstance(key, rsa.RSAPublicKey):
        found = _BY_BITS.get(key.key_size)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found = _BY_CURVE.get(key.curve.name)
    if found is None:
        raise SignatureInvalid(
            "the leaf's key is neither RSA of 2048, 3072 or 4096 bits nor P-256, -384 or -521", where=where
        )
    return found


def hash_of(algorithm: str) -> hashes.HashAlgorithm:
    """The hash of an algorithm that :func:`algorithm_of` gave."""
    return _HASHES[algorithm[2:]]


def half_of(curve: ec.EllipticCurve) -> int:
    """Bytes of r, and of s."""
    return (curve.key_size + 7) // 8


def to_the_second(at: datetime) -> datetime:
    """UTC, as a signature carries it."""
    return at.astimezone(UTC).replace(microsecond=0)


def signed_attributes(
    scheme: object, times: Sequence[datetime | None], unknown: tuple[str, ...], plugin: Mapping[str, str] | None = None
) -> Signed:
    """The attributes of a header; each scheme has its own time. times: of signing, an authority's, of expiry. plugin:
    of AWS Signer. Raises ValueError, which says what is wrong."""
    if scheme not in (X509_SCHEME, AUTHORITY_SCHEME):
        raise ValueError(f"the signing scheme is {str(scheme)[:100]!r}, which is not known")
    time, authentic, expiry = times
    own, other = (time, authentic) if scheme == X509_SCHEME else (authentic, time)
    if other is not None or (own is None and scheme == AUTHORITY_SCHEME):
        raise ValueError(f"the time of signing is not told as the scheme {scheme} wants it")
    return Signed(str(scheme), own, expiry, unknown, plugin or {})


def names_of(critical: object) -> list[str | int]:
    """The names in a list of critical attributes, as far as they are names; :func:`check_critical` refuses others."""
    return [name for name in critical if isinstance(name, str | int)] if isinstance(critical, list) else []


def check_critical(critical: object, header: set[str], signed: Signed) -> None:
    """Raise ValueError unless the critical names are exactly those that must be, and what else the header has."""
    if not isinstance(critical, list) or not critical or not all(isinstance(name, str | int) for name in critical):
        raise ValueError("the protected header has no list of critical attributes")
    missing = [name for name in critical_of(signed) if name not in critical]
    if missing:
        raise ValueError(f"{missing[0]} is not marked as critical")
    absent = [name for name in critical if str(name) not in header]
    if absent:
        raise ValueError(f"{str(absent[0])[:100]!r} is marked as critical and not there")


def critical_of(signed: Signed) -> list[str]:
    """The attributes that must be critical, in the order in which they are written."""
    names = [SCHEME]
    names += [AUTHENTIC_TIME] if signed.scheme == AUTHORITY_SCHEME else []
    return names + ([EXPIRY] if signed.expiry else [])


def _check_attributes(signed: Signed, where: str) -> None:
    if signed.unknown:
        listed = ", ".join(name[:100] for name in signed.unknown[:3])
        raise SignatureInvalid(f"it has a critical attribute that is not understood here: {listed}", where=where)


def _check_signature(leaf: Certificate, envelope: Envelope, where: str) -> None:
    key, hashed = leaf.public_key(), hash_of(envelope.algorithm)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            scheme = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
            key.verify(envelope.signature, envelope.to_be_signed, scheme, hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            half = half_of(key.curve)
            if len(envelope.signature) != 2 * half:
                raise InvalidSignature
            parts = envelope.signature[:half], envelope.signature[half:]
            der = encode_dss_signature(*(int.from_bytes(part) for part in parts))
            key.verify(der, envelope.to_be_signed, ec.ECDSA(hashed))
    except InvalidSignature as error:
        raise SignatureInvalid("the leaf's key did not make this signature", where=where) from error
