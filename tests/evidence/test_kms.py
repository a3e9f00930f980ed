"""Keys that never come here: AWS KMS (moto), a hardware module (SoftHSM), Vault's transit engine (a double)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry_pipelines.errors import (
    Forbidden,
    InputError,
    SignatureInvalid,
    ToolMissing,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.keys import KeySet, generate_key, load_signer, read_public_key
from registry_pipelines.evidence.kms import SCHEMES, KmsSigner
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import KMS
from registry_pipelines.sign.cosign import sign_image, verify_image
from tests.doubles.aws.behind import moto_address
from tests.doubles.aws.front import AwsDouble
from tests.doubles.vault import TOKEN, VaultDouble
from tests.evidence.parts import Cosign, Key
from tests.needs import missing, needed_module
from tests.patience import patient

LONG = b"x" * 5000
"""More than AWS KMS takes as it is (4,096 bytes)."""


def private_key(key: Key) -> ec.EllipticCurvePrivateKey:
    read = serialization.load_pem_private_key(key.path.read_bytes(), None)
    assert isinstance(read, ec.EllipticCurvePrivateKey)
    return read


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A key of AWS's KMS, as the double signs: its alias, and the file of its public half."""
    needed_module("securesystemslib", "kms")
    needed_module("moto", "dev")
    boto3 = needed_module("boto3", "kms")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials of whoever was first
        kms = boto3.client("kms")
        key_id = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/release", TargetKeyId=key_id)
        public = tmp_path / "kms.pub"
        public.write_bytes(kms.get_public_key(KeyId="alias/release")["PublicKey"])
        yield "awskms:alias/release", public


def test_the_double_signs_digests_as_they_are_and_moto_does_not(aws: tuple[str, Path]) -> None:
    import boto3

    public = read_public_key(aws[1])
    digest = hashlib.sha256(b"payload").digest()
    ask = {"KeyId": "alias/release", "SigningAlgorithm": "ECDSA_SHA_256"}

    def sign(kms: Any, message: bytes, kind: str) -> bytes:
        made: bytes = kms.sign(Message=message, MessageType=kind, **ask)["Signature"]
        return made

    kms = boto3.client("kms")
    for message, kind in ((digest, "DIGEST"), (b"payload", "RAW")):
        public.verify(sign(kms, message, kind), b"payload", ec.ECDSA(hashes.SHA256()))
    host, port = moto_address()
    plain = boto3.client("kms", endpoint_url=f"http://{host}:{port}")
    with pytest.raises(InvalidSignature):
        public.verify(sign(plain, digest, "DIGEST"), b"payload", ec.ECDSA(hashes.SHA256()))
    refused = kms.exceptions.ClientError
    for message, kind in ((LONG, "RAW"), (b"short", "DIGEST")):
        with pytest.raises(refused, match=r"4096 at most|invalid length"):
            sign(kms, message, kind)
    with pytest.raises(refused, match="KMSInvalidSignature"):
        kms.verify(Message=b"other", MessageType="RAW", Signature=sign(kms, b"payload", "RAW"), **ask)


def test_a_key_in_aws_signs_releases(aws: tuple[str, Path], place: Place, image: Descriptor, cosign: Cosign) -> None:
    address, public = aws
    signer, verifier = KmsSigner(address, read_public_key(public)), KeySet([read_public_key(public)])
    signs_releases(signer, verifier, place, image)
    pem = public.with_suffix(".pem")
    pem.write_bytes(signer.public_key_pem)
    verified = cosign.verify(pem, f"{place}@{image.digest}")
    assert verified.returncode == 0, verified.stderr


def signs_releases(signer: KmsSigner, verifier: KeySet, place: Place, image: Descriptor) -> None:
    """The signature of an image and of an attestation, each read back."""
    assert verifier.verify(LONG, signer.sign(LONG)) == signer.key_id
    sign_image(place, image, signer, identity=str(place))
    attest(place, image, "https://slsa.dev/provenance/v1", {"x": "y" * 5000}, signer)
    assert {each.form for each in verify_image(place, image.digest, verifier).signatures} == {"sig", "bundle"}
    assert len(read_attestations(place, image.digest, verifier).verified) == 2


GOOGLE_KEY = "projects/ml-prod/locations/global/keyRings/release/cryptoKeys/images"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: Key) -> Iterator[Any]:
    """Google's KMS by gRPC, with the test's key as GOOGLE_KEY; securesystemslib makes its client with no address."""
    needed_module("securesystemslib", "kms")
    kms = needed_module("google.cloud.kms", "google")
    from google.cloud.kms_v1.services.key_management_service.transports.grpc import KeyManagementServiceGrpcTransport

    from tests.doubles.google import GoogleCloud
    from tests.doubles.google.services.kms import add_key

    with GoogleCloud(tmp_path / "google") as cloud:
        add_key(cloud.world, GOOGLE_KEY, private_key(key))
        client = kms.KeyManagementServiceClient(transport=KeyManagementServiceGrpcTransport(channel=cloud.channel()))
        monkeypatch.setattr(kms, "KeyManagementServiceClient", lambda: client)
        yield cloud


def test_a_key_in_google_signs_releases(google: Any, key: Key, place: Place, image: Descriptor) -> None:
    signer = KmsSigner(f"gcpkms:{GOOGLE_KEY}/cryptoKeyVersions/1", read_public_key(key.public))
    signs_releases(signer, KeySet([read_public_key(key.public)]), place, image)
    assert google.world.calls["AsymmetricSign"] >= 3


def test_what_google_refuses_is_said(google: Any, key: Key, other_key: Key) -> None:
    from google.cloud.kms_v1 import CryptoKeyVersion

    from tests.doubles.google import Refusal
    from tests.doubles.google.services.kms import Kms

    public = read_public_key(key.public)
    version = f"{GOOGLE_KEY}/cryptoKeyVersions/1"
    signer = KmsSigner(f"gcpkms:{version}", public)
    with pytest.raises(InputError, match="NotFound"):
        KmsSigner(f"gcpkms:{GOOGLE_KEY}/cryptoKeyVersions/2", public).sign(b"x")
    with pytest.raises(SignatureInvalid, match="`public` names"):
        KmsSigner(f"gcpkms:{version}", read_public_key(other_key.public)).sign(b"x")
    google.world.deny("cloudkms.cryptoKeyVersions.useToSign")
    with pytest.raises(Forbidden, match=r"cloudkms\.signer"):
        signer.sign(b"x")
    google.world.denied.clear()
    google.world.fail("AsymmetricSign", Refusal("RESOURCE_EXHAUSTED", "Quota exceeded"))
    with pytest.raises(Unavailable, match="Quota"):
        signer.sign(b"x")
    state = google.world.state(Kms)
    state.broken_signatures = True
    with pytest.raises(SignatureInvalid):
        signer.sign(b"x")
    state.broken_signatures = False
    state.versions[version].state = CryptoKeyVersion.CryptoKeyVersionState.DISABLED
    with pytest.raises(InputError, match="not enabled"):
        signer.sign(b"x")


def test_another_public_half_is_not_the_keys(aws: tuple[str, Path], other_key: Key) -> None:
    with pytest.raises(SignatureInvalid, match="`public` names"):
        KmsSigner(aws[0], read_public_key(other_key.public)).sign(b"x")


@pytest.mark.parametrize("address", ["awskms:alias/none", "awskms:12345678-1234-1234-1234-123456789012"])
def test_what_aws_refuses_is_said(aws: tuple[str, Path], address: str) -> None:
    with pytest.raises(InputError, match="the key service did not sign: NotFoundException"):
        KmsSigner(address, read_public_key(aws[1])).sign(b"x")


def test_a_key_that_is_switched_off_is_said(aws: tuple[str, Path]) -> None:
    import boto3

    boto3.client("kms").disable_key(
        KeyId=boto3.client("kms").describe_key(KeyId="alias/release")["KeyMetadata"]["KeyId"]
    )
    with pytest.raises(InputError, match="DisabledException"):
        KmsSigner(aws[0], read_public_key(aws[1])).sign(b"x")


def test_no_credentials_of_aws(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    needed_module("securesystemslib", "kms")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr(needed_module("boto3", "kms"), "DEFAULT_SESSION", None)
    with pytest.raises(Unauthorized, match="NoCredentialsError"):
        KmsSigner("awskms:alias/release", read_public_key(key.public)).sign(b"x")


@pytest.fixture
def vault(key: Key, monkeypatch: pytest.MonkeyPatch) -> Iterator[VaultDouble]:
    needed_module("hvac", "kms")
    with VaultDouble(private_key(key)) as double:
        monkeypatch.setenv("VAULT_ADDR", double.address)
        monkeypatch.setenv("VAULT_TOKEN", TOKEN)
        yield double


@pytest.mark.usefixtures("vault")
def test_a_key_in_vault_signs(key: Key) -> None:
    signer = KmsSigner("hv:release/1", read_public_key(key.public))
    assert key.verifier.verify(LONG, signer.sign(LONG)) == key.signer.key_id == signer.key_id


@pytest.mark.usefixtures("vault")
def test_what_vault_refuses_is_said(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    public = read_public_key(key.public)
    with pytest.raises(InputError, match="signing key not found"):
        KmsSigner("hv:other/1", public).sign(b"x")
    with pytest.raises(InputError, match="higher than the latest"):
        KmsSigner("hv:release/2", public).sign(b"x")
    monkeypatch.setenv("VAULT_TOKEN", "wrong")
    with pytest.raises(Forbidden, match="permission denied"):
        KmsSigner("hv:release/1", public).sign(b"x")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="ConnectionError"):
        KmsSigner("hv:release/1", public).sign(b"x")


@pytest.fixture(scope="session")
def token(make_key: Callable[[str], Key], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SoftHSM token with our key in slot 9c's id; its address. The library reads its settings once in a process."""
    needed_module("pkcs11", "kms")
    library = next((path for path in SOFTHSM if path.exists()), None)
    if library is None:
        missing("softhsm2 is not installed (.ci/install-peers installs it on Debian)")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    pkcs8 = folder / "key.pem"
    pkcs8.write_bytes(make_key("ours").path.read_bytes())
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
    patch.setenv("PYKCS11LIB", str(library))
    util = ["softhsm2-util", "--pin", PIN]
    for more in (
        ["--init-token", "--free", "--label", "release token", "--so-pin", "87654321"],
        ["--import", str(pkcs8), "--token", "release token", "--label", "release", "--id", "02"],
    ):
        subprocess.run([*util, *more], check=True, capture_output=True, timeout=patient(60))
    yield "hsm:2?label=release+token"
    patch.undo()


PIN = "987612"
SOFTHSM = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]


def test_a_hardware_module_signs(token: str, key: Key) -> None:
    signer = KmsSigner(token, read_public_key(key.public), pin=PIN)
    assert key.verifier.verify(LONG, signer.sign(LONG)) == key.signer.key_id


def test_what_a_hardware_module_refuses_is_said_without_the_pin(token: str, key: Key) -> None:
    public = read_public_key(key.public)
    with pytest.raises(InputError, match="PinIncorrect") as caught:
        KmsSigner(token, public, pin="111222333").sign(b"x")
    assert "111222333" not in str(caught.value)
    with pytest.raises(InputError, match="could not find ECDSA private key"):
        KmsSigner(token.replace("hsm:2", "hsm:3"), public, pin=PIN).sign(b"x")
    with pytest.raises(InputError, match="No PKCS#11 token found for label other"):
        KmsSigner("hsm:2?label=other", public, pin=PIN).sign(b"x")


def test_without_the_extra_it_is_said_what_is_missing(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    public = read_public_key(key.public)
    monkeypatch.setitem(sys.modules, "google.cloud.kms", None)
    for scheme in SCHEMES:
        monkeypatch.setitem(sys.modules, "securesystemslib", None)
        with pytest.raises(ToolMissing, match=f"what signs with {scheme} is not installed") as caught:
            KmsSigner(f"{scheme}:x", public).sign(b"x")
        assert "registry-pipelines[" in caught.value.do and "kms]" in caught.value.do


def test_a_client_that_is_no_part_of_the_extra_is_named(key: Key) -> None:
    needed_module("securesystemslib", "kms")
    with pytest.raises(ToolMissing, match="what signs with azurekms is not installed") as caught:
        KmsSigner("azurekms://v.vault.azure.net/keys/k/1", read_public_key(key.public)).sign(b"x")
    assert "securesystemslib[azurekms]" in caught.value.do


@pytest.mark.parametrize(
    "address",
    [
        "awskms:alias/release",
        "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "azurekms://v.vault.azure.net/keys/k/1",
        "hv:release/1",
        "hsm:",
        "hsm:2?label=YubiKey+PIV+%2315835999",
    ],
)
def test_addresses_of_keys(address: str) -> None:
    assert KMS.check(address) == address


@pytest.mark.parametrize("address", ["", "release", "awskms:", "awskms:a b", "hv:release", "gcpkms:projects/x"])
def test_what_is_no_address_of_a_key(address: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a key"):
        KMS.check(address)


def test_a_public_half_is_one_key(tmp_path: Path, key: Key) -> None:
    two = tmp_path / "two.pub"
    two.write_bytes(key.public.read_bytes() * 2)
    with pytest.raises(InputError, match="2 public keys, and one is wanted"):
        read_public_key(two)
    assert load_signer(generate_key(tmp_path / "k.key").private).key_id
