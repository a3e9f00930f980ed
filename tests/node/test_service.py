"""The service over its socket, asked as containerd asks, by a client that knows only the numbers of the fields."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.errors import InputError, LocalError, NotFound, StateLocked, StateTooNew
from registry_pipelines.node.judging import Layer, Named, denied
from registry_pipelines.node.lazy_images import IMAGE_LABEL, MANIFEST_LABEL, REF_LABEL, LazyImage
from registry_pipelines.node.serving import served
from registry_pipelines.node.wire import SERVICE, message
from tests.needs import missing, needed_module
from tests.patience import patient


@pytest.fixture(autouse=True)
def _root() -> None:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("snapshots are mounted by root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name, for its socket."""
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        yield Path(name)


class Client:
    """Calls by name; fields of a message as keywords."""

    def __init__(self, socket: Path) -> None:
        import grpc

        self.channel, self.errors = grpc.insecure_channel(f"unix://{socket}"), grpc.RpcError

    def __call__(self, call: str, asked: str, answered: str, **fields: Any) -> Any:
        make = self.channel.unary_stream if call == "List" else self.channel.unary_unary
        method = make(
            f"/{SERVICE}/{call}",
            request_serializer=message(asked).SerializeToString,
            response_deserializer=message(answered).FromString,
        )
        return method(message(asked)(snapshotter="rp", **fields), wait_for_ready=True, timeout=patient(60))

    def prepare(self, key: str, parent: str = "", **labels: str) -> list[Any]:
        answer = self(
            "Prepare", "PrepareSnapshotRequest", "PrepareSnapshotResponse", key=key, parent=parent, labels=labels
        )
        return list(answer.mounts)

    def view(self, key: str, parent: str = "") -> list[Any]:
        return list(self("View", "ViewSnapshotRequest", "ViewSnapshotResponse", key=key, parent=parent).mounts)

    def mounts(self, key: str) -> list[Any]:
        return list(self("Mounts", "MountsRequest", "MountsResponse", key=key).mounts)

    def commit(self, name: str, key: str, parent: str = "", **labels: str) -> None:
        self("Commit", "CommitSnapshotRequest", "Empty", name=name, key=key, parent=parent, labels=labels)

    def remove(self, key: str) -> None:
        self("Remove", "RemoveSnapshotRequest", "Empty", key=key)

    def stat(self, key: str) -> Any:
        return self("Stat", "StatSnapshotRequest", "StatSnapshotResponse", key=key).info

    def update(self, name: str, paths: Sequence[str], **labels: str) -> Any:
        info, mask = {"name": name, "labels": labels}, {"paths": paths}
        return self("Update", "UpdateSnapshotRequest", "UpdateSnapshotResponse", info=info, update_mask=mask).info

    def names(self, *filters: str) -> list[str]:
        found = self("List", "ListSnapshotsRequest", "ListSnapshotsResponse", filters=filters)
        return [info.name for answer in found for info in answer.info]

    def usage(self, key: str) -> tuple[int, int]:
        answer = self("Usage", "UsageRequest", "UsageResponse", key=key)
        return answer.size, answer.inodes

    def refused(self, code: str, call: str, *arguments: Any, **labels: str) -> str:
        with pytest.raises(self.errors) as refused:
            getattr(self, call)(*arguments, **labels)
        assert refused.value.code().name == code
        return str(refused.value.details())


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    log: list[str] = []
    with served(folder / "s", folder / "node", log=log.append):
        yield Client(folder / "s")
    assert log == []


def own(mount: Any) -> Path:
    [upper] = [each.partition("=")[2] for each in mount.options if each.startswith("upperdir=")]
    return Path(upper)


def test_layers_stack_and_containers_write_over_them(client: Client) -> None:
    [bottom] = client.prepare("a")
    assert (bottom.type, list(bottom.options)) == ("bind", ["rw", "rbind"])
    Path(bottom.source).chmod(0o1777)
    (Path(bottom.source) / "file").write_bytes(b"x" * 10_000)
    client.commit("A", "a", kept="yes")
    [middle] = client.prepare("b", "A")
    assert own(middle).stat().st_mode & 0o7777 == 0o1777, "a container would see other rights of its root"
    client.commit("B", "b", "A")
    [top] = client.prepare("c", "B")
    assert top.type == "overlay" and client.mounts("c") == [top]
    assert f"lowerdir={own(middle)}:{bottom.source}" in top.options
    [seen] = client.view("v", "A")
    assert (seen.type, seen.source, list(seen.options)) == ("bind", bottom.source, ["ro", "rbind"])
    [both] = client.view("w", "B")
    assert both.type == "overlay" and not [each for each in both.options if each.startswith(("upper", "work"))]
    assert dict(client.stat("A").labels) == {"kept": "yes"}
    assert (client.stat("A").kind, client.stat("c").kind, client.stat("v").kind) == (3, 2, 1)
    size, inodes = client.usage("A")
    assert 10_000 <= size < 30_000 and inodes == 2
    assert client.usage("c")[1] == 1 and client.usage("v") == (0, 0)
    assert client.names() == ["A", "B", "c", "v", "w"]
    assert client.names("parent==B,kind==active", "name==A") == ["A", "c"]
    assert client.names("parent==B") == ["c", "w"] and client.names('parent==""') == ["A"]
    assert client.names("parent==B,name==w") == ["w"] and client.names("parent==C") == []


def test_what_the_rules_forbid_is_refused_by_its_code(client: Client) -> None:
    client.prepare("a")
    assert "no snapshot none" in client.refused("NOT_FOUND", "stat", "none")
    for call in ("mounts", "remove", "usage"):
        client.refused("NOT_FOUND", call, "none")
    client.refused("NOT_FOUND", "prepare", "b", "none")
    client.refused("INVALID_ARGUMENT", "prepare", "b", "a")
    client.refused("ALREADY_EXISTS", "prepare", "a")
    client.refused("NOT_FOUND", "commit", "A", "none")
    client.refused("INVALID_ARGUMENT", "commit", "A", "a", "other")
    client.commit("A", "a")
    client.refused("FAILED_PRECONDITION", "mounts", "A")
    client.refused("FAILED_PRECONDITION", "commit", "B", "A")
    client.prepare("a", "A")
    client.refused("ALREADY_EXISTS", "commit", "A", "a")
    client.view("v", "A")
    client.refused("FAILED_PRECONDITION", "commit", "V", "v")
    client.refused("FAILED_PRECONDITION", "remove", "A")
    client.refused("INVALID_ARGUMENT", "names", "=")
    client.refused("INVALID_ARGUMENT", "update", "A", ["kind"])
    client.refused("INVALID_ARGUMENT", "prepare", "u", "A", **{"containerd.io/snapshot/uidmapping": "0:x:1"})
    assert client.names() == ["A", "a", "v"]


def test_a_layer_has_the_owners_of_its_tar_whatever_its_image_says(client: Client, folder: Path) -> None:
    """Labels of a layer come from annotations in a manifest, and other images use the same layer."""
    mapping = {"containerd.io/snapshot/uidmapping": "0:1000:65536", "containerd.io/snapshot/gidmapping": "0:1000:65536"}
    name = "sha256:" + "1" * 64
    for mounts in (
        client.prepare(f"extract-1 {name}", **{REF_LABEL: name}, **mapping),
        client.mounts(f"extract-1 {name}"),
    ):
        assert not [each for mounted in mounts for each in mounted.options if "map=" in each]
        assert Path(mounts[0].source).stat().st_uid == 0
    client.commit(name, f"extract-1 {name}", **mapping)
    [container] = client.prepare("container", name, **mapping)
    assert "uidmap=0:1000:65536" in container.options
    assert (folder / "node/snapshots.db").stat().st_mode & 0o777 == 0o600


def test_labels_change_and_nothing_else(client: Client) -> None:
    client.prepare("a", one="1", two="2")
    before = client.stat("a")
    assert dict(client.update("a", ["labels.two", "labels.three"], two="", three="3").labels) == {
        "one": "1",
        "three": "3",
    }
    assert dict(client.update("a", ["labels"], four="4").labels) == {"four": "4"}
    assert dict(client.update("a", [], five="5").labels) == {"five": "5"}
    after = client.stat("a")
    assert (
        after.created_at == before.created_at and after.updated_at.ToNanoseconds() > before.updated_at.ToNanoseconds()
    )


def test_a_list_of_many_comes_whole(client: Client) -> None:
    for number in range(205):
        client.prepare(f"k{number}")
    assert client.names() == [f"k{number}" for number in range(205)]


def test_files_go_with_their_snapshot_however_deep_they_are(client: Client, folder: Path) -> None:
    [mount] = client.prepare("a")
    here = os.open(mount.source, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python's own way of deleting goes
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    client.remove("a")
    assert list((folder / "node" / "snapshots").iterdir()) == []


def test_everything_is_there_after_a_restart(folder: Path) -> None:
    def ask() -> tuple[list[Any], list[str]]:
        with served(folder / "s", folder / "node", log=print):
            client = Client(folder / "s")
            return client.mounts("b"), [str(client.stat(name)) for name in client.names()]

    with served(folder / "s", folder / "node", log=print):
        client = Client(folder / "s")
        client.prepare("a", kept="yes")
        client.commit("A", "a", kept="yes")
        client.prepare("b", "A")
    left = folder / "node" / "snapshots" / "99"
    left.mkdir()
    first = ask()
    assert ask() == first and len(first[1]) == 2 and not left.exists()


def test_one_socket_and_one_folder_have_one_agent(folder: Path) -> None:
    with served(folder / "s", folder / "node", log=print):
        with pytest.raises(StateLocked, match="serves this socket"), served(folder / "s", folder / "other", log=print):
            pass
        with pytest.raises(StateLocked, match="snapshots"), served(folder / "t", folder / "node", log=print):
            pass
        assert (folder / "s").stat().st_mode & 0o777 == 0o600
    assert not (folder / "s").exists()


def test_no_other_user_can_ask_keep_an_agent_from_starting_or_read_what_it_has(folder: Path) -> None:
    """Whoever can open a lock file can hold it."""
    folder.chmod(0o755)
    (folder / "node").mkdir()
    for lock in ("s.lock", "node/lock"):
        (folder / lock).touch(0o644)
    before = os.umask(0o022)
    try:
        with served(folder / "s", folder / "node", log=print):
            Client(folder / "s").prepare("a")
            tried = [path for name in ("", "node") for path in (folder / name).iterdir() if path != folder / "node"]
            assert {path.name for path in tried} >= {"s", "s.lock", "lock", "snapshots", "snapshots.db", "status.json"}
            assert [path for path in tried if path.stat().st_mode & 0o077] == []
    finally:
        os.umask(before)


@pytest.mark.parametrize("path", ["relative", f"/tmp/{'x' * 120}"])
def test_a_socket_that_containerd_does_not_take_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(InputError, match="absolute path"), served(Path(path), folder / "node", log=print):
        pass


def test_a_file_in_the_place_of_the_socket_stays(folder: Path) -> None:
    (folder / "s").write_text("mine")
    with pytest.raises(InputError, match="no socket"), served(folder / "s", folder / "node", log=print):
        pass
    assert (folder / "s").read_text() == "mine"


def test_a_list_that_a_newer_build_wrote_or_that_is_none_is_not_touched(folder: Path) -> None:
    (folder / "node").mkdir()
    path = folder / "node" / "snapshots.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StateTooNew), served(folder / "s", folder / "node", log=print):
        pass
    path.write_bytes(b"no database" * 100)
    with pytest.raises(LocalError, match="cannot be kept"), served(folder / "s", folder / "node", log=print):
        pass


class Served:
    """An image whose tree is a folder that is there."""

    name = "example.com/app@sha256:1"

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.layers: Sequence[str] = ("c1", "c2")

    def mount(self, chain_id: str) -> Path:
        if chain_id not in self.layers:
            raise NotFound(f"no layer {chain_id}")
        return self.tree / chain_id


class Images:
    def __init__(self, image: Served) -> None:
        self.image: Served | None = image
        self.asked: list[tuple[dict[str, str], str]] = []
        self.released: list[str] = []
        self.retained: set[str] | None = None

    def find(self, labels: Mapping[str, str], chain_id: str) -> LazyImage | None:
        self.asked.append((dict(labels), chain_id))
        return self.image

    def drain(self, *, wanted: bool, done: bool) -> None:
        pass

    def release(self, image: str) -> None:
        self.released.append(image)

    def retain(self, images: Collection[str]) -> None:
        self.retained = set(images)

    def usage(self, image: str, chain_id: str) -> tuple[int, int]:
        assert self.image is not None and image == self.image.name and chain_id in self.image.layers
        return 4096, 3


class Refusing:
    """A gate that lets nothing in which has a name."""

    def pulled(self, image: Named | None, chain_id: str = "") -> None:
        if image is not None:
            raise denied("revoked")

    def started(self, image: Named | None, layer: Layer) -> None:
        self.pulled(image)


def test_a_refused_image_whose_layers_others_have_holds_those_up_no_more_than_needed(folder: Path) -> None:
    """Where a layer is known by its chain ID alone."""
    image, log = Served(folder), list[str]()
    images = Images(image)
    with served(folder / "s", folder / "node", log=log.append, lazy=images, gate=Refusing()):
        client = Client(folder / "s")
        assert client.prepare("extract-1 c1", **{REF_LABEL: "c1"})
        client.commit("n/1/c1", "extract-1 c1")
        assert "revoked" in client.refused(
            "PERMISSION_DENIED", "prepare", "extract-2 c2", "n/1/c1", **{REF_LABEL: "c2"}
        )
        assert client.prepare("extract-3 c3", "n/1/c1", **{REF_LABEL: "c3"})
        named = {REF_LABEL: "c1", IMAGE_LABEL: "example.com/app", MANIFEST_LABEL: "sha256:1"}
        assert "revoked" in client.refused("PERMISSION_DENIED", "prepare", "extract-4 c1", "", **named)


def test_a_layer_that_an_image_serves_is_there_at_once(folder: Path) -> None:
    image = Served(folder)
    for name in image.layers:
        (folder / name).mkdir(mode=0o750)
    images, log = Images(image), list[str]()
    with served(folder / "s", folder / "node", log=log.append, lazy=images):
        client = Client(folder / "s")
        parent = ""
        for chain_id in image.layers:
            labels = {REF_LABEL: chain_id, "containerd.io/snapshot/cri.image-ref": "example.com/app"}
            client.refused("ALREADY_EXISTS", "prepare", f"extract {chain_id}", parent, **labels)
            [found] = client.names(f'labels."{REF_LABEL}"=={chain_id},parent=="{parent}"')
            assert client.stat(found).kind == 3 and dict(client.stat(found).labels) == labels
            assert images.asked[-1] == (labels, chain_id)
            parent = found
        # Nor does a pod bring one, whose annotations are labels of its own snapshot.
        assert client.prepare("n/1/pod", parent, **{**labels, IMAGE_LABEL: "example.com/secret"})
        assert client.names(f'labels."{REF_LABEL}"=={chain_id}') == [parent] and "secret" not in str(images.asked)
        client.remove("n/1/pod")
        for wrong in ("x", "0:0", "0:-1:5", "0:4294967295:2", "0:0:1,lowerdir=/", "0:99999999999999999999:1"):
            told = {"containerd.io/snapshot/uidmapping": wrong}
            client.refused("INVALID_ARGUMENT", "prepare", "n/1/pod", parent, **told)
        # A layer that it does not serve is pulled as usual, over what it serves.
        [over] = client.prepare("extract c3", parent, **{REF_LABEL: "c3"})
        assert f"lowerdir={folder / 'c2'}" in over.options and own(over).stat().st_mode & 0o777 == 0o750
        client.commit("C3", "extract c3")
        [run] = client.prepare("run", "C3")
        assert f"lowerdir={own(over)}:{folder / 'c2'}" in run.options
        [seen] = client.view("see", parent)
        assert (seen.type, seen.source) == ("bind", str(folder / "c2"))
        assert client.usage(parent) == (4096, 3)
        images.image = None
        said = client.refused("UNAVAILABLE", "mounts", "run")
        assert "pull it again" in said and log == [f"Mounts: {said}"]
        images.image = image
        for name in ("run", "see", "C3"):
            client.remove(name)
        assert images.released == []
        for name in reversed(client.names()):
            client.remove(name)
        assert images.released == [image.name] and client.names() == []
