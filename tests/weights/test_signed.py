"""Signed weights by the command line: in folders, in a registry, through pulls, copies and attached to a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from registry_pipelines.evidence.keys import generate_key
from tests.chain.fleet import Fleet, start
from tests.needs import needed_module
from tests.weights.conftest import call, done


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ExitStack() as stack:
        yield start(tmp_path, stack)


@pytest.fixture
def keys(tmp_path: Path) -> Any:
    return generate_key(tmp_path / "signer.pem")


def test_a_folder_is_signed_and_refused_when_a_shard_changes(
    model: Callable[..., Path], keys: Any, tmp_path: Path
) -> None:
    needed_module("model_signing", "dev")
    from model_signing import verifying

    folder, public = model("m"), ("--signed", "--key", str(keys.public))
    made = done("sign", folder, "--key", str(keys.private))
    assert made["facts"]["files"] == 6 and made["facts"]["key_id"] == keys.key_id
    assert done("verify", folder, *public)["action"] == "6 files are as signed"
    verifying.Config().use_elliptic_key_verifier(public_key=keys.public).verify(folder, folder / "model.sig")
    shard = folder / "model-00002-of-00003.safetensors"
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    refused = call("verify", folder, *public)
    assert refused.exit_code == 3 and "model-00002-of-00003.safetensors has other content" in refused.stderr
    shard.write_bytes(raw)
    (folder / "model.sig").rename(tmp_path / "elsewhere.sig")
    assert call("verify", folder, *public).exit_code == 3
    done("verify", folder, *public, "--signature", str(tmp_path / "elsewhere.sig"))


@pytest.mark.parametrize("form", ["artifact", "image"])
def test_the_signature_beside_files_goes_along_into_a_registry(
    address: str, model: Callable[..., Path], keys: Any, tmp_path: Path, form: str
) -> None:
    """Whoever pushes a publisher's model has no key of the publisher."""
    folder, public = model("m"), ("--signed", "--key", str(keys.public))
    done("push", folder, f"{address}/m:1", "--form", form)
    done("sign", folder, "--key", str(keys.private))
    pushed = done("push", folder, f"{address}/m:1", "--form", form)
    assert pushed["changed"] and "their signature (model.sig) is attached" in pushed["notes"][0]
    assert done("push", folder, f"{address}/m:1", "--form", form)["action"] == "unchanged"
    assert done("verify", f"{address}/m:1", *public)["notes"][0].startswith("signed by ")
    (folder / "config.json").write_text("{}")
    changed = done("push", folder, f"{address}/m:2", "--form", form)
    assert "is not about exactly these files" in changed["notes"][0]
    assert call("verify", f"{address}/m:2", *public).exit_code == 3


def test_keys_of_other_curves_sign_in_a_registry(address: str, model: Callable[..., Path], tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "p384.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "p384.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    done("push", model("m"), f"{address}/m:1")
    assert done("sign", f"{address}/m:1", "--key", tmp_path / "p384.key")["action"] == "signed"
    assert done("sign", f"{address}/m:1", "--key", tmp_path / "p384.key")["action"] == "unchanged"
    done("verify", f"{address}/m:1", "--signed", "--key", tmp_path / "p384.pub")


def test_weights_of_a_release_are_signed_through_copies(
    fleet: Fleet, model: Callable[..., Path], tmp_path: Path, keys: Any
) -> None:
    """Signed where they were pushed: the release that they are attached to has the signature, and so has its copy."""
    folder, config = model("m"), ("--config", str(fleet.path))
    fleet.release("v1.0.0")
    done("push", folder, "us/models/m:1", *config)
    unsigned = call("verify", "us/models/m:1", "--signed", "--key", str(keys.public), *config)
    assert unsigned.exit_code == 3, unsigned.stderr
    assert "these weights are not signed: no signature is attached" in unsigned.stderr
    nobody = call("pull", "us/models/m:1", "--to", tmp_path / "x", "--signed", *config)
    assert nobody.exit_code == 8 and "no key of the configuration is here" in nobody.stderr
    pulled = call("pull", "us/models/m:1", "--to", tmp_path / "x", "--signed", "--key", keys.public, *config)
    assert pulled.exit_code == 3
    assert not (tmp_path / "x").exists()
    assert done("sign", "us/models/m:1", *config)["action"] == "signed"
    assert done("sign", "us/models/m:1", *config)["action"] == "unchanged"
    attached = done("attach", "app:v1.0.0", "us/models/m:1", *config)
    assert attached["facts"]["signatures"] == 1
    verified = done("verify", "app:v1.0.0", "--signed", *config)
    assert verified["notes"][0].startswith("signed by sha256:") and verified["facts"]["whole"] == 6
    other = call("verify", "app:v1.0.0", "--signed", "--key", str(keys.public), *config)
    assert other.exit_code == 3 and "was made by a trusted key" in other.stderr
    done("pull", "app:v1.0.0", "--to", tmp_path / "pulled", "--signed", *config)
    assert done("verify", tmp_path / "pulled", "--signed", *config)["action"] == "6 files are as signed"
    (tmp_path / "pulled/model.safetensors.index.json").write_text("{}")
    assert call("verify", tmp_path / "pulled", "--signed", *config).exit_code == 3


def test_what_is_asked_for_twice_or_by_nobody_is_said(model: Callable[..., Path], keys: Any) -> None:
    folder = model("m")
    for words, said in (
        (["verify", folder, "--key", keys.public], "Add --signed"),
        (["verify", folder, "--signature", "x"], "--signature is of a folder"),
        (["verify", folder, "--signed"], "nobody's signature counts"),
        (["sign", folder], "no key is named"),
        (["sign", "localhost/x:1", "--key", keys.private, "--follow-links"], "--follow-links is about folders"),
    ):
        refused = call(*words)
        assert refused.exit_code == 8 and said in refused.stderr, (words, refused.stderr)
