"""The keys of a configuration: in files and in key services, and those that ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry_pipelines.chain.keys import Keyring, trusted_keys
from registry_pipelines.config import load
from registry_pipelines.errors import InputError, KeyRefused
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.evidence.predicates import ROLES
from tests.doubles.vault import TOKEN, VaultDouble
from tests.needs import needed_module


def keyring(folder: Path, signing: str) -> Keyring:
    path = folder / "registry-pipelines.yaml"
    path.write_text(f"registries: {{here: {{kind: embedded, port: 5501}}}}\nsigning: {{{signing}}}\n")
    return Keyring(load(path, {}))


def test_one_role_signs_in_a_service_and_the_others_with_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("hvac", "kms")
    ours, theirs = generate_key(tmp_path / "ours.key"), generate_key(tmp_path / "theirs.key")
    keys = keyring(tmp_path, "key: ours.key, scanner: {kms: 'hv:release/1', public: theirs.pub}")
    signers = keys.signers()
    assert {role: signer.key_id for role, signer in signers.items()} == {
        role: theirs.key_id if role == "scanner" else ours.key_id for role in ROLES
    }
    assert keys.signer("scanner") is signers["scanner"]
    private = serialization.load_pem_private_key(theirs.private.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    with VaultDouble(private) as vault:
        monkeypatch.setenv("VAULT_ADDR", vault.address)
        monkeypatch.setenv("VAULT_TOKEN", TOKEN)
        signature = signers["scanner"].sign(b"report")
    trusted = keys.trusted()
    assert trusted.verify(b"report", signature) == theirs.key_id
    assert trusted.believed("https://cyclonedx.org/bom") == (theirs.key_id,)


def test_nothing_is_signed_with_a_key_that_nobody_believes(tmp_path: Path) -> None:
    ours = generate_key(tmp_path / "ours.key")
    generate_key(tmp_path / "next.key")
    (tmp_path / "revoked.txt").write_text(f"{ours.key_id} lost\n")
    for told, why in (
        ("key: ours.key, revoked: revoked.txt", "is revoked \\(lost\\)"),
        ("key: ours.key, retired: [{key: ours.pub, until: 2020-01-01}]", "was believed until 2020-01-01"),
        ("kms: 'hv:a/1', public: ours.pub, revoked: revoked.txt", "is revoked"),
    ):
        keys = keyring(tmp_path, told)
        for ask in (lambda keys=keys: keys.signer("person"), lambda keys=keys: keys.at_hand("builder")):
            with pytest.raises(InputError, match=why):
                ask()
    after = keyring(tmp_path, "key: next.key, trusted: [next.pub, ours.pub], revoked: revoked.txt")
    signature = keyring(tmp_path, "key: ours.key").signer("person").sign(b"x")
    assert after.signer("person").key_id != ours.key_id
    with pytest.raises(KeyRefused, match="is revoked"):
        after.trusted().verify(b"x", signature)
    looked = after.trusted_if_any()
    assert looked is not None and ours.key_id not in looked.key_ids


def test_a_key_that_was_changed_is_believed_until_its_day(tmp_path: Path) -> None:
    old, new = generate_key(tmp_path / "old.key"), generate_key(tmp_path / "new.key")
    signature = keyring(tmp_path, "key: old.key").signer("person").sign(b"x")
    for day, believed in (("2999-01-01", True), ("2020-01-01", False)):
        keys = keyring(tmp_path, f"key: new.key, retired: [{{key: old.pub, until: {day}}}]")
        assert keys.signer("person").key_id == new.key_id
        assert (old.key_id in trusted_keys(load(tmp_path / "registry-pipelines.yaml", {})).key_ids) is believed
        if believed:
            assert keys.trusted().verify(b"x", signature) == old.key_id


def test_a_side_with_the_key_of_one_role_alone_believes_it_and_nobody_else(tmp_path: Path) -> None:
    ours = generate_key(tmp_path / "ours.key")
    keys = keyring(tmp_path, "promoter: {key: ours.key}")
    for trusted in (keys.trusted(), keys.trusted_if_any()):
        assert trusted is not None and trusted.key_ids == (ours.key_id,)
        assert trusted.believed("https://cyclonedx.org/bom") == ()
    general = generate_key(tmp_path / ".registry-pipelines" / "keys" / "signing.key")
    assert keys.trusted().believed("https://cyclonedx.org/bom") == (general.key_id,)
    with pytest.raises(InputError, match=r"lost\.pub"):  # what is written must be there
        keyring(tmp_path, "key: lost.key, promoter: {key: ours.key}").trusted()
