"""What each kind of key signs in Sigstore (architecture-docs, algorithm-registry.md); the hash follows from the key."""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

_CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MAX_SIGNATURE_BYTES = MAX_RSA_BITS // 8


def usable(key: Any) -> bool:
    """Whether a public key is of a kind that signs in Sigstore."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in _CURVES
    if isinstance(key, rsa.RSAPublicKey):
        return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    return isinstance(key, ed25519.Ed25519PublicKey)


def is_signed(key: Any, signature: bytes, payload: bytes) -> bool:
    """Whether a key, which is :func:`usable`, made a signature over the payload."""
    if not usable(key) or len(signature) > MAX_SIGNATURE_BYTES:
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(_CURVES[key.curve.name]))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, payload)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True
