"""Keys that never come here: AWS KMS (moto), a hardware module (SoftHSM), Vault's transit engine (a double)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

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
    """A key in moto's KMS as moto signs: its alias, and the file of its public half."""
    needed_module("securesystemslib", "kms")
    moto = needed_module("moto", "dev")
    boto3 = needed_module("boto3", "kms")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with moto.mock_aws():
        kms = boto3.client("kms")
        key_id = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/release", TargetKeyId=key_id)
        public = tmp_path / "kms.pub"
        public.write_bytes(kms.get_public_key(KeyId="alias/release")["PublicKey"])
        yield "awskms:alias/release", public


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS signs what it gets as DIGEST; moto 5.2.5 hashes it once more."""
    from moto.kms.utils import ECDSAPrivateKey

    def sign(self: ECDSAPrivateKey, message: bytes, _algorithm: str) -> bytes:
        assert len(message) == hashlib.sha256().digest_size
        made: bytes = self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
        return made

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)


@pytest.mark.usefixtures("digests")
def test_a_key_in_aws_signs_releases(aws: tuple[str, Path], place: Place, image: Descriptor, cosign: Cosign) -> None:
    address, public = aws
    signer, verifier = KmsSigner(address, read_public_key(public)), KeySet([read_public_key(public)])
    assert verifier.verify(LONG, signer.sign(LONG)) == signer.key_id
    sign_image(place, image, signer, identity=str(place))
    attest(place, image, "https://slsa.dev/provenance/v1", {"x": "y" * 5000}, signer)
    assert {each.form for each in verify_image(place, image.digest, verifier).signatures} == {"sig", "bundle"}
    assert len(read_attestations(place, image.digest, verifier).verified) == 2
    pem = public.with_suffix(".pem")
    pem.write_bytes(signer.public_key_pem)
    verified = cosign.verify(pem, f"{place}@{image.digest}")
    assert verified.returncode == 0, verified.stderr


def test_a_signature_that_its_public_half_does_not_verify_is_not_used(aws: tuple[str, Path]) -> None:
    address, public = aws
    with pytest.raises(SignatureInvalid, match="does not verify with the public half"):
        KmsSigner(address, read_public_key(public)).sign(b"x")


@pytest.mark.usefixtures("digests")
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
    with pytest.raises((InputError, SignatureInvalid)):
        KmsSigner(aws[0], read_public_key(aws[1])).sign(b"x")


def test_no_credentials_of_aws(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    needed_module("securesystemslib", "kms")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
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
        assert "registry-pipelines[kms]" in caught.value.do


@pytest.mark.parametrize(
    "address",
    [
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "azurekms://v.vault.azure.net/keys/k/1",
    ],
)
def test_clients_that_are_no_part_of_the_extra_are_named(key: Key, address: str) -> None:
    needed_module("securesystemslib", "kms")
    scheme = address.partition(":")[0]
    with pytest.raises(ToolMissing, match=f"what signs with {scheme} is not installed") as caught:
        KmsSigner(address, read_public_key(key.public)).sign(b"x")
    assert f"securesystemslib[{scheme}]" in caught.value.do


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
