"""cosign's encrypted private keys: PEM over JSON over scrypt and NaCl secretbox over PKCS#8.

Format as written by cosign 2.5.0 and 3.1.1 (``cosign generate-key-pair``), which use go-securesystemslib's
``encrypted`` package.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.decoding import ready

PEM_TYPE = "ENCRYPTED SIGSTORE PRIVATE KEY"
PEM_TYPES = (PEM_TYPE, "ENCRYPTED COSIGN PRIVATE KEY")
"""cosign before 2.0 wrote the second."""

SCRYPT_N, SCRYPT_R, SCRYPT_P = 65536, 8, 1
"""What cosign 3.1.1 writes."""
MAX_SCRYPT_MEMORY = 256 * 1024 * 1024
"""scrypt needs 128 * N * r bytes; a key file may not ask for more than four times cosign's 64 MiB."""
MAX_SCRYPT_P = 8


class _Params(msgspec.Struct):
    n: int = msgspec.field(name="N")
    r: int
    p: int


class _Kdf(msgspec.Struct):
    name: str
    params: _Params
    salt: bytes


class _Cipher(msgspec.Struct):
    name: str
    nonce: bytes


class _Box(msgspec.Struct):
    kdf: _Kdf
    cipher: _Cipher
    ciphertext: bytes


def encrypt_cosign_key(pkcs8_der: bytes, password: str) -> bytes:
    """The PEM file that ``cosign sign --key`` reads. password: may be empty, as cosign permits."""
    import nacl.secret

    salt, nonce = os.urandom(32), os.urandom(nacl.secret.SecretBox.NONCE_SIZE)
    params = _Params(SCRYPT_N, SCRYPT_R, SCRYPT_P)
    box = nacl.secret.SecretBox(_derive(password, salt, params))
    sealed = box.encrypt(pkcs8_der, nonce).ciphertext
    document = _Box(_Kdf("scrypt", params, salt), _Cipher("nacl/secretbox", nonce), sealed)
    lines = textwrap.wrap(base64.b64encode(msgspec.json.encode(document)).decode(), 64)
    return "\n".join([f"-----BEGIN {PEM_TYPE}-----", *lines, f"-----END {PEM_TYPE}-----", ""]).encode()


def decrypt_cosign_key(body: bytes, password: str, *, where: str = "") -> bytes:
    """The PKCS#8 DER inside. body: the PEM block's content, a JSON document.

    Raises ValueError for a password that does not fit (or a damaged file: the cipher cannot tell), InputError for a
    document that no password opens. No text holds key material or the password.
    """
    import nacl.exceptions
    import nacl.secret

    try:
        box = msgspec.json.decode(body, type=ready(_Box))
    except msgspec.MsgspecError as error:
        raise InputError("the encrypted cosign key is not readable", where=where, do="Copy the file again") from error
    if (box.kdf.name, box.cipher.name) != ("scrypt", "nacl/secretbox"):
        raise InputError("the cosign key uses another encryption than scrypt with nacl/secretbox", where=where)
    params = box.kdf.params
    in_range = params.n > 1 and params.n & (params.n - 1) == 0 and params.r > 0 and 0 < params.p <= MAX_SCRYPT_P
    if not in_range or 128 * params.n * params.r > MAX_SCRYPT_MEMORY:
        asked = f"N={params.n}, r={params.r}, p={params.p}"
        raise InputError(f"the cosign key asks for scrypt with {asked}, which is out of range", where=where)
    if len(box.cipher.nonce) != nacl.secret.SecretBox.NONCE_SIZE:
        raise InputError("the encrypted cosign key is damaged: its nonce", where=where, do="Copy the file again")
    secret = nacl.secret.SecretBox(_derive(password, box.kdf.salt, params))
    try:
        return bytes(secret.decrypt(box.ciphertext, box.cipher.nonce))
    except nacl.exceptions.CryptoError as error:
        raise ValueError("wrong password or damaged file") from error


def _derive(password: str, salt: bytes, params: _Params) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=params.n, r=params.r, p=params.p, dklen=32, maxmem=MAX_SCRYPT_MEMORY + 2**20
    )
