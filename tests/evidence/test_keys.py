"""Key files: made once, read back in every form, never overwritten, silent about secrets."""

from __future__ import annotations

import base64
import errno
import functools
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, LocalError, SignatureInvalid
from registry_pipelines.evidence.bounds import MAX_KEY_BYTES
from registry_pipelines.evidence.cosign_key import MAX_SCRYPT_P, encrypt_cosign_key
from registry_pipelines.evidence.key_files import read_public_keys
from registry_pipelines.evidence.keys import KeySet, generate_key, load_signer, load_verifier, verifier_of
from tests.evidence.parts import Cosign, Key

PASSWORD = "correct horse"


@pytest.mark.parametrize("form", ["pkcs8", "cosign"])
@pytest.mark.parametrize("password", ["", PASSWORD])
def test_a_new_pair_signs_and_verifies(tmp_path: Path, form: Any, password: str) -> None:
    files = generate_key(tmp_path / "team" / "release.key", password=password, form=form)
    signer = load_signer(files.private, password)
    assert files.public == tmp_path / "team" / "release.pub"
    assert signer.key_id == files.key_id == load_verifier([files.public]).verify(b"x", signer.sign(b"x"))
    assert stat.S_IMODE(files.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.public.stat().st_mode) == 0o644
    assert sorted(item.name for item in files.private.parent.iterdir()) == ["release.key", "release.pub"]
    assert repr(signer) == f"FileSigner({files.key_id})"


@pytest.mark.parametrize("existing", ["release.key", "release.pub"])
def test_a_key_is_never_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(InputError, match="never overwritten"):
        generate_key(tmp_path / "release.key")
    assert [item.read_text() for item in tmp_path.iterdir()] == ["precious"]


def test_a_key_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "release.key"
    target.write_text("precious")
    monkeypatch.setattr(Path, "exists", lambda _self: False)
    with pytest.raises(InputError, match="never overwritten"):
        generate_key(target)
    assert target.read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="no key can be written there"):
        generate_key(tmp_path / "file" / "release.key")


def test_a_folder_without_hard_links_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(LocalError, match="cannot be written: Operation not permitted"):
        generate_key(tmp_path / "release.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["pkcs8", "cosign"])
@pytest.mark.parametrize("wrong", ["", "wrong"])
def test_a_wrong_password_says_so_and_no_secret(tmp_path: Path, form: Any, wrong: str) -> None:
    files = generate_key(tmp_path / "release.key", password=PASSWORD, form=form)
    with pytest.raises(InputError, match=r"password|encrypted") as caught:
        load_signer(files.private, wrong)
    assert PASSWORD not in str(caught.value)
    assert "wrong-" not in str(caught.value)
    assert str(files.private) in str(caught.value)


def test_a_password_for_a_plain_key_is_not_needed(tmp_path: Path) -> None:
    files = generate_key(tmp_path / "release.key")
    assert load_signer(files.private, "unused").key_id == files.key_id


def test_only_p256_is_taken(tmp_path: Path) -> None:
    for number, key in enumerate((ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate())):
        private, public = tmp_path / f"{number}.key", tmp_path / f"{number}.pub"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        with pytest.raises(InputError, match="not an ECDSA P-256 key"):
            load_signer(private)
        with pytest.raises(InputError, match="not an ECDSA P-256 key"):
            load_verifier([public])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (MAX_KEY_BYTES + 1))
    for path, reason in ((tmp_path / "none", "cannot be read"), (large, "at most")):
        with pytest.raises(InputError, match=reason) as caught:
            load_signer(path)
        assert caught.value.where == str(path)
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(InputError, match="not a PEM public key"):
        load_verifier([text])
    with pytest.raises(InputError, match="cannot be read"):
        load_signer(text)


def test_no_key_at_all_believes_nothing() -> None:
    with pytest.raises(InputError, match="no trusted public key"):
        KeySet([])


def test_any_of_several_trusted_keys_is_believed(make_key: Callable[[str], Key]) -> None:
    one, two, three = (make_key(name) for name in ("one", "two", "three"))
    verifier = load_verifier([one.public, two.public])
    assert verifier.key_ids == (one.signer.key_id, two.signer.key_id)
    assert verifier.verify(b"x", two.signer.sign(b"x")) == two.signer.key_id
    for payload, signature in (
        (b"x", three.signer.sign(b"x")),
        (b"y", two.signer.sign(b"x")),
        (b"x", b""),
        (b"x", b"\x30" * 1000),
    ):
        with pytest.raises(SignatureInvalid):
            verifier.verify(payload, signature)


@given(st.integers(0, 400))
@settings(max_examples=25, deadline=None)
def test_a_truncated_private_key_is_our_error(make_key: Callable[[str], Key], cut: int) -> None:
    pem = make_key("one").path.read_bytes()
    short = make_key("one").path.with_name("short.key")
    short.write_bytes(pem[: min(cut, len(pem) - 40)])
    with pytest.raises(InputError):
        load_signer(short)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kdf": {"name": "scrypt", "params": {"N": 2**30, "r": 8, "p": 1}, "salt": ""}}, "out of range"),
        ({"kdf": {"name": "scrypt", "params": {"N": 16, "r": 8, "p": MAX_SCRYPT_P + 1}, "salt": ""}}, "out of range"),
        ({"kdf": {"name": "scrypt", "params": {"N": 15, "r": 8, "p": 1}, "salt": ""}}, "N=15, r=8, p=1"),
        ({"kdf": {"name": "argon2", "params": {"N": 16, "r": 8, "p": 1}, "salt": ""}}, "another encryption"),
        ({"cipher": {"name": "nacl/secretbox", "nonce": "AAAA"}}, "damaged: its nonce"),
        ({"cipher": {"name": "aes", "nonce": "AAAA"}}, "another encryption"),
        ({"ciphertext": "!"}, "not readable"),
    ],
)
def test_a_strange_cosign_key_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    pem = cosign_key()
    document = json.loads(base64.b64decode(b"".join(pem.split(b"\n")[1:-2])))
    body = base64.b64encode(json.dumps({**document, **change}).encode())
    path = tmp_path / "cosign.key"
    path.write_bytes(
        b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n" + body + b"\n-----END ENCRYPTED COSIGN PRIVATE KEY-----\n"
    )
    with pytest.raises(InputError, match=reason):
        load_signer(path)


@functools.cache
def cosign_key() -> bytes:
    return encrypt_cosign_key(b"der", "")


@given(st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_a_truncated_cosign_key_is_our_error(make_key: Callable[[str], Key], part: float) -> None:
    pem = cosign_key()
    short = make_key("one").path.with_name("short-cosign.key")
    short.write_bytes(pem[: int(part * (len(pem) - 4))])
    with pytest.raises(InputError):
        load_signer(short)


@pytest.mark.peer("cosign")
def test_cosign_reads_our_key_and_we_read_its(cosign: Cosign, tmp_path: Path) -> None:
    ours = generate_key(tmp_path / "ours.key", password=PASSWORD, form="cosign")
    shown = cosign("public-key", "--key", str(ours.private), password=PASSWORD)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == ours.public.read_text().strip()
    made = cosign("generate-key-pair", "--output-key-prefix", "theirs", password=PASSWORD)
    assert made.returncode == 0, made.stderr
    signer = load_signer(cosign.home / "theirs.key", PASSWORD)
    assert load_verifier([cosign.home / "theirs.pub"]).verify(b"x", signer.sign(b"x")) == signer.key_id


@pytest.mark.peer("openssl")
def test_openssl_verifies_our_signature(peer: Callable[[str], str], key: Key, tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"payload")
    (tmp_path / "sig").write_bytes(key.signer.sign(b"payload"))
    verified = subprocess.run(
        [peer("openssl"), "dgst", "-sha256", "-verify", key.public, "-signature", "sig", "payload"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert verified.stdout.strip() == "Verified OK"


def test_a_signer_vouches_for_itself_alone(key: Key, other_key: Key) -> None:
    verifier = verifier_of(key.signer)
    assert verifier.verify(b"x", key.signer.sign(b"x")) == key.signer.key_id
    with pytest.raises(SignatureInvalid):
        verifier.verify(b"x", other_key.signer.sign(b"x"))


@pytest.mark.parametrize(
    ("label", "content", "said"),
    [
        ("RSA PUBLIC KEY", b"0", "not an ECDSA P-256 key but RSA"),
        ("PUBLIC KEY", b"not DER", "the public key cannot be read"),
    ],
)
def test_a_public_key_that_is_none_of_ours_is_refused(label: str, content: bytes, said: str) -> None:
    body = base64.b64encode(content).decode()
    with pytest.raises(InputError, match=said):
        read_public_keys(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode(), where="trusted key")
