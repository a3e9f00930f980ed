"""What is in a key file: P-256 keys as openssl and cosign write them, and words for everything else.

Read are PEM and DER: SubjectPublicKeyInfo; PKCS#8, plain or encrypted; SEC1 (``EC PRIVATE KEY``, with or without the
``EC PARAMETERS`` that openssl writes before it), plain or encrypted in the old way; cosign's own encrypted form.
"""

from __future__ import annotations

import textwrap
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from registry_pipelines.errors import InputError
from registry_pipelines.evidence.cosign_key import PEM_TYPES, decrypt_cosign_key
from registry_pipelines.pem import Block, read_blocks
from registry_pipelines.progress import count_text

Curves = tuple[type[ec.EllipticCurve], ...]
P256: Curves = (ec.SECP256R1,)
MODEL_CURVES: Curves = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""Of keys that sign models (OMS 1.0, as Sigstore's protobuf-specs have them)."""

_PARAMETERS = "EC PARAMETERS"
_PRIVATE = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", *PEM_TYPES)
_COMPANIONS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "CERTIFICATE REQUEST", "PUBLIC KEY")
"""What programs write beside a private key (``openssl pkcs12 -nodes``); a signature needs none of it."""

_USE_P256 = "Use a P-256 key: `registry-pipelines sign --generate-key`, or `openssl ecparam -name prime256v1 -genkey`"
_PUBLIC_FROM = {
    "CERTIFICATE": "Trust its key: openssl x509 -in FILE -noout -pubkey",
    "X509 CERTIFICATE": "Trust its key: openssl x509 -in FILE -noout -pubkey",
    "TRUSTED CERTIFICATE": "Trust its key: openssl x509 -in FILE -noout -pubkey",
    "CERTIFICATE REQUEST": "Trust its key: openssl req -in FILE -noout -pubkey",
    "NEW CERTIFICATE REQUEST": "Trust its key: openssl req -in FILE -noout -pubkey",
    "PKCS12": "Take the certificate out (openssl pkcs12 -in FILE -nokeys), then its key (openssl x509 -noout -pubkey)",
    "SSH PUBLIC KEY": "Convert it: ssh-keygen -e -m PKCS8 -f FILE",
}
_PRIVATE_FROM = {
    "OPENSSH PRIVATE KEY": "Convert a copy of it: ssh-keygen -p -m PKCS8 -f FILE",
    "PKCS12": "Take the key out: openssl pkcs12 -in FILE -nocerts",
}
_NAMES = {
    "PKCS12": "a PKCS#12 file",
    "SSH PUBLIC KEY": "an SSH public key",
    "JWK": "a key as JSON (JWK)",
    "MINISIGN": "a minisign or signify key",
}


def signs_by(key: ec.EllipticCurvePublicKey) -> ec.ECDSA:
    """The algorithm of a curve's signatures: its hash is as long as its numbers."""
    return ec.ECDSA({384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.curve.key_size, hashes.SHA256()))


def read_public_keys(raw: bytes, *, where: str, curves: Curves = P256) -> list[ec.EllipticCurvePublicKey]:
    """Every public key of a file; a file with anything else in it than public keys and comments is refused, so that
    none is left out unsaid. Raises InputError."""
    blocks = [block for block in _blocks(raw, where) if block.label != _PARAMETERS]
    for block in blocks:
        if "PRIVATE KEY" in block.label:
            raise InputError(
                f"this is a private key ({block.label}) where public ones are believed",
                where=where,
                do="Give the .pub file of the pair (openssl pkey -in FILE -pubout, cosign public-key --key FILE)",
            )
    if not blocks:
        raise InputError("this is not a PEM public key: " + _no_block(raw), where=where, do="Give the .pub file")
    return [_public_key(block, where, curves) for block in blocks]


def _public_key(block: Block, where: str, curves: Curves) -> ec.EllipticCurvePublicKey:
    if block.label == "RSA PUBLIC KEY":
        raise InputError("the public key is not an ECDSA P-256 key but RSA", where=where, do=_USE_P256)
    if block.label != "PUBLIC KEY":
        name = _NAMES.get(block.label, block.label)
        raise InputError(
            f"this is not a PEM public key but {name}", where=where, do=_PUBLIC_FROM.get(block.label, _USE_P256)
        )
    try:
        key = serialization.load_der_public_key(block.content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable("public", str(block), error, where) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curves):
        raise InputError(f"the public key is not an ECDSA P-256 key but {_kind(key)}", where=where, do=_USE_P256)
    return key


def read_private_key(raw: bytes, password: str, *, where: str, curves: Curves = P256) -> ec.EllipticCurvePrivateKey:
    """The one private key of a file, P-256 unless told; certificates and public keys beside it are of no use and stay
    unread. A password for a plain key is not needed. Raises InputError; its text holds neither the password nor the
    key."""
    key = read_any_private_key(raw, password, where=where)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, curves):
        raise InputError(f"the private key is not an ECDSA P-256 key but {_kind(key)}", where=where, do=_USE_P256)
    return key


def read_any_private_key(raw: bytes, password: str, *, where: str) -> Any:
    """The same, of any kind: where a certificate says what the key is. Raises InputError."""
    blocks = _blocks(raw, where)
    private = [block for block in blocks if "PRIVATE KEY" in block.label]
    others = [block for block in blocks if block not in private and block.label != _PARAMETERS]
    if len(private) > 1:
        listed = ", ".join(map(str, private))
        raise InputError(
            f"the file has {count_text(len(private), 'private key')}: {listed}", where=where, do="Leave one in it"
        )
    if not private:
        what = f"the file has only {others[0]}" if others else _no_block(raw)
        named = _NAMES.get(others[0].label) if others else None
        do = _PRIVATE_FROM.get(others[0].label if others else "", "Give the private key of the pair")
        raise InputError(f"the private key cannot be read: {named or what}", where=where, do=do)
    if strange := [block for block in others if block.label not in _COMPANIONS]:
        raise InputError(f"the file has {strange[0]} beside the private key", where=where, do="Take it out")
    return _private_key(private[0], password, where)


def _private_key(block: Block, password: str, where: str) -> Any:
    if block.label in PEM_TYPES:
        der = _unlocked(password, where, lambda word: decrypt_cosign_key(block.content, word, where=where))
        return _loaded(block, lambda: serialization.load_der_private_key(der, None), where)
    if block.label not in _PRIVATE:
        do = _PRIVATE_FROM.get(block.label, _USE_P256)
        raise InputError(f"the private key cannot be read: a key of the form {block.label}", where=where, do=do)
    if block.headers:
        pem = _as_pem(block)
        return _unlocked(password, where, lambda word: serialization.load_pem_private_key(pem, word.encode()))
    if block.label == "ENCRYPTED PRIVATE KEY":
        content = block.content
        return _unlocked(password, where, lambda word: serialization.load_der_private_key(content, word.encode()))
    return _loaded(block, lambda: serialization.load_der_private_key(block.content, None), where)


def _loaded(block: Block, load: Callable[[], Any], where: str) -> Any:
    try:
        return load()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unreadable("private", str(block), error, where) from error


def _unlocked(password: str, where: str, load: Callable[[str], Any]) -> Any:
    """What ``load`` gives for the password, or for it without the line break that files and secrets often end with."""
    words = list(dict.fromkeys([password, password.rstrip("\r\n")]))
    failed: Exception | None = None
    for word in words:
        try:
            return load(word)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if isinstance(error, UnsupportedAlgorithm) or "nknown" in str(error):  # cryptography's word for a cipher
                raise InputError(
                    f"the private key is encrypted in a way that cannot be read: {error}",
                    where=where,
                    do="Encrypt it anew: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE",
                ) from error
            failed = error
    if not password:
        raise InputError(
            "the private key is encrypted, and no password is given",
            where=where,
            do="Give its password (in the configuration: `signing.password: ${VARIABLE}`)",
        )
    raise InputError(
        "the private key cannot be decrypted: wrong password or damaged file",
        where=where,
        do="Give the password it was encrypted with (cosign reads it from COSIGN_PASSWORD)",
    ) from (failed if not isinstance(failed, UnicodeError) else None)


def _blocks(raw: bytes, where: str) -> list[Block]:
    try:
        blocks = read_blocks(raw)
    except ValueError as error:
        raise InputError(f"the key file cannot be read: {error}", where=where, do="Copy the file again") from error
    return blocks or _der(raw)


def _der(raw: bytes) -> list[Block]:
    """A file without PEM blocks as the block it would be; none when nothing is known about it."""
    text = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"ssh-", b"ecdsa-sha2-", b"sk-")):
        return [Block("SSH PUBLIC KEY", b"", 1)]
    if text.startswith(b"{") and b'"kty"' in text:
        return [Block("JWK", b"", 1)]
    if text.startswith(b"untrusted comment:"):
        return [Block("MINISIGN", b"", 1)]
    if not raw.startswith(b"\x30"):
        return []
    for label, load in _DER_FORMS:
        try:
            load(raw)
        except TypeError:  # encrypted, and no password was given: it is one
            return [Block("ENCRYPTED PRIVATE KEY", raw, 1)]
        except (ValueError, UnsupportedAlgorithm):
            continue
        return [Block(label, raw, 1)]
    # PFX ::= SEQUENCE { version INTEGER {v3(3)}, ... (RFC 7292), after a length of two bytes
    return [Block("PKCS12", b"", 1)] if raw[4:7] == b"\x02\x01\x03" else []


def _load_certificate(raw: bytes) -> object:
    from cryptography import x509  # 16 modules that keys themselves do not need

    return x509.load_der_x509_certificate(raw)


def _load_request(raw: bytes) -> object:
    from cryptography import x509

    return x509.load_der_x509_csr(raw)


_DER_FORMS: tuple[tuple[str, Callable[[bytes], object]], ...] = (
    ("PUBLIC KEY", serialization.load_der_public_key),
    ("PRIVATE KEY", lambda raw: serialization.load_der_private_key(raw, None)),
    ("CERTIFICATE", _load_certificate),
    ("CERTIFICATE REQUEST", _load_request),
)


def _as_pem(block: Block) -> bytes:
    lines = [
        f"-----BEGIN {block.label}-----",
        *block.headers,
        "",
        *textwrap.wrap(b64encode(block.content).decode(), 64),
    ]
    return "\n".join([*lines, f"-----END {block.label}-----", ""]).encode()


def _no_block(raw: bytes) -> str:
    return "the file has no PEM block" if raw.strip() else "the file is empty"


def _unreadable(half: str, block: str, error: Exception, where: str) -> InputError:
    return InputError(f"the {half} key cannot be read ({block}): {error}", where=where, do="Copy the file again")


def _kind(key: object) -> str:
    """What a key is, in words."""
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
