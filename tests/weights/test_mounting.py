"""Kubernetes objects for weights: read by the models of Kubernetes' own client; the guard fails without the files."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.weights.ends import from_folder
from registry_pipelines.weights.formats import Kind
from registry_pipelines.weights.listed import list_of, write_list
from registry_pipelines.weights.model import MOUNT_FORMS, RAW_TYPES, MountForm, WeightFile, weight_set
from registry_pipelines.weights.mounting import GUARD, Wanted, guard_command, snippet
from registry_pipelines.weights.staging import staged_in
from registry_pipelines.weights.to_registry import register_weights
from tests.anatomy.baked_images import MIB, safetensors
from tests.doubles.containerd import containerd
from tests.doubles.kube_models import written_again
from tests.needs import missing
from tests.scan.images import make_tar

FILES = tuple(
    WeightFile(path, Digest.of(path.encode()), size, kind, RAW_TYPES[kind])
    for path, size, kind in (("it's a shard.safetensors", 3 << 30, "weights"), ("sub/config.json", 2, "config"))
    for kind in [kind]
)
SOURCES: dict[MountForm, str] = {"csi-s3": "s3://bucket/models/llama", "csi-gcs": "gs://bucket/models/llama"}
REGISTRY = f"registry.example.com/team/llama@{Digest.of(b'weights')}"


def wanted(form: MountForm, path: str = "/models/llama", **more: Any) -> Wanted:
    source = SOURCES.get(form, REGISTRY)
    given = {"image": "example.com/app:1", "tool": "example.com/tool:1", "files": FILES, **more}
    return Wanted(form=form, source=source, path=path, **given)


def unknown(document: Any, again: Any, where: str = "") -> Iterator[str]:
    """Fields that the models lost."""
    if isinstance(document, dict) and isinstance(again, dict):
        for name, value in document.items():
            if name not in again:
                yield f"{where}.{name}"
            else:
                yield from unknown(value, again[name], f"{where}.{name}")
    elif isinstance(document, list) and isinstance(again, list) and len(document) == len(again):
        for at, value in enumerate(document):
            yield from unknown(value, again[at], f"{where}[{at}]")
    elif document != again:
        yield where


@pytest.mark.parametrize("form", MOUNT_FORMS)
def test_every_object_is_one_of_the_api(form: MountForm) -> None:
    """Snapshots are custom objects, of which the client has no model: their kinds and fields stand in the test."""
    made = snippet(wanted(form, region="eu-central-1" if form == "csi-s3" else ""))
    for each in made.objects:
        if each["apiVersion"] == "snapshot.storage.k8s.io/v1":
            assert each["kind"] in ("VolumeSnapshotClass", "VolumeSnapshot")
            assert set(each) - {"apiVersion", "kind", "metadata"} in ({"driver", "deletionPolicy"}, {"spec"})
            continue
        assert not list(unknown(each, written_again(each, f"V1{each['kind']}")))
    pod = made.objects[-1]
    mounts = {each["name"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
    assert pod["kind"] == "Pod" and mounts <= {each["name"] for each in pod["spec"]["volumes"]}
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["weights-come" if form == "init" else GUARD]


def test_buckets_disks_and_images_are_named_as_their_drivers_want_them() -> None:
    volume, claim, _ = snippet(wanted("csi-s3", region="eu-central-1")).objects
    assert volume["spec"]["mountOptions"] == ["read-only", "prefix models/llama/", "region eu-central-1"]
    assert volume["metadata"]["name"] == claim["spec"]["volumeName"] and claim["spec"]["storageClassName"] == ""
    [pod] = snippet(wanted("csi-gcs")).objects
    [bucket] = pod["spec"]["volumes"]
    assert bucket["csi"]["volumeAttributes"]["mountOptions"] == "implicit-dirs,only-dir=models/llama"
    [pod] = snippet(wanted("image-volume")).objects
    assert pod["spec"]["volumes"][0]["image"]["reference"] == REGISTRY
    _, disk, *_ = snippet(wanted("pd", files=(FILES[0],) * 10)).objects
    assert disk["spec"]["resources"]["requests"]["storage"] == "33Gi"


def test_what_does_not_go_together_is_refused() -> None:
    for form, more in (("csi-s3", "gs://b/x"), ("csi-gcs", "s3://b/x"), ("init", "s3://b/x"), ("pd", "s3://b/x")):
        with pytest.raises(InputError):
            snippet(Wanted(form=form, source=more, path="/m", image="a", tool="b", files=FILES))  # type: ignore[arg-type]
    for path in ("models", "/models/../etc", "/models/$(id)", "/"):
        with pytest.raises(InputError, match="no folder to mount at"):
            snippet(wanted("init", path))
    with pytest.raises(InputError, match="--region is of an S3 bucket"):
        snippet(wanted("init", region="eu-central-1"))
    with pytest.raises(InputError, match="no name of an object"):
        snippet(wanted("init", name="Llama"))


def lay(folder: Path) -> None:
    """The files, as a mount shows them."""
    for file in FILES:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(b"x")
    kinds: tuple[Kind, ...] = ("weights",)
    with staged_in(folder) as staging:
        write_list(folder, staging, list_of(weight_set(FILES, formats=kinds), Digest.of(b"manifest")))


def test_a_guard_passes_files_that_are_empty(tmp_path: Path) -> None:
    """As `__init__.py` is; a guard that wants bytes of it would hold the program for ever."""
    lay(tmp_path)
    (tmp_path / "__init__.py").touch()
    empty = WeightFile("__init__.py", Digest.of(b""), 0, "code", RAW_TYPES["code"])
    command = guard_command(wanted("image-volume", str(tmp_path), files=(*FILES, empty)))
    assert subprocess.run(command).returncode == 0


def test_a_folder_of_many_small_files_has_room_for_their_list_and_blocks() -> None:
    files = tuple(WeightFile(f"{at}", Digest.of(b"x"), 1, "config", RAW_TYPES["config"]) for at in range(5000))
    [pod] = snippet(wanted("init", files=files)).objects
    assert pod["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] == "40Mi"


@pytest.mark.parametrize("form", ["image-volume", "csi-s3", "csi-gcs", "ebs", "pd"])
def test_the_guard_fails_without_the_files(form: MountForm, tmp_path: Path) -> None:
    """By sh, and by busybox's where there is one."""
    folder = tmp_path / "mounted"

    def run() -> tuple[int, str]:
        done = subprocess.run(guard_command(wanted(form, str(folder))), capture_output=True, text=True)
        return done.returncode, done.stderr

    code, said = run()
    assert code == 1 and "is missing: the volume was not mounted" in said
    folder.mkdir()
    assert run()[0] == 1, "an empty folder is what a dropped volume leaves"
    lay(folder)
    assert run() == (0, "")
    (folder / ("sub/config.json" if form == "image-volume" else "weights.json")).write_bytes(b"")
    assert run()[0] == 1


@pytest.mark.long
def test_containerd_starts_no_program_whose_guard_fails(peer: Callable[[str], str], tmp_path: Path) -> None:
    """The init container's own command, in a container of busybox: without the mount, and with it."""
    if os.geteuid() != 0:
        missing("containerd needs root")
    program, client, runc = peer("../containerd2/containerd"), peer("../containerd2/ctr"), peer("runc")
    assert runc
    root, folder = tmp_path / "root", tmp_path / "weights"
    (root / "bin").mkdir(parents=True)
    files = {"bin/busybox": Path(peer("busybox")).read_bytes(), "bin/sh": "->busybox"}
    tar = make_tar(files, executable=["bin/busybox"])
    subprocess.run(["tar", "-xf", "-", "-C", root], input=tar, check=True)
    lay(folder)
    command = guard_command(wanted("image-volume"))
    with tempfile.TemporaryDirectory(prefix="c-") as short, containerd(program, client, Path(short), version=3):
        mount = ["--mount", f"type=bind,src={folder},dst=/models/llama,options=rbind:ro"]
        codes = [
            subprocess.run(
                [
                    client,
                    "-a",
                    f"{short}/grpc.sock",
                    "run",
                    "--rm",
                    "--env",
                    "PATH=/bin",
                    *more,
                    "--rootfs",
                    root,
                    name,
                    *command,
                ],
                capture_output=True,
                text=True,
            )
            for name, more in (("dropped", []), ("mounted", mount))
        ]
    assert [each.returncode for each in codes] == [1, 0], [each.stderr for each in codes]
    assert "is missing" in codes[0].stderr


@pytest.mark.long
def test_containerd_mounts_weights_as_an_empty_folder_and_the_guard_says_so(
    peer: Callable[[str], str], tmp_path: Path
) -> None:
    """No error tells of it: both the pull and the mount end with 0."""
    if os.geteuid() != 0:
        missing("containerd needs root")
    program, client = peer("../containerd2/containerd"), peer("../containerd2/ctr")
    model, mounted = tmp_path / "model", tmp_path / "mounted"
    model.mkdir()
    mounted.mkdir()
    (model / "model.safetensors").write_bytes(safetensors(MIB))
    with (
        EmbeddedServer(tmp_path / "registry") as server,
        tempfile.TemporaryDirectory(prefix="c-") as short,
        containerd(program, client, Path(short), version=3) as ctr,
    ):
        place = Place(DistributionRegistry(server.address), "models/a")
        source, read = from_folder(model)
        register_weights(source, place, "1", engine=Engine(state=tmp_path / "state"))
        ctr("images", "pull", "--plain-http", f"{place}:1")
        ctr("images", "mount", f"{place}:1", str(mounted))
        try:
            assert list(mounted.iterdir()) == []
            guard = guard_command(wanted("image-volume", str(mounted), files=read.weights.files))
            done = subprocess.run(guard, capture_output=True, text=True)
            assert done.returncode == 1 and "model.safetensors is missing" in done.stderr
        finally:
            subprocess.run(["umount", mounted], check=True)
