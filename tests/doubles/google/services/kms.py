"""google.cloud.kms.v1.KeyManagementService, as far as signing needs it: keys, versions, public halves, signatures."""

from __future__ import annotations

from dataclasses import dataclass, field

import google_crc32c
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from google.cloud import kms_v1 as api
from google.cloud.kms_v1.services.key_management_service.transports import rest_base
from google.cloud.kms_v1.services.key_management_service.transports.grpc import KeyManagementServiceGrpcTransport

from tests.doubles.google.contract import read_methods
from tests.doubles.google.doors import Service
from tests.doubles.google.services import iam_policy
from tests.doubles.google.world import Refusal, World, page

_Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_A = api.CryptoKeyVersion.CryptoKeyVersionAlgorithm
_S = api.CryptoKeyVersion.CryptoKeyVersionState
_HASHES = {
    _A.EC_SIGN_P256_SHA256: ("sha256", hashes.SHA256()),
    _A.EC_SIGN_P384_SHA384: ("sha384", hashes.SHA384()),
    _A.RSA_SIGN_PSS_2048_SHA256: ("sha256", hashes.SHA256()),
    _A.RSA_SIGN_PSS_3072_SHA256: ("sha256", hashes.SHA256()),
    _A.RSA_SIGN_PKCS1_2048_SHA256: ("sha256", hashes.SHA256()),
}


@dataclass
class Kms:
    """Rings, keys and versions by resource name, with the private halves of the versions."""

    rings: dict[str, api.KeyRing] = field(default_factory=dict)
    keys: dict[str, api.CryptoKey] = field(default_factory=dict)
    versions: dict[str, api.CryptoKeyVersion] = field(default_factory=dict)
    private: dict[str, _Private] = field(default_factory=dict)
    broken_signatures: bool = False
    """Signatures are damaged on the way, and their checksum tells."""


def create_key_ring(world: World, request: api.CreateKeyRingRequest) -> api.KeyRing:
    state = world.state(Kms)
    name = f"{request.parent}/keyRings/{request.key_ring_id}"
    if name in state.rings:
        raise Refusal("ALREADY_EXISTS", f"KeyRing {name} already exists.")
    state.rings[name] = api.KeyRing(name=name, create_time=world.stamp())
    return state.rings[name]


def create_crypto_key(world: World, request: api.CreateCryptoKeyRequest) -> api.CryptoKey:
    state = world.state(Kms)
    if request.parent not in state.rings:
        raise Refusal("NOT_FOUND", f"KeyRing {request.parent} not found.")
    name = f"{request.parent}/cryptoKeys/{request.crypto_key_id}"
    if name in state.keys:
        raise Refusal("ALREADY_EXISTS", f"CryptoKey {name} already exists.")
    made = api.CryptoKey()
    api.CryptoKey.copy_from(made, request.crypto_key)
    if made.purpose != api.CryptoKey.CryptoKeyPurpose.ASYMMETRIC_SIGN:
        raise Refusal("UNIMPLEMENTED", "the double has keys that sign, and no others")
    if made.version_template.algorithm not in _HASHES:
        raise Refusal("INVALID_ARGUMENT", "crypto_key.version_template.algorithm: required for ASYMMETRIC_SIGN")
    made.name, made.create_time = name, world.stamp()
    state.keys[name] = made
    if not request.skip_initial_version_creation:
        _add_version(world, made)
    return made


def _add_version(world: World, key: api.CryptoKey, private: _Private | None = None) -> api.CryptoKeyVersion:
    state = world.state(Kms)
    number = 1 + sum(1 for name in state.versions if name.startswith(key.name + "/"))
    name = f"{key.name}/cryptoKeyVersions/{number}"
    algorithm = key.version_template.algorithm
    if private is None and "P256" in algorithm.name:
        private = ec.generate_private_key(ec.SECP256R1())
    elif private is None and "P384" in algorithm.name:
        private = ec.generate_private_key(ec.SECP384R1())
    elif private is None:
        private = rsa.generate_private_key(65537, 3072 if "3072" in algorithm.name else 2048)
    state.private[name] = private
    state.versions[name] = api.CryptoKeyVersion(
        name=name, state=_S.ENABLED, algorithm=algorithm, create_time=world.stamp()
    )
    return state.versions[name]


def add_key(world: World, name: str, private: _Private | None = None) -> str:
    """A key of P-256 that signs, ``projects/P/locations/L/keyRings/R/cryptoKeys/K``; the name of its version 1."""
    state = world.state(Kms)
    ring = name.partition("/cryptoKeys/")[0]
    state.rings.setdefault(ring, api.KeyRing(name=ring))
    key = api.CryptoKey(name=name, purpose=api.CryptoKey.CryptoKeyPurpose.ASYMMETRIC_SIGN)
    key.version_template.algorithm = _A.EC_SIGN_P256_SHA256
    state.keys[name] = key
    return str(_add_version(world, key, private).name)


def create_version(world: World, request: api.CreateCryptoKeyVersionRequest) -> api.CryptoKeyVersion:
    return _add_version(world, _key(world, request.parent))


def get_crypto_key(world: World, request: api.GetCryptoKeyRequest) -> api.CryptoKey:
    return _key(world, request.name)


def list_crypto_key_versions(
    world: World, request: api.ListCryptoKeyVersionsRequest
) -> api.ListCryptoKeyVersionsResponse:
    _key(world, request.parent)
    kept = world.state(Kms).versions
    found = [kept[name] for name in sorted(kept) if name.startswith(f"{request.parent}/")]
    part, after = page(found, request.page_size, request.page_token)
    return api.ListCryptoKeyVersionsResponse(crypto_key_versions=part, next_page_token=after, total_size=len(found))


def _key(world: World, name: str) -> api.CryptoKey:
    if name not in world.state(Kms).keys:
        raise Refusal("NOT_FOUND", f"CryptoKey {name} not found.")
    return world.state(Kms).keys[name]


def list_keys(world: World, request: api.ListCryptoKeysRequest) -> api.ListCryptoKeysResponse:
    keys = world.state(Kms).keys
    found = [keys[name] for name in sorted(keys) if name.startswith(request.parent + "/")]
    part, after = page(found, request.page_size, request.page_token)
    return api.ListCryptoKeysResponse(crypto_keys=part, next_page_token=after, total_size=len(found))


def update_version(world: World, request: api.UpdateCryptoKeyVersionRequest) -> api.CryptoKeyVersion:
    version = _version(world, request.crypto_key_version.name)
    if list(request.update_mask.paths) != ["state"]:
        raise Refusal("INVALID_ARGUMENT", "update_mask: only `state` can be changed")
    version.state = request.crypto_key_version.state
    return version


def get_version(world: World, request: api.GetCryptoKeyVersionRequest) -> api.CryptoKeyVersion:
    return _version(world, request.name)


def _version(world: World, name: str) -> api.CryptoKeyVersion:
    if name not in world.state(Kms).versions:
        raise Refusal("NOT_FOUND", f"CryptoKeyVersion {name} not found.")
    return world.state(Kms).versions[name]


def _enabled(world: World, name: str) -> api.CryptoKeyVersion:
    version = _version(world, name)
    if version.state != _S.ENABLED:
        raise Refusal(
            "FAILED_PRECONDITION",
            f"{name} is not enabled, current state is: {version.state.name}.",
            reason="KEY_DISABLED",
        )
    return version


def get_public_key(world: World, request: api.GetPublicKeyRequest) -> api.PublicKey:
    version = _enabled(world, request.name)
    pem = (
        world.state(Kms)
        .private[request.name]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    made = api.PublicKey(
        name=request.name, pem=pem.decode(), algorithm=version.algorithm, pem_crc32c=google_crc32c.value(pem)
    )
    if request.public_key_format:
        if request.public_key_format != api.PublicKey.PublicKeyFormat.PEM:
            raise Refusal("INVALID_ARGUMENT", "public_key_format: only PEM for this algorithm")
        made.public_key_format = request.public_key_format
        made.public_key = api.ChecksummedData(data=pem, crc32c_checksum=google_crc32c.value(pem))
    return made


def asymmetric_sign(world: World, request: api.AsymmetricSignRequest) -> api.AsymmetricSignResponse:
    """Signs the digest as it is: hashing is the client's, and the digest must be of the key's own algorithm."""
    version = _enabled(world, request.name)
    name, algorithm = _HASHES[version.algorithm]
    kind = api.Digest.pb(request.digest).WhichOneof("digest")
    if kind != name:
        raise Refusal("INVALID_ARGUMENT", f"digest: the algorithm {version.algorithm.name} takes {name}, not {kind}")
    value = getattr(request.digest, name)
    if len(value) != algorithm.digest_size:
        raise Refusal("INVALID_ARGUMENT", f"digest: {len(value)} bytes are no {name}")
    if request.digest_crc32c is not None and request.digest_crc32c != google_crc32c.value(value):
        raise Refusal("INVALID_ARGUMENT", "digest_crc32c: the checksum does not match")
    private = world.state(Kms).private[request.name]
    if isinstance(private, ec.EllipticCurvePrivateKey):
        signature = private.sign(value, ec.ECDSA(Prehashed(algorithm)))
    else:
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        form = padding.PKCS1v15() if "PKCS1" in version.algorithm.name else pss
        signature = private.sign(value, form, Prehashed(algorithm))
    checksum = google_crc32c.value(signature)
    if world.state(Kms).broken_signatures:
        signature = bytes([signature[0], *signature[1:-1], signature[-1] ^ 1])
    return api.AsymmetricSignResponse(
        signature=signature,
        signature_crc32c=checksum,
        verified_digest_crc32c=request.digest_crc32c is not None,
        name=request.name,
        protection_level=api.ProtectionLevel.SOFTWARE,
    )


SERVICE = Service(
    "kms",
    read_methods(KeyManagementServiceGrpcTransport, rest_base._BaseKeyManagementServiceRestTransport),
    {
        "CreateKeyRing": create_key_ring,
        "CreateCryptoKey": create_crypto_key,
        "CreateCryptoKeyVersion": create_version,
        "GetCryptoKey": get_crypto_key,
        "ListCryptoKeyVersions": list_crypto_key_versions,
        "ListCryptoKeys": list_keys,
        "GetCryptoKeyVersion": get_version,
        "UpdateCryptoKeyVersion": update_version,
        "GetPublicKey": get_public_key,
        "AsymmetricSign": asymmetric_sign,
        **iam_policy.HANDLERS,
    },
    {
        "GetPublicKey": "cloudkms.cryptoKeyVersions.viewPublicKey",
        "AsymmetricSign": "cloudkms.cryptoKeyVersions.useToSign",
        "GetCryptoKey": "cloudkms.cryptoKeys.get",
        "ListCryptoKeys": "cloudkms.cryptoKeys.list",
    },
)
