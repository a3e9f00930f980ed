from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, ManifestInvalid, RegistryPipelinesError, SignatureInvalid
from registry_pipelines.evidence.dsse import sign_envelope, write_envelope
from registry_pipelines.evidence.keys import FileSigner, generate_key, load_signer, verifier_of
from registry_pipelines.evidence.predicates import BUNDLE_RECEIPT_TYPE
from registry_pipelines.mirror.bundle.receipt import (
    BundleReceipt,
    HeldRepository,
    LoadedBundle,
    peek_receipt,
    read_receipt,
    read_receipt_file,
    sign_receipt,
)

BLOB, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
RECEIPT = BundleReceipt(
    mirror="upstreams",
    far="far1",
    sequence=3,
    made_at="2026-11-29T10:00:00+00:00",
    registry="private:5000",
    loaded=(LoadedBundle("line1", 1), LoadedBundle("line1", 2)),
    repositories={
        "lib/a": HeldRepository({"1": OTHER}, (OTHER,), (BLOB,)),
        "lib/b": HeldRepository({}, (), (BLOB,)),
    },
)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> FileSigner:
    path = tmp_path_factory.mktemp("key") / "promoter.key"
    generate_key(path)
    return load_signer(path)


def test_a_receipt_comes_back_as_it_was_signed(signer: FileSigner, tmp_path: Path) -> None:
    signed = sign_receipt(RECEIPT, signer)
    (tmp_path / "receipt.json").write_bytes(signed.raw)
    read = read_receipt_file(tmp_path / "receipt.json", verifier=verifier_of(signer), mirror="upstreams")
    assert read == signed and read.receipt == RECEIPT and read.key_id == signer.key_id
    assert read.receipt.holders() == {BLOB: "lib/a", OTHER: "lib/a"}
    assert peek_receipt(signed.raw).receipt == RECEIPT


def test_another_key_mirror_form_or_type_is_refused(signer: FileSigner, tmp_path: Path) -> None:
    generate_key(tmp_path / "other.key")
    other = load_signer(tmp_path / "other.key")
    raw = sign_receipt(RECEIPT, signer).raw
    with pytest.raises(SignatureInvalid, match="trusted key"):
        read_receipt(raw, verifier=verifier_of(other))
    with pytest.raises(InputError, match="of the mirror upstreams, not of else"):
        read_receipt(raw, verifier=verifier_of(signer), mirror="else")
    newer = sign_receipt(msgspec.structs.replace(RECEIPT, schema=2), signer).raw
    with pytest.raises(ManifestInvalid, match="form 2"):
        read_receipt(newer, verifier=verifier_of(signer))
    statement = write_envelope(sign_envelope(b"{}", signer))
    with pytest.raises(SignatureInvalid, match="payload type"):
        read_receipt(statement, verifier=verifier_of(signer))
    with pytest.raises(SignatureInvalid, match="not the receipt"):
        peek_receipt(statement)
    changed = json.loads(raw)
    changed["payload"] = base64.b64encode(base64.b64decode(changed["payload"]).replace(b"far1", b"far2")).decode()
    with pytest.raises(SignatureInvalid):
        read_receipt(json.dumps(changed).encode(), verifier=verifier_of(signer))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sequence": 0}, "begin with 1"),
        ({"loaded": (LoadedBundle("l", 0),)}, "begin with 1"),
        ({"far": "../x"}, "no name"),
        ({"repositories": {"UPPER": HeldRepository()}}, "repository name"),
        ({"repositories": {"a": HeldRepository({"../t": BLOB})}}, "not a tag"),
        ({"repositories": {"a": HeldRepository({}, ("sha256:zz",))}}, "not a digest"),
    ],
)
def test_a_document_that_cannot_be_is_refused(signer: FileSigner, changed: dict[str, object], says: str) -> None:
    raw = sign_receipt(msgspec.structs.replace(RECEIPT, **changed), signer).raw
    with pytest.raises(ManifestInvalid, match=says):
        read_receipt(raw, verifier=verifier_of(signer))


def test_a_file_that_is_gone_or_empty_says_so(signer: FileSigner, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_receipt_file(tmp_path / "none", verifier=verifier_of(signer))
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="empty"):
        read_receipt_file(tmp_path / "empty", verifier=verifier_of(signer))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(BundleReceipt.__struct_fields__), _json), noise=st.binary(max_size=64))
def test_any_signed_document_is_read_or_refused(signer: FileSigner, fields: dict[str, object], noise: bytes) -> None:
    whole = {**msgspec.to_builtins(RECEIPT), **fields}
    for payload in (json.dumps(whole).encode(), noise):
        raw = write_envelope(sign_envelope(payload, signer, payload_type=BUNDLE_RECEIPT_TYPE))
        try:
            read = read_receipt(raw, verifier=verifier_of(signer))
        except RegistryPipelinesError:
            continue
        assert read.receipt.sequence >= 1
    with pytest.raises(RegistryPipelinesError):
        read_receipt(noise, verifier=verifier_of(signer))
