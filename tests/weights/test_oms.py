"""Signatures of models: what we sign model-signing verifies, what it signs we verify, and both refuse alike."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.bundles import write_bundle
from registry_pipelines.evidence.dsse import sign_envelope
from registry_pipelines.evidence.keys import (
    FileSigner,
    KeySet,
    generate_key,
    load_signer,
    load_verifier,
    public_pem,
    read_public_key,
)
from registry_pipelines.evidence.kms import KmsSigner
from registry_pipelines.weights.oms.bundles import believe
from registry_pipelines.weights.oms.folders import sign_folder, verify_folder
from registry_pipelines.weights.oms.statement import read_oms, write_oms
from tests.evidence.test_kms import aws
from tests.needs import needed_module

__all__ = ["aws"]

GOLDEN = json.loads((Path(__file__).parent / "oms_golden.json").read_text())
"""Made by model-signing 1.1.1 with a key of its own, over the files that stand in it."""


class ModelSigning:
    """model-signing, through its API: by whole files, or by ranges of ``shard`` bytes."""

    def __init__(self, private: Path, public: Path) -> None:
        needed_module("model_signing", "dev")
        self.private, self.public = private, public

    def sign(self, folder: Path, *, algorithm: str = "sha256", shard: int = 0, links: bool = False) -> Path:
        from model_signing import hashing, signing

        how = hashing.Config().set_ignored_paths(paths=[folder / "model.sig"]).set_allow_symlinks(links)
        kind: Any = algorithm
        if shard:
            how.use_shard_serialization(hashing_algorithm=kind, shard_size=shard, allow_symlinks=links)
        else:
            how.use_file_serialization(hashing_algorithm=kind, allow_symlinks=links)
        target = folder / "model.sig"
        signer = signing.Config().use_elliptic_key_signer(private_key=self.private).set_hashing_config(how)
        signer.sign(folder, target)
        return target

    def verify(self, folder: Path, *, links: bool = False) -> None:
        """links: it does not go by what the signature says of them, and is told again."""
        from model_signing import hashing, verifying

        check = verifying.Config().use_elliptic_key_verifier(public_key=self.public)
        if links:
            check.set_hashing_config(hashing.Config().set_allow_symlinks(True))
        check.verify(folder, folder / "model.sig")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return generate_key(tmp_path_factory.mktemp("keys") / "person.pem")


@pytest.fixture
def oracle(keys: Any) -> ModelSigning:
    return ModelSigning(keys.private, keys.public)


@pytest.fixture
def verifier(keys: Any) -> KeySet:
    return load_verifier([keys.public])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Names whose order differs by whole path and by parts, a colon, an empty file, and what git keeps."""
    folder = tmp_path / "tiny-llama"
    for name, content in {
        "config.json": b'{"architectures": ["Llama"]}',
        "a/b.bin": bytes(range(256)) * 40,
        "a.txt": b"two\n",
        "part:1:2.bin": b"1234567",
        "empty": b"",
        ".gitattributes": b"*.bin filter=lfs\n",
        ".git/HEAD": b"ref: refs/heads/main\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_each_verifies_what_the_other_signed(model: Path, oracle: ModelSigning, verifier: KeySet, keys: Any) -> None:
    oracle.sign(model)
    theirs = verify_folder(model, verifier)
    ours = sign_folder(model, load_signer(keys.private))
    oracle.verify(model)
    again = verify_folder(model, verifier)
    assert ours.signature == model / "model.sig"
    assert theirs.believed.model.files == again.believed.model.files
    assert (theirs.files, theirs.size) == (again.files, again.size) == (ours.files, ours.size) == (5, 10279)
    assert theirs.believed.key_id == again.believed.key_id == keys.key_id
    assert theirs.unsigned == again.unsigned == (".git/HEAD", ".gitattributes")
    assert again.believed.model.name == "tiny-llama"
    assert list(again.believed.model.files) == sorted(again.believed.model.files)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda folder: (folder / "a/b.bin").write_bytes(bytes(10240)), "a/b.bin has other content"),
    "longer": (lambda folder: (folder / "a.txt").write_bytes(b"two\nx"), "a.txt has other content"),
    "missing": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "added": (lambda folder: (folder / "a/evil.py").write_bytes(b"import os"), "a/evil.py is not signed"),
    "moved": (lambda folder: (folder / "a.txt").rename(folder / "b.txt"), "a.txt is missing; b.txt is not signed"),
    "link": (lambda folder: (folder / "also").symlink_to("a.txt"), "symbolic link"),
}  # fmt: skip


@pytest.mark.parametrize("signed_by", ["us", "model-signing"])
@pytest.mark.parametrize("change", CHANGES)
def test_both_refuse_other_files(
    model: Path, oracle: ModelSigning, verifier: KeySet, keys: Any, change: str, signed_by: str
) -> None:
    sign_folder(model, load_signer(keys.private)) if signed_by == "us" else oracle.sign(model)
    act, said = CHANGES[change]
    act(model)
    with pytest.raises(SignatureInvalid, match=said):
        verify_folder(model, verifier)
    with pytest.raises(ValueError, match=r"mismatch|symlink|symbolic"):
        oracle.verify(model)


def test_another_key_is_refused_by_both(model: Path, oracle: ModelSigning, tmp_path: Path) -> None:
    other = generate_key(tmp_path / "other.pem")
    sign_folder(model, load_signer(other.private))
    with pytest.raises(ValueError, match="Key mismatch"):
        oracle.verify(model)
    with pytest.raises(SignatureInvalid, match="none of its 1 signature was made by a trusted key"):
        verify_folder(model, load_verifier([oracle.public]))


def test_who_signs_is_asked_for_the_role(model: Path, keys: Any, tmp_path: Path) -> None:
    """A scanner's key says nothing of whose model it is; the builder's does."""
    other = generate_key(tmp_path / "scanner.pem")
    sign_folder(model, load_signer(other.private))
    for role, fits in (("scanner", False), ("builder", True), ("person", True)):
        believed = load_verifier(
            [keys.public], {"person": [keys.public], "builder": [keys.public]} | {role: [other.public]}
        )  # type: ignore[dict-item, arg-type]
        if fits:
            assert verify_folder(model, believed).believed.key_id == other.key_id
            continue
        with pytest.raises(SignatureInvalid, match="not as person or builder"):
            verify_folder(model, believed)


def test_links_count_where_they_are_asked_for(
    model: Path, oracle: ModelSigning, verifier: KeySet, keys: Any, tmp_path: Path
) -> None:
    """As in a download cache: the files are links to blobs beside the folder."""
    (tmp_path / "blobs").mkdir()
    shutil.move(model / "a/b.bin", tmp_path / "blobs/1")
    (model / "a/b.bin").symlink_to(tmp_path / "blobs/1")
    with pytest.raises(InputError, match="symbolic link"):
        sign_folder(model, load_signer(keys.private))
    assert not (model / "model.sig").exists()
    assert sign_folder(model, load_signer(keys.private), follow_links=True).outside == ("a/b.bin",)
    oracle.verify(model, links=True)
    verify_folder(model, verifier)
    oracle.sign(model, links=True)
    verify_folder(model, verifier)
    (tmp_path / "blobs/1").write_bytes(b"other")
    with pytest.raises(SignatureInvalid, match=r"a/b\.bin has other content"):
        verify_folder(model, verifier)
    (model / "more").symlink_to(tmp_path / "blobs")
    with pytest.raises(SignatureInvalid, match="to no file"):
        verify_folder(model, verifier)


@pytest.mark.parametrize(("algorithm", "shard"), [("sha256", 1000), ("sha256", 10240), ("blake2", 0), ("blake2", 700)])
def test_ranges_and_blake2_of_model_signing_are_verified(
    model: Path, oracle: ModelSigning, verifier: KeySet, algorithm: str, shard: int
) -> None:
    """model-signing 1.1.1 does not verify these itself: its shard size comes back as a float, blake2b it does not know,
    and a name with a colon it takes for two. A row's algorithm is ``sha256-sharded-1000`` there, and ``sha256`` in the
    specification."""
    oracle.sign(model, algorithm=algorithm, shard=shard)
    verify_folder(model, verifier)
    (model / "part:1:2.bin").rename(model / "part.bin")
    oracle.sign(model, algorithm=algorithm, shard=shard)
    with pytest.raises((TypeError, ValueError), match=r"float|Unsupported hashing"):
        oracle.verify(model)
    verified = verify_folder(model, verifier)
    assert verified.size == 10279
    assert ("empty" in verified.unsigned) == bool(shard)
    (model / "a/b.bin").write_bytes(bytes(range(256)) * 39 + bytes(256))
    with pytest.raises(SignatureInvalid, match=r"a/b\.bin has other content"):
        verify_folder(model, verifier)


def test_blake3_is_said_not_to_be_read(model: Path, oracle: ModelSigning, verifier: KeySet) -> None:
    oracle.sign(model, algorithm="blake3")
    with pytest.raises(SignatureInvalid, match="its hash is 'blake3'; sha256 and blake2b are read"):
        verify_folder(model, verifier)


def test_the_golden_signature(tmp_path: Path) -> None:
    """Made once by model-signing: verified without it, byte for byte the statement that is read."""
    for name, content in GOLDEN["files"].items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(content)
    (tmp_path / "key.pub").write_text(GOLDEN["public_key"])
    (tmp_path / "model/model.sig").write_text(json.dumps(GOLDEN["bundle"]))
    verified = verify_folder(tmp_path / "model", load_verifier([tmp_path / "key.pub"]))
    assert verified.believed.model.root == GOLDEN["root"]
    assert verified.believed.model.ignored == tuple(GOLDEN["ignored"])


def test_fields_that_programs_write_otherwise(model: Path, keys: Any, verifier: KeySet) -> None:
    """A ``keyid`` of null, older keys by their bytes, no log entries: section 11.1 of the specification."""
    signed = json.loads(sign_folder(model, load_signer(keys.private)).signature.read_text())
    signed["dsseEnvelope"]["signatures"][0]["keyid"] = None
    signed["verificationMaterial"] = {"publicKey": {"rawBytes": "AAAA", "keyDetails": 5}, "tlogEntries": []}
    (model / "model.sig").write_text(json.dumps(signed))
    verify_folder(model, verifier)
    signed["mediaType"] = "application/json"
    (model / "model.sig").write_text(json.dumps(signed))
    with pytest.raises(SignatureInvalid, match="`mediaType` of the bundle"):
        verify_folder(model, verifier)


def statement(**changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(write_oms({"a.bin": "00" * 32, "b.bin": "11" * 32}, name="m"))
    for path, value in changes.items():
        where: Any = said
        *above, last = path.split("__")
        for part in above:
            where = where[int(part) if part.isdigit() else part]
        where[int(last) if last.isdigit() else last] = value
    return said


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"predicateType": "https://slsa.dev/provenance/v1"}, "its type is"),
    "deprecated": ({"predicateType": "https://model_signing/Digests/v0.1"}, "its type is"),
    "no rows": ({"predicate__resources": []}, "0 rows"),
    "two subjects": ({"subject": [{"name": "a", "digest": {}}] * 2}, "one subject"),
    "no sha256": ({"subject__0__digest": {"sha512": "00"}}, "one subject with a sha256"),
    "root": ({"subject__0__digest": {"sha256": "00" * 32}}, "root digest"),
    "above": ({"predicate__resources__0__name": "../a.bin"}, "does not lie below"),
    "absolute": ({"predicate__resources__0__name": "/a.bin"}, "does not lie below"),
    "dot": ({"predicate__resources__0__name": "./a.bin"}, "does not lie below"),
    "twice": ({"predicate__resources__0__name": "b.bin"}, "there twice"),
    "mixed": ({"predicate__resources__0__algorithm": "md5"}, "by 'md5'"),
    "short": ({"predicate__resources__0__digest": "00"}, "no sha256 in lower"),
    "upper": ({"predicate__resources__0__digest": "AA" * 32}, "no sha256 in lower"),
    "method": ({"predicate__serialization__method": "magic"}, "its method"),
    "no size": ({"predicate__serialization__method": "shards"}, "shard size of None"),
    "size of files": ({"predicate__serialization__shard_size": 5}, "its method is 'files'"),
    "half a byte": (
        {"predicate__serialization__method": "shards", "predicate__serialization__shard_size": 1.5}, "is 1.5"),
    "leaves all out": ({"predicate__serialization__ignore_paths": ["."]}, "leaves out does not lie"),
    "leaves others out": ({"predicate__serialization__ignore_paths": ["../x"]}, "leaves out does not lie"),
    "no links": ({"predicate__serialization__allow_symlinks": "no"}, "allow_symlinks"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_statement_is_refused_whoever_signed_it(case: str, keys: Any, verifier: KeySet) -> None:
    changes, said = BAD[case]
    envelope = sign_envelope(json.dumps(statement(**changes)).encode(), load_signer(keys.private))
    with pytest.raises(SignatureInvalid, match=said):
        believe(write_bundle(envelope, hint="00"), verifier, where="x")


def ranged(*names: str) -> bytes:
    import hashlib

    rows = [{"name": name, "digest": "00" * 32, "algorithm": "sha256"} for name in names]
    root = hashlib.sha256(bytes(32 * len(names))).hexdigest()
    return json.dumps(
        statement(
            subject=[{"name": "m", "digest": {"sha256": root}}],
            predicate__resources=rows,
            predicate__serialization__method="shards",
            predicate__serialization__shard_size=10,
        )
    ).encode()


def test_ranges_follow_each_other() -> None:
    read = read_oms(ranged("a:0:10", "a:10:20", "a:20:23", "b:1:0:10"))
    assert [each.stop for each in read.files["a"]] == [10, 20, 23]
    assert list(read.files) == ["a", "b:1"]
    for names in (["a:0:9", "a:9:20"], ["a:10:20"], ["a:0:10", "a:20:30"], ["a:0:11"], ["a:0:0"], ["a:0:10", "a:0:10"]):
        with pytest.raises(SignatureInvalid, match="do not follow each other"):
            read_oms(ranged(*names))
    for name in ("a", "a:0", ":0:10", "a:x:10", "a:0:²"):
        with pytest.raises(SignatureInvalid, match="names no range"):
            read_oms(ranged(name))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SPOTS = [
    "_type", "subject", "subject__0__digest", "predicateType", "predicate", "predicate__resources",
    "predicate__resources__0", "predicate__resources__0__name", "predicate__resources__0__digest",
    "predicate__serialization", "predicate__serialization__shard_size", "predicate__serialization__ignore_paths",
    "predicate__serialization__method", "predicate__serialization__hash_type",
]  # fmt: skip


@settings(max_examples=50)
@given(st.sampled_from(SPOTS), VALUES)
def test_no_statement_does_more_than_be_refused(spot: str, value: object) -> None:
    raw = json.dumps(statement(**{spot: value})).encode()
    try:
        assert read_oms(raw).files
    except SignatureInvalid as error:
        assert error.what


@given(st.binary(max_size=80))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    believed = KeySet([_KEY.public_key()])
    for signed in (raw, write_bundle(sign_envelope(raw, FileSigner(_KEY)), hint="00")):
        with pytest.raises(SignatureInvalid):
            believe(signed, believed)


_KEY = ec.derive_private_key(7, ec.SECP256R1())


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_keys_of_other_curves_sign_models(model: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """By `--key` alone: all else is signed and believed with P-256."""
    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private = ec.generate_private_key(curve)
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public.write_bytes(public_pem(private.public_key()))
    oracle = ModelSigning(key, public)
    oracle.sign(model)
    ran = CliRunner().invoke(main, ["weights", "verify", str(model), "--signed", "--key", str(public)])
    assert ran.exit_code == 0, ran.output
    ran = CliRunner().invoke(main, ["weights", "sign", str(model), "--key", str(key)])
    assert ran.exit_code == 0, ran.output
    oracle.verify(model)
    (model / "a.txt").write_text("changed")
    ran = CliRunner().invoke(main, ["weights", "verify", str(model), "--signed", "--key", str(public)])
    assert ran.exit_code == 3
    with pytest.raises(InputError, match=f"not an ECDSA P-256 key but ECDSA {curve.name}"):
        load_verifier([public])


def test_what_is_not_signed_says_so(model: Path, keys: Any) -> None:
    with pytest.raises(SignatureInvalid, match="there is no signature"):
        verify_folder(model, load_verifier([keys.public]))


def test_certificates_count_where_their_key_is_believed(model: Path, keys: Any, verifier: KeySet) -> None:
    """The `certificate` method: a chain, which nobody asks about; its leaf's key may be one that is believed."""
    signed = json.loads(sign_folder(model, load_signer(keys.private)).signature.read_text())
    chain = {"certificates": [{"rawBytes": base64.b64encode(b"DER").decode()}]}
    signed["verificationMaterial"] = {"x509CertificateChain": chain}
    (model / "model.sig").write_text(json.dumps(signed))
    assert verify_folder(model, verifier).believed.key_id == keys.key_id


def test_a_key_in_a_key_service_signs_models(model: Path, aws: tuple[str, Path], tmp_path: Path) -> None:
    address, public = aws
    key = read_public_key(public)
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    signed = sign_folder(model, KmsSigner(address, key))
    ModelSigning(public, tmp_path / "public.pem").verify(model)
    assert verify_folder(model, load_verifier([public])).believed.key_id == signed.key_id
