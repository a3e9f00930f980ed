"""Weights in images: found by content, brought out as the same artifact that a push of the files makes, left out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.baked.finding import Baked, find_weights
from registry_pipelines.anatomy.baked.moving import Moved, chosen, move_to_folder, move_to_registry
from registry_pipelines.anatomy.rechunk.engine import rechunk
from registry_pipelines.anatomy.rechunk.model import RechunkOptions
from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, LayerInvalid, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.scan.weights_found import read_safetensors
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.weights.gguf import read_gguf
from registry_pipelines.weights.hashing import read_folder
from registry_pipelines.weights.model import FILE_PATH, to_manifest
from registry_pipelines.weights.verify import verify_folder
from tests.anatomy.baked_images import MIB, gguf, pickled, pytorch, safetensors
from tests.anatomy.rechunk.images import unpacked_by_tar
from tests.answers import answered
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.scan.images import DEBIAN, Files, push_image

LARGE = MIB + 1024
LINUX = Platform.parse("linux/amd64")
HUB = "root/.cache/huggingface/hub/models--team--m"
SHARDS = [safetensors(LARGE, seed=seed) for seed in (1, 2)]
MODEL: Files = {
    "models/a/model-00001-of-00002.safetensors": SHARDS[0],
    "models/a/no-name-that-tells": SHARDS[1],
    "models/a/config.json": "{}",
    "models/a/model.safetensors.index.json": "{}",
    "models/a/notes.bin": b"n" * 2000,
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


def find(place: Place, tmp_path: Path, *layers: Files) -> Baked:
    image = push_image(place, layers)
    return find_weights(place, image.digest, state=tmp_path / "state", platform=LINUX)


def out(place: Place, found: Baked, tmp_path: Path, *below: str) -> tuple[Moved, Place]:
    target = Place(LayoutRegistry(tmp_path / "weights"), "team/weights")
    engine, state = Engine(state=tmp_path / "state" / "transfer"), tmp_path / "state"
    return move_to_registry(place, found, chosen(found, below), target, "v1", state=state, engine=engine), target


def test_a_tag_that_moves_to_the_weights_of_another_image_is_told(place: Place, tmp_path: Path) -> None:
    first, _ = out(place, find(place, tmp_path, MODEL), tmp_path)
    other: Files = {**MODEL, "models/a/no-name-that-tells": safetensors(LARGE, seed=9)}
    second, _ = out(place, find(place, tmp_path, other), tmp_path)
    again, _ = out(place, find(place, tmp_path, other), tmp_path)
    assert (first.replaced, second.replaced, again.replaced) == (None, first.manifest.digest, None)


def test_archives_that_may_hold_weights_are_named_and_not_opened(place: Place, tmp_path: Path) -> None:
    """Not small ones, wheels, and those that a later layer deletes."""
    first: Files = {"opt/Model.TAR.gz": bytes(LARGE), "opt/old.zip": bytes(LARGE), "opt/small.zip": b"PK"}
    found = find(place, tmp_path, {**DEBIAN, **first, "opt/a.whl": bytes(LARGE)}, {"opt/.wh.old.zip": ""})
    assert found.unread == ("opt/Model.TAR.gz (1.0 MiB), an archive",) and not found.files
    many: Files = {f"opt/{number:02}.tar": bytes(LARGE) for number in range(22)}
    more = find(place, tmp_path, {**DEBIAN, **many}).unread
    assert len(more) == 21 and more[0].startswith("opt/00.tar") and more[-1] == "2 more archives"


def test_weights_are_found_by_what_they_are_and_names_are_a_hint(place: Place, tmp_path: Path) -> None:
    found = find(
        place,
        tmp_path,
        {**DEBIAN, "usr/lib/big.so": b"\x7fELF" + bytes(LARGE), "data/table.npy": b"\x93NUMPY" + bytes(LARGE)},
        {
            **MODEL,
            "m/q4": gguf(LARGE),
            "m/old.pt": pytorch(LARGE),
            "m/checkpoint.pkl": pickled(LARGE),
            "usr/lib/python3/dist-packages/nltk/words.pkl": pickled(LARGE),
            "m/named.safetensors": b"\0" * LARGE,
            "m/log.json": b'{"a": "' + b"x" * LARGE + b'"}',
            "m/small.safetensors": safetensors(1000),
        },
    )
    told = {each.path: (each.format, each.layer, each.pickle, each.by_name, each.dtypes) for each in found.files}
    assert told == {
        "models/a/model-00001-of-00002.safetensors": ("safetensors", 2, False, False, {"BF16": 2}),
        "models/a/no-name-that-tells": ("safetensors", 2, False, False, {"BF16": 2}),
        "m/q4": ("gguf", 2, False, False, {"Q4_K": 2, "Q6_K": 1, "F32": 1}),
        "m/old.pt": ("pytorch", 2, True, False, {}),
        "m/checkpoint.pkl": ("pickle", 2, True, True, {}),
        "m/named.safetensors": ("unknown", 2, False, True, {}),
    }
    assert {each.path for each in found.companions} == {
        "models/a/config.json",
        "models/a/model.safetensors.index.json",
    }
    assert found.pickles == 2 and found.weights == sum(each.size for each in found.files)
    assert (
        found.code + found.weights_compressed == found.compressed
        and found.code_unpacked + found.weights == found.unpacked
    )
    anatomy = image_anatomy(place, found.digest, state=tmp_path / "state", platform=LINUX)
    [row] = [each for each in anatomy.advice if each.kind == "baked-weights"]
    assert anatomy.read_layers == 0 and (row.files, row.size) == (len(found.files), found.weights)


def test_hidden_weights_count_and_are_not_brought_out(place: Place, tmp_path: Path) -> None:
    found = find(place, tmp_path, MODEL, {"models/a/.wh.no-name-that-tells": "", "app/main.py": "x"})
    assert {each.path: each.gone for each in found.files}["models/a/no-name-that-tells"] == "deleted"
    assert set(chosen(found)) == {
        "model-00001-of-00002.safetensors",
        "config.json",
        "model.safetensors.index.json",
    }
    assert found.folder == "/models/a" and found.hides == ("/models/a/notes.bin",)


def test_what_comes_out_is_what_a_push_of_the_files_makes(
    peer: Callable[[str], str], place: Place, tmp_path: Path
) -> None:
    """Held against tar, which unpacks the same layer, and the sums of coreutils."""
    found = find(place, tmp_path, DEBIAN, MODEL)
    moved, target = out(place, found, tmp_path)
    manifest = target.registry.get_manifest("team/weights", "v1").content()
    assert isinstance(manifest, Manifest)
    tar = tmp_path / "layer.tar.gz"
    image = image_for(place, found.digest, LINUX)
    tar.write_bytes(read_blob(place, image.layers[1][0], limit=1 << 30))
    (tmp_path / "root").mkdir()
    subprocess.run([peer("tar"), "-xf", tar, "-C", tmp_path / "root"], check=True)
    model = tmp_path / "root" / "models" / "a"
    (model / "notes.bin").unlink()
    for layer in manifest.layers:
        name = (layer.annotations or {})[FILE_PATH]
        told = subprocess.run([peer("sha256sum"), model / name], check=True, capture_output=True, text=True).stdout
        assert told.split()[0] == layer.digest.hex and (model / name).stat().st_size == layer.size
    assert to_manifest(read_folder(model).weights).digest == moved.manifest.digest == manifest_digest(target)
    again, _ = out(place, found, tmp_path)
    assert (again.sent, again.changed, moved.sent) == (0, False, moved.weights.size)
    into = move_to_folder(place, found, chosen(found), tmp_path / "out", state=tmp_path / "other")
    assert into.manifest.digest == moved.manifest.digest
    assert subprocess.run(["diff", "-r", "-x", "weights.json", model, tmp_path / "out"], check=False).returncode == 0
    (tmp_path / "out" / "stranger").touch()
    with pytest.raises(InputError, match="stranger is no part"):
        move_to_folder(place, found, chosen(found), tmp_path / "out", state=tmp_path / "other")


def manifest_digest(target: Place) -> Digest:
    return target.registry.resolve(target.repository, "v1").digest


def test_a_file_whose_upload_is_lost_in_its_middle_comes_whole(place: Place, tmp_path: Path) -> None:
    """Its bytes have passed by then, so the layer is read again, and held against its digests again."""
    content = safetensors(2 * PART_BYTES + 5000)
    found = find(place, tmp_path, {"models/model.safetensors": content, "models/notes.txt": b"n" * 50_000})
    with EmbeddedServer(tmp_path / "target") as server, FaultRegistry(server.address) as faults:
        faults.play("PATCH", r".*/uploads/.*", Status(404), times=1)
        target, state = Place(DistributionRegistry(faults.address), "team/weights"), tmp_path / "state"
        engine = Engine(state=state / "transfer")
        moved = move_to_registry(place, found, chosen(found), target, "v1", state=state, engine=engine)
        [file] = moved.weights.files
        assert (file.digest, file.size) == (Digest.of(content), len(content))
        target.registry.close()


def test_a_list_is_gone_before_a_file_of_other_weights_takes_its_place(place: Place, tmp_path: Path) -> None:
    """The list of the set before would say after a kill that the half of two sets is whole."""
    name = "models/model.safetensors"
    one, two = (find(place, tmp_path, {name: each}) for each in SHARDS)
    move_to_folder(place, one, chosen(one), tmp_path / "out", state=tmp_path / "state")
    assert verify_folder(tmp_path / "out").ok
    [(layer, _)] = image_for(place, two.digest, LINUX).layers
    path = next((tmp_path / "registry").rglob(layer.digest.hex))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RegistryPipelinesError):
        move_to_folder(place, two, chosen(two), tmp_path / "out", state=tmp_path / "state")
    assert not (tmp_path / "out" / "weights.json").exists()


def test_what_a_killed_run_left_in_a_folder_is_in_nobodys_way(place: Place, tmp_path: Path) -> None:
    """Half of a file is no stranger in the folder, and none of the set; a pull finds what is whole."""
    found = find(place, tmp_path, {"models/model.safetensors": SHARDS[0], "models/config.json": "{}"})
    staging = tmp_path / "out" / ".registry-pipelines"
    staging.mkdir(parents=True)
    (staging / "file").write_bytes(SHARDS[0][:1000])
    moved = move_to_folder(place, found, chosen(found), tmp_path / "out", state=tmp_path / "state")
    assert moved.changed and verify_folder(tmp_path / "out").ok
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "weights.json",
    ]


def test_files_of_a_download_cache_get_the_names_of_their_links(place: Place, tmp_path: Path) -> None:
    found = find(
        place,
        tmp_path,
        {
            f"{HUB}/blobs/aaa": SHARDS[0],
            f"{HUB}/blobs/bbb": "{}",
            f"{HUB}/blobs/ccc": b'{"words": "' + b"x" * LARGE + b'"}',
            f"{HUB}/snapshots/rev/tokenizer.json": "->../../blobs/ccc",
            f"{HUB}/snapshots/rev/model.safetensors": "->../../blobs/aaa",
            f"{HUB}/snapshots/rev/config.json": "->../../blobs/bbb",
        },
    )
    assert set(chosen(found)) == {"model.safetensors", "config.json", "tokenizer.json"}
    assert [each.path for each in found.files] == [f"{HUB}/blobs/aaa"]
    assert found.folder == f"/{HUB}/snapshots/rev"
    moved, _ = out(place, found, tmp_path)
    assert [file.digest for file in moved.weights.files][:2] == [Digest.of(b"{}"), Digest.of(SHARDS[0])]


def test_hard_links_are_one_file_and_one_folder_may_be_chosen(place: Place, tmp_path: Path) -> None:
    found = find(place, tmp_path, {"a/x": SHARDS[0], "a/x.safetensors": "=>a/x"}, {"b/y": SHARDS[1]})
    assert sorted(chosen(found)) == ["a/x", "b/y"] and found.folder == ""
    assert set(chosen(found, ["/b"])) == {"y"}
    moved, _ = out(place, found, tmp_path, "/a")
    assert [file.digest for file in moved.weights.files] == [Digest.of(SHARDS[0])]
    with pytest.raises(InputError, match="no weights were found below /c"):
        chosen(found, ["/c"])


def test_a_layer_with_other_bytes_names_nothing(place: Place, tmp_path: Path) -> None:
    found = find(place, tmp_path, MODEL)
    [(layer, _)] = image_for(place, found.digest, LINUX).layers
    path = next((tmp_path / "registry").rglob(layer.digest.hex))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(LayerInvalid):
        out(place, found, tmp_path)
    target = Place(LayoutRegistry(tmp_path / "weights"), "team/weights")
    assert digest_at(target, "v1") is None


def test_rechunk_leaves_weights_out_and_nothing_else(place: Place, tmp_path: Path) -> None:
    """The tree is what tar makes of the layers, less the files that were found."""
    image = push_image(place, [DEBIAN, {**MODEL, "app/main.py": "x", "models/b/link": "=>models/a/no-name-that-tells"}])
    target = Place(LayoutRegistry(tmp_path / "made"), "team/app")
    made = rechunk(place, image.digest, target, options=RechunkOptions(drop=("weights",)), state=tmp_path / "state")
    [dropped] = made.images[0].dropped
    assert (dropped.kind, dropped.files, dropped.size) == ("baked-weights", 3, sum(map(len, SHARDS)))
    found = find_weights(target, made.derived, state=tmp_path / "state", platform=LINUX)
    assert found.files == () and made.images[0].size_after < 20_000
    before = unpacked_by_tar(place, image.digest, tmp_path / "before")
    after = unpacked_by_tar(target, made.derived, tmp_path / "after")
    assert {name for name in before if name not in after} == {
        "models/a/model-00001-of-00002.safetensors",
        "models/a/no-name-that-tells",
        "models/b/link",
    }


@given(st.binary(max_size=400))
def test_headers_of_strangers_are_read_or_not_and_never_fail(raw: bytes) -> None:
    assert read_safetensors(raw) is None or raw.strip()[:1] == b"{"
    assert sum(read_gguf(b"GGUF\x03\0\0\0" + raw).types.values()) <= 1_000_000


@given(st.integers(0, 4000))
def test_a_header_that_is_cut_tells_the_number_alone(cut: int) -> None:
    whole = gguf(0, words=100)
    told = read_gguf(whole[:cut]).types
    assert told == read_gguf(whole).types if cut >= len(whole) else sum(told.values()) == (4 if cut >= 24 else 0)


def test_the_commands_answer_as_their_schemas_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """find, out into a folder, and mount, with a registry that listens."""
    with EmbeddedServer(tmp_path / "registry") as server:
        push_image(Place(DistributionRegistry(server.address), "ml/server"), [DEBIAN, MODEL], tag="v1")
        image, weights = f"{server.address}/ml/server:v1", f"{server.address}/models/a:1"
        linux = ["--platform", "linux/amd64"]
        monkeypatch.chdir(tmp_path)

        def run(*command: str) -> Any:
            done = CliRunner().invoke(main, ["weights", *command, "--json"])
            assert done.exit_code == 0, done.output
            return answered(done.stdout)

        found = run("find", image, *linux)
        assert (len(found["files"]), found["folder"], found["layers"][0]["number"]) == (2, "/models/a", 2)
        assert run("out", image, "--to", str(tmp_path / "out"), *linux)["changed"]
        assert (tmp_path / "out" / "no-name-that-tells").read_bytes() == SHARDS[1]
        sent = run("out", image, "--to", weights, *linux)
        made = run("mount", weights, "--form", "init", "--path", "/models/a")
        assert sent["digest"] in " ".join(made["objects"][0]["spec"]["initContainers"][0]["command"])
        told = CliRunner().invoke(main, ["weights", "out", image, "--to", f"{server.address}/models/a", *linux])
        assert told.exit_code == InputError.exit_code and "stored under a tag" in told.output
