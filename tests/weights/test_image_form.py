"""Weights as a plain image: read by tar, by all our commands, by the gate, and by containerd as a volume."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.image_form import (
    ALONE_BYTES,
    MAX_LAYERS,
    LayerPlan,
    image_manifest,
    plan_layers,
    read_image,
)
from registry_pipelines.weights.model import RAW_TYPES, WeightFile, WeightSet, weight_set
from registry_pipelines.weights.mounting import guard_command
from registry_pipelines.weights.opening import open_weights
from tests.doubles.containerd import containerd
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Key
from tests.needs import missing
from tests.weights.conftest import call, done, files_of, noise, shard
from tests.weights.test_mounting import wanted

LARGE = ALONE_BYTES // 4 + 100
"""Values of a shard that has a layer of its own."""
AMD = Platform(os="linux", architecture="amd64")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(model: Callable[..., Path]) -> Path:
    """Two shards with layers of their own, small files, a folder, a name that is no ASCII, and an empty file."""
    made = model("m", 2, values=LARGE)
    (made / "adapters" / "größe").mkdir(parents=True)
    shard(made / "adapters" / "größe" / f"{'a' * 120}.safetensors", 7)
    (made / "empty.txt").touch()
    return made


def stored(address: str, tag: str = "1") -> tuple[Place, ManifestBytes, Manifest]:
    place = Place(DistributionRegistry(address), "m")
    raw = place.registry.get_manifest("m", tag)
    content = raw.content()
    assert isinstance(content, Manifest)
    return place, raw, content


def blob(place: Place, digest: Digest) -> bytes:
    size = place.registry.blob_size("m", digest)
    assert size is not None
    content, filled = bytearray(size), 0
    with place.registry.open_blob("m", digest) as reader:
        while count := reader.readinto(memoryview(content)[filled:]):
            filled += count
    return bytes(content)


def test_it_is_an_image_that_tar_unpacks_and_comes_back_as_the_same_files(
    address: str, folder: Path, tmp_path: Path
) -> None:
    pushed = done("push", folder, f"{address}/m:1", "--form", "image")
    assert done("push", folder, f"{address}/m:1", "--form", "image")["action"] == "unchanged"
    place, _, content = stored(address)
    assert content.is_image and {each.media_type for each in content.layers} == {media_types.OCI_LAYER}
    assert len(content.layers) == 3
    (tmp_path / "unpacked").mkdir()
    for layer in content.layers:
        subprocess.run(["tar", "-xf", "-", "-C", "unpacked"], input=blob(place, layer.digest), check=True)
    assert files_of(tmp_path / "unpacked") == files_of(folder)
    done("pull", f"{address}/m:1", "--to", "back")
    assert files_of(tmp_path / "back") == files_of(folder)
    assert done("verify", f"{address}/m:1")["facts"]["whole"] == pushed["facts"]["files"] == len(files_of(folder))
    assert done("verify", "back")["ok"]


def test_the_same_files_have_the_same_digests_from_whichever_form_they_come(address: str, folder: Path) -> None:
    image = done("push", folder, f"{address}/m:image", "--form", "image")
    artifact = done("push", folder, f"{address}/m:artifact")
    assert done("sync", f"{address}/m:artifact", f"{address}/n:1", "--form", "image")["digest"] == image["digest"]
    assert done("sync", f"{address}/m:image", f"{address}/n:2")["digest"] == artifact["digest"]
    assert done("sync", f"{address}/m:image", "./bucket")["digest"] == artifact["digest"]
    other = done("push", folder, f"{address}/m:arm", "--form", "image", "--platform", "linux/arm64")
    assert other["digest"] != image["digest"] and other["facts"]["present"] == 3
    assert call("sync", f"{address}/m:image", "./other", "--form", "image").exit_code == 8
    assert call("push", folder, f"{address}/m:2", "--platform", "linux/arm64").exit_code == 8


def test_a_tensor_of_it_is_read_by_ranges_and_a_changed_shard_moves_alone(faults: FaultRegistry, folder: Path) -> None:
    ref = f"{faults.address}/m:1"
    done("push", folder, ref, "--form", "image")
    rows = done("ls", ref, "--tensors")["rows"]
    assert {row["tensor"] for row in rows} >= {"layer.10002.bias", "layer.7.weight"}
    faults.reset_counts()
    done("read", ref, "layer.10002.bias", "--to", "t")
    ranges = [each.range for each in faults.requests("GET", r".*/blobs/.*") if each.range]
    assert len(ranges) == 3, "the list of shards, the header, the tensor"
    assert faults.bytes_down < 300_000
    shard(folder / "model-00001-of-00002.safetensors", 99, LARGE)
    size = (folder / "model-00001-of-00002.safetensors").stat().st_size
    again = done("push", folder, ref, "--form", "image")
    assert again["facts"]["copied"] == 1 and again["bytes_moved"] < size + 10_000


def replaced_layer(address: str, change: Callable[[tarfile.TarFile], None]) -> None:
    """The image with something more in its last layer, in place of the whole one: the config says the same files."""
    place, _, content = stored(address)
    last = content.layers[-1]
    with io.BytesIO(blob(place, last.digest)) as raw, tarfile.open(fileobj=raw, mode="a") as tar:
        change(tar)
        tar.close()
        layer = push_blob(place, raw.getvalue(), media_type=last.media_type)
    config = json.loads(blob(place, content.config.digest))
    config["rootfs"]["diff_ids"][-1] = str(layer.digest)
    made = push_blob(place, json.dumps(config).encode(), media_type=content.config.media_type)
    manifest = msgspec.structs.replace(content, config=made, layers=(*content.layers[:-1], layer))
    place.registry.put_manifest("m", manifest_bytes(manifest), tag="1")


def test_a_layer_with_more_than_its_files_is_neither_whole_nor_signed(
    address: str, folder: Path, make_key: Callable[[str], Key]
) -> None:
    """A whiteout would take another layer's file away; nobody who lists files sees it."""
    done("push", folder, f"{address}/m:1", "--form", "image")
    replaced_layer(address, lambda tar: tar.addfile(tarfile.TarInfo(".wh.config.json")))
    ran = call("verify", f"{address}/m:1", "--json")
    assert ran.exit_code == 6 and "model-00002-of-00002.safetensors: other content" in ran.stdout
    ran = call("sign", f"{address}/m:1", "--key", make_key("k").path)
    assert ran.exit_code == 6 and "nothing was signed" in ran.output


def test_configs_that_lie_are_refused(address: str, folder: Path) -> None:
    done("push", folder, f"{address}/m:1", "--form", "image")
    place, _, content = stored(address)
    raw = blob(place, content.config.digest)
    for change in (
        {"path": "../x"},
        {"layer": 3},
        {"layer": -1},
        {"offset": 1 << 40},
        {"offset": -1},
        {"sha256": "x" * 64},
        {"size": -5},
    ):
        said = json.loads(raw)
        said["registry-pipelines.weights"]["files"][0].update(change)
        with pytest.raises(ManifestInvalid):
            read_image(content, json.dumps(said).encode())
    for change in ({"rootfs": {"type": "layers", "diff_ids": []}}, {"registry-pipelines.weights": None}):
        with pytest.raises(ManifestInvalid):
            read_image(content, json.dumps({**json.loads(raw), **change}).encode())
    zipped = tuple(msgspec.structs.replace(each, media_type=media_types.OCI_LAYER_GZIP) for each in content.layers)
    with pytest.raises(ManifestInvalid, match="compressed"):
        read_image(msgspec.structs.replace(content, layers=zipped), raw)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=60)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)


def planned(rows: dict[str, bytes]) -> tuple[WeightSet, list[LayerPlan]]:
    files = [
        WeightFile(path, Digest.of(content), len(content), "weights", RAW_TYPES["weights"])
        for path, content in rows.items()
    ]
    weights = weight_set(files)
    return weights, plan_layers(weights)


@given(st.dictionaries(PATHS, st.binary(max_size=700), min_size=1, max_size=5))
def test_every_file_lies_where_it_is_said_to(rows: dict[str, bytes]) -> None:
    """For Python's reader of tars, which is none of ours; one set of small files is one layer."""
    try:
        weights, plans = planned(rows)
    except InputError:
        return
    [plan] = plans
    tar = b"".join(piece if isinstance(piece, bytes) else rows[piece.path] for piece in plan.pieces)
    assert len(tar) == plan.size
    for file, offset in zip(plan.files, plan.offsets, strict=True):
        assert tar[offset : offset + file.size] == rows[file.path]
    with tarfile.open(fileobj=io.BytesIO(tar)) as read:
        found = {each.name: read.extractfile(each) for each in read if each.isfile()}
        assert {name: each.read() for name, each in found.items() if each} == rows
    config, manifest = image_manifest(weights, plans, [Digest.of(tar)], AMD)
    content = manifest.content()
    assert isinstance(content, Manifest)
    assert read_image(content, config).weights.files == weights.files


def test_a_thousand_shards_fit_what_runtimes_take_and_a_file_may_be_larger_than_tar_had_room_for() -> None:
    files = [
        WeightFile(f"{at:05}", Digest.of(b"%d" % at), 9 << 30, "weights", RAW_TYPES["weights"]) for at in range(1000)
    ]
    plans = plan_layers(weight_set([*files, WeightFile("a", Digest.of(b"a"), 1, "doc", RAW_TYPES["doc"])]))
    assert len(plans) <= MAX_LAYERS and [len(each.files) for each in plans[:2]] == [1, 11]
    header = plans[1].pieces[0]
    assert isinstance(header, bytes)
    with tarfile.open(fileobj=io.BytesIO(header + b"\0" * 1024)) as read:
        first = read.next()
        assert first and first.size == 9 << 30
    with pytest.raises(InputError, match="deleted"):
        plan_layers(weight_set([WeightFile(".wh.a", Digest.of(b"a"), 1, "doc", RAW_TYPES["doc"])]))


def test_what_is_signed_of_it_goes_along_when_it_is_attached(
    address: str, folder: Path, make_key: Callable[[str], Key]
) -> None:
    key = make_key("k")
    done("push", folder, f"{address}/m:1", "--form", "image")
    place = Place(DistributionRegistry(address), "app")
    raw = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    config = push_blob(place, raw, media_type=media_types.OCI_CONFIG)
    image = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=())
    place.registry.put_manifest("app", manifest_bytes(image), tag="2")
    assert done("sign", f"{address}/m:1", "--key", key.path)["changed"]
    assert not done("sign", f"{address}/m:1", "--key", key.path)["changed"]
    assert done("attach", f"{address}/app:2", f"{address}/m:1")["changed"]
    assert done("verify", f"{address}/app:2", "--signed", "--key", key.public)["ok"]
    opened = open_weights(place, "2")
    assert opened.image and len(place.registry.referrers("app", opened.descriptor.digest)) == 2
    assert not done("attach", f"{address}/app:2", f"{address}/m:1")["changed"]
    assert call("pull", f"{address}/app:2", "--to", "back", "--signed", "--key", key.public).exit_code == 0
    assert files_of(Path("back")).keys() - {"model.sig"} == files_of(folder).keys()


@pytest.mark.peer("skopeo")
def test_skopeo_copies_it_and_compresses_it_unless_told(
    docker_address: str, address: str, folder: Path, peer: Callable[[str], str]
) -> None:
    """Between two registries; where it knows the target to have the layers it mounts them as they are."""
    name = f"{docker_address}/m"
    pushed = done("push", folder, f"{name}:1", "--form", "image")
    copy = [peer("skopeo"), "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"docker://{name}:1", f"docker://{address}/other:1"], check=True)
    ran = call("pull", f"{address}/other:1", "--to", "back")
    assert ran.exit_code == 6 and "--preserve-digests" in ran.output
    subprocess.run([*copy, "--preserve-digests", f"docker://{name}:1", f"docker://{address}/m:2"], check=True)
    assert done("verify", f"{address}/m:2")["digest"] == pushed["digest"]


def guarded(folder: Path, mounted: Path, files: tuple[WeightFile, ...]) -> subprocess.CompletedProcess[str]:
    guard = guard_command(wanted("image-volume", str(mounted), files=files))
    return subprocess.run(guard, capture_output=True, text=True)


@pytest.mark.long
def test_containerd_mounts_it_with_its_files(peer: Callable[[str], str], folder: Path, tmp_path: Path) -> None:
    """Of the artifact with the same files the folder is empty, which a test of mounts shows."""
    if os.geteuid() != 0:
        missing("containerd needs root")
    program, client = peer("../containerd2/containerd"), peer("../containerd2/ctr")
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(40 << 20))
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    with (
        EmbeddedServer(tmp_path / "registry") as server,
        tempfile.TemporaryDirectory(prefix="c-") as short,
        containerd(program, client, Path(short), version=3) as ctr,
    ):
        name = f"{server.address}/m:1"
        done("push", folder, name, "--form", "image")
        opened = open_weights(Place(DistributionRegistry(server.address), "m"), "1")
        ctr("images", "pull", "--plain-http", name)
        ctr("images", "mount", name, str(mounted))
        try:
            assert files_of(mounted) == files_of(folder)
            assert guarded(folder, mounted, opened.weights.files).returncode == 0
        finally:
            subprocess.run(["umount", mounted], check=True)
        pod = call("mount", name, "--form", "image-volume", "--path", "/models/m", "--json")
        assert pod.exit_code == 0 and "empty folder" not in pod.stdout
