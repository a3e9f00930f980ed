"""Sign with a key that has a certificate: the key, and its chain up to the root. Models are signed with the same files
(:func:`chain_for_models`), in a form that is not Notation's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.key_files import read_any_private_key
from registry_pipelines.evidence.keys import read_key_file
from registry_pipelines.evidence.model import Signer
from registry_pipelines.evidence.notation.cose import to_be_signed_cose, write_cose
from registry_pipelines.evidence.notation.envelope import (
    COSE_TYPE,
    JWS_TYPE,
    Signed,
    Target,
    algorithm_of,
    half_of,
    hash_of,
    to_the_second,
    write_payload,
)
from registry_pipelines.evidence.notation.jws import to_be_signed_jws, write_jws
from registry_pipelines.evidence.x509 import (
    Certificate,
    Purpose,
    check_chain,
    check_dates,
    der_of,
    find_chain,
    is_self_signed,
    read_certificates,
)

Form = Literal["jws", "cose"]
AGENT_NAME = "registry-pipelines/1"
_FORMS = {"jws": (JWS_TYPE, to_be_signed_jws, write_jws), "cose": (COSE_TYPE, to_be_signed_cose, write_cose)}

Timestamper = Callable[[bytes], bytes]
"""An RFC 3161 token over these bytes."""


class RawSigner(Protocol):
    """A private key, here or elsewhere, that signs as its kind is named: r and s one after the other, or PSS."""

    def __call__(self, payload: bytes) -> bytes:
        """Raises what the key's own service raises."""
        ...


class CertifiedSigner:
    """A key with its chain. Safe for many threads when the key is."""

    def __init__(self, sign: RawSigner, chain: Sequence[Certificate]) -> None:
        """chain: leaf to root, the leaf's key is the one that signs. Raises InputError for one that nobody would
        believe, or that is not valid now."""
        self._sign = sign
        self.chain = tuple(chain)
        try:
            check_chain(self.chain, Purpose.CODE)
            check_dates(self.chain, datetime.now(UTC))
            self.algorithm = algorithm_of(self.chain[0])
        except SignatureInvalid as error:
            raise InputError(f"these certificates sign nothing that is believed: {error.what}") from error

    def sign(
        self,
        target: Target,
        *,
        form: Form,
        at: datetime,
        expiry: datetime | None = None,
        timestamper: Timestamper | None = None,
    ) -> tuple[str, bytes]:
        """The envelope's media type and its bytes. at: what is written as the time of signing; expiry: from when on
        nobody believes it. timestamper: asked for a token over the signature."""
        media_type, encode, write = _FORMS[form]
        signed = Signed(time=to_the_second(at), expiry=to_the_second(expiry) if expiry else None)
        to_be_signed = encode(write_payload(target), self.algorithm, signed)
        signature = self._sign(to_be_signed)
        token = timestamper(signature) if timestamper else b""
        chain = [der_of(one) for one in self.chain]
        return media_type, write(to_be_signed, signature, chain, agent=AGENT_NAME, timestamp=token)


def load_certified_signer(key: Path, certificates: Path, password: str = "") -> CertifiedSigner:
    """A key file (RSA of 2048, 3072 or 4096 bits; P-256, P-384, P-521) and a file of its chain, in any order.

    Raises InputError; its text holds neither the password nor the key.
    """
    private = read_any_private_key(read_key_file(key), password, where=str(key))
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise InputError("the key is neither RSA nor of a NIST curve", where=str(key))
    return _certified(lambda payload: _raw(private, payload), _public_der(private.public_key()), certificates)


def certify(signer: Signer, certificates: Path) -> CertifiedSigner:
    """The same for a key that signs other things too, wherever it is: P-256. Raises InputError."""
    public = serialization.load_pem_public_key(signer.public_key_pem)
    return _certified(lambda payload: _halves(signer.sign(payload), 32), _public_der(public), certificates)


def chain_for_models(signer: Signer, certificates: Path) -> tuple[bytes, ...]:
    """The certificate of a key and its chain as far as the file has one, DER, leaf first; the file may be in any order,
    and without the root, which every verifier has of its own.

    Raises InputError for one that nobody would believe of models, or that is not valid now.
    """
    public = serialization.load_pem_public_key(signer.public_key_pem)
    own, there = _own(_public_der(public), certificates)
    above = {one: any(one.issuer == each.subject for each in there if each != one) for one in there}
    last = [one for one, has_more in above.items() if not has_more or is_self_signed(one)]
    try:
        chain = find_chain(own, there, last, Purpose.MODELS, at=datetime.now(UTC))
    except SignatureInvalid as error:
        raise InputError(
            f"these certificates sign no model that is believed: {error.what}",
            where=str(certificates),
            do="Give the key's own certificate, valid now and for digital signatures, with the authorities above it",
        ) from error
    return tuple(der_of(one) for one in chain)


def _own(public: bytes, certificates: Path) -> tuple[Certificate, list[Certificate]]:
    """The certificate of a key, and all of its file. Raises InputError."""
    there = read_certificates(read_key_file(certificates), where=str(certificates))
    own = [one for one in there if _public_der(one.public_key()) == public]
    if not own:
        raise InputError(
            "none of these certificates is of the signing key",
            where=str(certificates),
            do="Give the key's own certificate with its chain, root last",
        )
    return own[0], there


def _certified(sign: RawSigner, public: bytes, certificates: Path) -> CertifiedSigner:
    where = str(certificates)
    own, there = _own(public, certificates)
    try:
        chain = find_chain(own, there, [one for one in there if is_self_signed(one)], Purpose.CODE)
    except SignatureInvalid as error:
        raise InputError(
            f"the chain of certificates does not end in its root: {error.what}",
            where=where,
            do="Put every certificate up to the root in the file",
        ) from error
    return CertifiedSigner(sign, chain)


def _raw(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, payload: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        hashed = hash_of({2048: "PS256", 3072: "PS384"}.get(key.key_size, "PS512"))
        return key.sign(payload, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
    hashed = hash_of({"secp256r1": "ES256", "secp384r1": "ES384"}.get(key.curve.name, "ES512"))
    return _halves(key.sign(payload, ec.ECDSA(hashed)), half_of(key.curve))


def _halves(der: bytes, half: int) -> bytes:
    return b"".join(part.to_bytes(half) for part in decode_dss_signature(der))


def _public_der(key: object) -> bytes:
    try:
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return bytes(key.public_bytes(*form))  # type: ignore[attr-defined]  # every public key has it
    except (ValueError, UnsupportedAlgorithm):
        return b""
