"""Folders of weights to registries and back, by the command line; bytes are counted on the wire."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import held_alone
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.http_server import Handler
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.model import CONFIG_TYPE, RAW_TYPES, WeightFile, to_manifest, weight_set
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt, NoRange
from tests.doubles.small_disk import small_disk
from tests.patience import patient
from tests.weights.conftest import SHARD_VALUES, call, done, files_of, noise, shard

OVERHEAD_BYTES = 120_000
"""Requests, answers and the manifest of some 40 files, on the wire."""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_a_folder_goes_there_and_comes_back(address: str, model: Callable[..., Path], tmp_path: Path) -> None:
    folder = model("m")
    (folder / "adapters").mkdir()
    shard(folder / "adapters" / "a.safetensors", 7)
    (folder / "empty.dat").write_bytes(b"")
    (folder / "model.sig").write_text("{}")
    pushed = done("push", folder, f"{address}/m:1")
    assert pushed["facts"]["files"] == 8 and pushed["notes"] == [
        "empty.dat: its format is not known, and it counts as weights",
        "the signature beside them (model.sig) is not about exactly these files by their sha256, and was left behind",
    ]
    again = done("push", folder, f"{address}/m:1")
    assert (again["action"], again["changed"], again["bytes_moved"]) == ("unchanged", False, 0)
    pulled = done("pull", f"{address}/m:1", "--to", tmp_path / "back")
    (folder / "model.sig").unlink()
    assert files_of(tmp_path / "back") == files_of(folder)
    listed = json.loads((tmp_path / "back" / "weights.json").read_text())
    assert listed["manifest"] == pushed["digest"] == pulled["digest"]
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == sorted(
        [*(path.name for path in folder.iterdir()), "weights.json"]
    )
    assert done("pull", f"{address}/m:1", "--to", tmp_path / "back")["action"] == "unchanged"
    assert {row["path"]: row["kind"] for row in done("ls", f"{address}/m:1")["rows"]}["README.md"] == "doc"
    assert done("verify", f"{address}/m:1")["facts"]["whole"] == 8
    assert done("verify", tmp_path / "back")["facts"]["whole"] == 8
    assert call("push", folder, f"{address}/m").exit_code == 8


@pytest.mark.peer("skopeo")
@pytest.mark.peer("oras")
def test_skopeo_and_oras_copy_it_and_write_the_same_files(
    docker_address: str, model: Callable[..., Path], tmp_path: Path, peer: Callable[[str], str]
) -> None:
    """Two files with one content among them, and a folder."""
    folder = model("m")
    (folder / "copies").mkdir()
    shutil.copy(folder / "README.md", folder / "copies" / "README.md")
    digest = done("push", folder, f"{docker_address}/m:1")["digest"]
    oras, skopeo = peer("oras"), peer("skopeo")
    loose = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    commands = [
        [
            skopeo,
            "copy",
            "--preserve-digests",
            *loose,
            f"docker://{docker_address}/m:1",
            f"docker://{docker_address}/s:1",
        ],
        [oras, "cp", "--from-plain-http", "--to-plain-http", f"{docker_address}/s:1", f"{docker_address}/o:1"],
        [oras, "pull", "--plain-http", f"{docker_address}/o:1", "-o", str(tmp_path / "by-oras")],
    ]
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=patient(60))
        assert ran.returncode == 0, (command, ran.stderr)
    assert files_of(tmp_path / "by-oras") == files_of(folder)
    assert done("pull", f"{docker_address}/o:1", "--to", tmp_path / "ours")["digest"] == digest
    assert files_of(tmp_path / "ours") == files_of(folder)


def test_a_fine_tune_moves_the_shards_that_changed(
    faults: FaultRegistry, model: Callable[..., Path], tmp_path: Path
) -> None:
    """Two of 40; into another repository they are mounted."""
    folder = model("m", 40)
    done("push", folder, f"{faults.address}/m:1")
    done("pull", f"{faults.address}/m:1", "--to", tmp_path / "node")
    for number in (3, 17):
        shard(folder / f"model-{number:05}-of-00040.safetensors", 99 + number)
    size = sum((folder / f"model-{number:05}-of-00040.safetensors").stat().st_size for number in (3, 17))
    faults.reset_counts()
    pushed = done("push", folder, f"{faults.address}/m:2")
    assert pushed["bytes_moved"] == size and pushed["facts"]["copied"] == 2
    assert size <= faults.bytes_up <= size + OVERHEAD_BYTES
    faults.reset_counts()
    pulled = done("pull", f"{faults.address}/m:2", "--to", tmp_path / "node")
    assert pulled["bytes_moved"] == size and pulled["facts"]["kept"] == 41 and pulled["facts"]["fetched"] == 2
    assert size <= faults.bytes_down <= size + OVERHEAD_BYTES
    assert files_of(tmp_path / "node") == files_of(folder)


@pytest.mark.parametrize("form", ["artifact", "image"])
def test_a_tag_that_moves_is_told_with_what_it_named(
    address: str, model: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    """Also where all of the files are there, and 0 bytes are sent."""
    reference, options = f"{address}/m:1", ("--form", form)
    folder = model("m", 2)
    first = done("push", folder, reference, *options)
    shard(folder / "model-00001-of-00002.safetensors", 99)
    done("push", folder, f"{address}/m:2", *options)
    moved = done("push", folder, reference, *options)
    assert moved["bytes_moved"] == 0 and moved["changed"]
    [told] = [note for note in moved["notes"] if "before" in note]
    assert first["digest"] in told
    assert not [note for each in (first, done("push", folder, reference, *options)) for note in each["notes"]]


def test_a_content_that_is_there_under_another_name_is_copied(
    faults: FaultRegistry, model: Callable[..., Path], tmp_path: Path
) -> None:
    """Also two that changed places, and one that two files have."""
    folder, node = model("m", 2), tmp_path / "node"
    done("push", folder, f"{faults.address}/m:1")
    done("pull", f"{faults.address}/m:1", "--to", node)
    one, two = sorted(folder.glob("*.safetensors"))
    one.rename(folder / "x"), two.rename(one), (folder / "x").rename(two)
    shutil.copy(one, folder / "third.safetensors")
    assert done("push", folder, f"{faults.address}/m:2")["bytes_moved"] == 0
    faults.reset_counts()
    assert done("pull", f"{faults.address}/m:2", "--to", node)["facts"]["copied"] == 3
    assert faults.bytes_down < OVERHEAD_BYTES
    assert files_of(node) == files_of(folder)
    assert len({path.stat().st_ino for path in node.glob("*.safetensors")}) == 3


def test_other_files_of_the_folder_stay_and_are_told(address: str, model: Callable[..., Path], tmp_path: Path) -> None:
    done("push", model("m"), f"{address}/m:1")
    node = tmp_path / "node"
    node.mkdir()
    (node / "notes.txt").write_text("mine")
    refused = call("pull", f"{address}/m:1", "--to", node, "--exact")
    assert refused.exit_code == 8 and "notes.txt" in refused.output
    assert [path.name for path in node.iterdir()] == ["notes.txt"]
    assert "notes.txt" in done("pull", f"{address}/m:1", "--to", node)["notes"][0]
    assert (node / "notes.txt").read_text() == "mine"
    assert done("verify", node)["rows"] == [{"path": "notes.txt", "size": 4, "state": "not listed"}]


@pytest.mark.long
def test_a_thousand_shards(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number:05}.gguf").write_bytes(b"GGUF" + noise(60, number))
    done("push", folder, f"{address}/m:1")
    assert done("pull", f"{address}/m:1", "--to", tmp_path / "back")["facts"]["fetched"] == 1000
    assert files_of(tmp_path / "back") == files_of(folder)
    assert call("ls", f"{address}/m:1").output.count(".gguf") == 1000


def test_a_registry_without_ranges(faults: FaultRegistry, tmp_path: Path) -> None:
    """A large file in one stream, a tensor behind bytes that are read past."""
    (tmp_path / "m").mkdir()
    shard(tmp_path / "m" / "a.safetensors", 1, 1 << 22)
    done("push", tmp_path / "m", f"{faults.address}/m:1")
    faults.play("GET", r".*/blobs/.*", NoRange())
    done("pull", f"{faults.address}/m:1", "--to", tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(tmp_path / "m")
    assert done("read", f"{faults.address}/m:1", "layer.1.bias", "--to", tmp_path / "t")["facts"]["shape"] == "16"


def test_wrong_bytes_from_the_registry_touch_no_file(
    faults: FaultRegistry, model: Callable[..., Path], tmp_path: Path
) -> None:
    """Neither of a new folder nor of one that has an earlier version."""
    folder, node = model("m"), tmp_path / "node"
    done("push", folder, f"{faults.address}/m:1")
    done("pull", f"{faults.address}/m:1", "--to", node)
    before = files_of(node)
    shard(folder / "model-00002-of-00003.safetensors", 55)
    (folder / "config.json").write_text('{"model_type": "other"}')
    done("push", folder, f"{faults.address}/m:2")
    digest = next(row["digest"] for row in done("ls", f"{faults.address}/m:2")["rows"] if "00002" in row["path"])
    faults.play("GET", rf".*/blobs/{digest}", Corrupt(700))
    refused = call("pull", f"{faults.address}/m:2", "--to", node)
    assert refused.exit_code == 6 and "model-00002-of-00003.safetensors hashes to" in refused.output
    assert files_of(node) == before
    assert done("verify", node)["ok"]
    ran = call("verify", f"{faults.address}/m:2", "--json")
    assert ran.exit_code == 6 and "model-00002-of-00003.safetensors: other content" in ran.stdout
    faults.clear()
    done("pull", f"{faults.address}/m:2", "--to", node)
    assert files_of(node) == files_of(folder)


def test_weights_that_change_while_they_are_sent_are_named_and_not_tagged(
    tmp_path: Path, model: Callable[..., Path], client: Callable[[str], DistributionRegistry]
) -> None:
    """Written when the registry is first asked: all files were hashed then."""
    folder, asked = model("m"), list[Request]()

    def writing(handler: Handler) -> Handler:
        def write(request: Request) -> Response:
            if not asked:
                (folder / "config.json").write_text('{"model_type": "else"}')
            asked.append(request)
            return handler(request)

        return write

    with EmbeddedServer(tmp_path / "registry", wrap=writing) as server:
        refused = call("push", folder, f"{server.address}/m:1")
        assert refused.exit_code == 6
        assert "config.json: the file changed while it was read" in refused.output
        with pytest.raises(NotFound):
            client(server.address).resolve("m", "1")
        done("push", folder, f"{server.address}/m:1")


@pytest.mark.parametrize("way", ["folder", "file", "staging"])
def test_a_link_on_the_way_leads_nobody_out(address: str, tmp_path: Path, way: str) -> None:
    folder, node, outside = tmp_path / "m", tmp_path / "node", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.gguf").write_bytes(b"GGUF" + bytes(20))
    done("push", folder, f"{address}/m:1")
    node.mkdir()
    outside.mkdir()
    (outside / "a.gguf").write_bytes(b"mine")
    if way == "file":
        (node / "sub").mkdir()
        (node / "sub" / "a.gguf").symlink_to(outside / "a.gguf")
        done("pull", f"{address}/m:1", "--to", node)
        assert not (node / "sub" / "a.gguf").is_symlink()
    else:
        (node / ("sub" if way == "folder" else ".registry-pipelines")).symlink_to(outside)
        refused = call("pull", f"{address}/m:1", "--to", node)
        assert refused.exit_code == 8 and "symbolic link" in refused.output
    assert files_of(outside) == {"a.gguf": b"mine"}


def test_special_files_are_refused(address: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "m" / "pipe")
    refused = call("push", tmp_path / "m", f"{address}/m:1")
    assert refused.exit_code == 8 and "neither a file nor a folder" in refused.output


def test_a_disk_without_room_is_told_before_anything_comes(address: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for number in (1, 2):
        (tmp_path / "m" / f"{number}.gguf").write_bytes(b"GGUF" + noise(20_000_000, number))
    done("push", tmp_path / "m", f"{address}/m:1")
    with small_disk(tmp_path / "disk", 50) as disk:
        refused = call("pull", f"{address}/m:1", "--to", disk / "m")
        assert refused.exit_code == 9 and "are to be written" in refused.output
        assert list((disk / "m").iterdir()) == []


def test_a_registry_that_lost_a_file(
    address: str, model: Callable[..., Path], tmp_path: Path, client: Callable[[str], DistributionRegistry]
) -> None:
    done("push", model("m"), f"{address}/m:1")
    gone = next(row["digest"] for row in done("ls", f"{address}/m:1")["rows"] if row["path"] == "config.json")
    client(address).delete_blob("m", Digest.parse(gone))
    ran = call("verify", f"{address}/m:1")
    assert ran.exit_code == 6 and "config.json: missing" in ran.output
    assert call("pull", f"{address}/m:1", "--to", tmp_path / "node").exit_code == 4
    assert files_of(tmp_path / "node") == {}
    done("push", tmp_path / "m", f"{address}/m:1")
    assert done("verify", f"{address}/m:1")["ok"]


def test_a_set_that_did_not_fully_come_is_not_whole(address: str, model: Callable[..., Path], tmp_path: Path) -> None:
    folder, node = model("m"), tmp_path / "node"
    done("push", folder, f"{address}/m:1")
    done("pull", f"{address}/m:1", "--to", node)
    (node / "config.json").unlink()
    with (node / "model-00001-of-00003.safetensors").open("r+b") as file:
        file.seek(SHARD_VALUES)
        file.write(b"\0\0\0")
    ran = call("verify", node)
    assert ran.exit_code == 6
    assert "config.json: missing" in ran.output and "00001-of-00003.safetensors: other content" in ran.output
    (node / "weights.json").unlink()
    ran = call("verify", node)
    assert ran.exit_code == 8 and "no weights.json" in ran.output
    done("pull", f"{address}/m:1", "--to", node)
    assert done("verify", node)["ok"] and files_of(node) == files_of(folder)


def test_a_second_pull_leaves_the_first_alone(address: str, model: Callable[..., Path], tmp_path: Path) -> None:
    """While the first looks at the folder it has nothing but its lock there."""
    done("push", model("m"), f"{address}/m:1")
    with held_alone(tmp_path / "node" / ".registry-pipelines" / "lock", "another"):
        refused = call("pull", f"{address}/m:1", "--to", tmp_path / "node")
        assert "another process brings weights into this folder" in refused.output
        assert (tmp_path / "node" / ".registry-pipelines" / "lock").exists()
        assert call("pull", f"{address}/m:1", "--to", tmp_path / "node").exit_code == refused.exit_code != 0
    assert done("pull", f"{address}/m:1", "--to", tmp_path / "node")["facts"]["fetched"] == 6


def test_files_that_a_push_leaves_out_and_others_push_are_pulled_once(
    address: str, client: Callable[[str], DistributionRegistry], tmp_path: Path
) -> None:
    place = Place(client(address), "m")
    rows = [(path, noise(100, seed)) for seed, path in enumerate((".gitattributes", ".cache/a", "m.gguf"))]
    for _, content in rows:
        push_blob(place, content, media_type="application/octet-stream")
    files = [WeightFile(path, Digest.of(content), 100, "weights", RAW_TYPES["weights"]) for path, content in rows]
    weights = weight_set(files)
    push_blob(place, weights.config, media_type=CONFIG_TYPE)
    place.registry.put_manifest("m", to_manifest(weights), tag="1")
    assert done("pull", f"{address}/m:1", "--to", tmp_path / "node")["facts"]["fetched"] == 3
    assert files_of(tmp_path / "node") == dict(rows)
    assert done("pull", f"{address}/m:1", "--to", tmp_path / "node")["action"] == "unchanged"
