"""Images that start from a hot pack: what is fetched, what is read, and what a wrong pack does."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from registry_pipelines.errors import IndexInvalid, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes, artifact_manifest
from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.embedded.server import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check import check_release
from registry_pipelines.stream.hot.metadata import read_metadata
from registry_pipelines.stream.hot.pack import PACK_TYPE, Head, decode_head, encode_head
from registry_pipelines.stream.hot.packs import find_packs, publish_pack, read_head
from registry_pipelines.stream.hot.touched import WINDOW_BYTES
from registry_pipelines.stream.hot.using import PackStream, open_pack
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.carriers import Kind, Where, open_carrier
from registry_pipelines.stream.lazy.erofs import Metadata
from registry_pipelines.stream.lazy.filling import Filler
from registry_pipelines.stream.lazy.notes import MountNote, NoteFile
from registry_pipelines.stream.lazy.opened import OpenImage, open_image
from registry_pipelines.stream.lazy.pieces import Pieces
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt, CutAnswer, Fault, HoldContent, NoRange, Status
from tests.evidence.parts import Counted, Key
from tests.patience import until
from tests.stream.hot.packing import MIB, content, cut, image, recording
from tests.stream.lazy.mounts import erofs_read_aheads, need_fanotify, need_fuse, read_ahead
from tests.stream.releases import ESTARGZ, INDEXED, Streamer, push_index

NOISE = random.Random("v1").randbytes(4 * MIB)


@dataclass
class Hot:
    """An image with an index and a pack, behind a registry that may have faults."""

    faults: FaultRegistry
    place: Place
    behind: Place
    key: Key
    release: Descriptor
    said: list[str] = field(default_factory=list)

    def blobs(self, number: int) -> str:
        """Where the blobs of a pack are: 0 its head, from 2 on its frames."""
        [pack] = find_packs(self.behind, self.release.digest, self.key.verifier).believed
        manifest = self.behind.registry.get_manifest(self.behind.repository, pack.descriptor.digest).content()
        return f"/v2/team/app/blobs/{manifest.layers[number].digest}"  # type: ignore[union-attr]

    @property
    def head(self) -> Head:
        """Of its pack."""
        return read_head(self.behind, find_packs(self.behind, self.release.digest, self.key.verifier).believed[0])

    def opened(self, node: Path, key: Key | None = None, **more: object):  # type: ignore[no-untyped-def]
        """On a node with this folder."""
        verifier = (key or self.key).verifier
        return open_image(self.place, "v1", state=node, verifier=verifier, log=self.said.append, **more)  # type: ignore[arg-type]

    def attach(self, change: Callable[[Head], Head]) -> None:
        """Another pack, newer than the one that is there, and signed: with its head changed."""
        [there] = find_packs(self.behind, self.release.digest, self.key.verifier).believed
        raw = encode_head(change(read_head(self.behind, there)))
        note = msgspec.structs.replace(there.note, head=Digest.of(raw))
        with Engine().opened() as state:
            publish_pack(Uploads(state, self.behind), self.release, raw, [], note, self.key.signer)
        self.behind.registry.delete_manifest(self.behind.repository, there.descriptor.digest)


def counted_note(opened: OpenImage, node: Path) -> MountNote:
    return opened.count(opened.note("v1", node))


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory, make_key: Callable[[str], Key]) -> tuple[Path, Descriptor]:
    """The folder of a registry with an image, its index and its pack, and the image; to be copied."""
    folder, key = tmp_path_factory.mktemp("packed"), make_key("ours")
    with EmbeddedServer(folder / "registry") as server:
        registry = DistributionRegistry(server.address)
        place = Place(registry, "team/app")
        release = image(place)
        Streamer(place, folder / "state", key.signer).index(release, INDEXED)
        files = {"data/1": MIB, "etc/motd": 6, "data/2": MIB}
        assert cut(place, folder / "state", key, recording(release.digest, files)).pack is not None
        registry.close()
    return folder / "registry", release


@pytest.fixture
def hot(packed: tuple[Path, Descriptor], key: Key, tmp_path: Path) -> Iterator[Hot]:
    shutil.copytree(packed[0], tmp_path / "registry")
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        retries = Retries(attempts=2, first_wait_s=0.01)
        behind = DistributionRegistry(server.address)
        registry = DistributionRegistry(faults.address, plain_http=True, retries=retries)
        yield Hot(faults, Place(registry, "team/app"), Place(behind, "team/app"), key, packed[1])
        registry.close()
        behind.close()


def test_each_thing_that_a_start_is_made_by_is_asked_for_once(hot: Hot, tmp_path: Path) -> None:
    manifests = r".*/manifests/[^-]*"  # the tag with referrers, which has a minus, is asked for each time
    for get, head in ((2, 0), (0, 1)):  # those of the image and of its pack; then what the image's tag names now
        hot.faults.reset_counts()
        with hot.opened(tmp_path / "node") as opened:
            assert content(opened, "etc/motd") == b"hello\n"
        assert (len(hot.faults.requests("GET", manifests)), len(hot.faults.requests("HEAD"))) == (get, head)


def test_no_start_waits_for_a_disk_to_take_what_the_registry_said(
    hot: Hot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: waited.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    with hot.opened(tmp_path / "node") as opened, NoteFile(tmp_path / "notes") as notes:
        assert content(opened, "etc/motd") == b"hello\n"
        notes.write(counted_note(opened, tmp_path / "node"))
        assert not waited
    kept = [path for path in (tmp_path / "node" / "lazy" / "manifests").iterdir() if path.is_file()]
    assert len(kept) >= 5
    for number, path in enumerate(kept):  # a power cut
        path.write_bytes((b"", bytes(path.stat().st_size), path.read_bytes()[:-1])[number % 3])
    with hot.opened(tmp_path / "node") as opened:
        assert content(opened, "etc/motd") == b"hello\n" and not hot.said


def test_what_was_recorded_comes_from_the_pack_and_the_rest_from_the_layers(hot: Hot, tmp_path: Path) -> None:
    node = tmp_path / "node"
    with hot.opened(node) as opened:
        before = len(hot.faults.requests("GET", r".*/(manifests|referrers)/.*"))
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        assert content(opened, "etc/motd") == b"hello\n"
        assert content(opened, "data/2") == NOISE[2 * MIB : 3 * MIB]
        note = counted_note(opened, node)
        assert note.pack and note.lazy and not note.demand_bytes
        assert 2 * MIB < note.pack_bytes == note.fetched_bytes < 2 * MIB + 50_000
        # The image's manifest, its referrers, the pack's manifest; nothing of the index was asked for.
        assert before <= 4 and len(hot.faults.requests("GET", r".*/manifests/.*")) <= 3
        assert content(opened, "data/3") == NOISE[3 * MIB :]
        note = counted_note(opened, node)
        assert 0 < note.demand_bytes < 1.5 * MIB and note.layers_whole == 0
    hot.faults.reset_counts()
    with hot.opened(node) as opened:  # all of it is here
        assert content(opened, "data/2") == NOISE[2 * MIB : 3 * MIB]
        assert counted_note(opened, node).fetched_bytes == 0
    with hot.opened(tmp_path / "other", use_pack=False) as opened:
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        note = counted_note(opened, node)
        assert not note.pack and not note.pack_bytes and note.demand_bytes
    assert not hot.said


def test_the_rest_comes_in_the_background_behind_the_pack(hot: Hot, tmp_path: Path) -> None:
    with hot.opened(tmp_path / "node") as opened:
        opened.fill_rest()
        until(lambda: (note := counted_note(opened, tmp_path)).filled_bytes == note.size_bytes)
        note = counted_note(opened, tmp_path)
        assert note.pack_bytes and note.background_bytes and not note.demand_bytes
        assert [content(opened, f"data/{n}") for n in range(4)] == [NOISE[n * MIB : (n + 1) * MIB] for n in range(4)]


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (Corrupt(5000), 1000),
        (CutAnswer(300_000), 1000),
        (Status(404), 1000),
        (Status(503), 1000),
        (Status(503), 1),
        (NoRange(), 1000),
    ],
    ids=["corrupt", "cut", "gone", "ill", "ill once", "no ranges"],
)
def test_frames_that_do_not_come_right_are_read_from_the_layers(
    hot: Hot, tmp_path: Path, fault: Fault, times: int
) -> None:
    hot.faults.play("GET", hot.blobs(2), fault, times=times)
    with hot.opened(tmp_path / "node", patience_s=20) as opened:
        for number in (2, 1, 3):
            assert content(opened, f"data/{number}") == NOISE[number * MIB : (number + 1) * MIB]
        assert content(opened, "etc/motd") == b"hello\n"
        note = counted_note(opened, tmp_path)
    works = times == 1 or isinstance(fault, NoRange)
    assert len(hot.said) == (not works) and (works or "the rest is read from the layers" in hot.said[0])
    assert not works or (note.pack_bytes > 2 * MIB and note.demand_bytes < 1.5 * MIB)


def test_frames_of_another_blob_are_none(hot: Hot, tmp_path: Path) -> None:
    """Blobs are asked for by digest, and a registry may give what it likes."""

    def swapped(head: Head) -> Head:
        [part] = head.parts
        first, second = part.frames[:2]
        frames = (first._replace(sha256=second.sha256), second._replace(sha256=first.sha256), *part.frames[2:])
        return head._replace(parts=(part._replace(frames=frames),))

    hot.attach(swapped)
    with hot.opened(tmp_path / "node") as opened:
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        assert counted_note(opened, tmp_path).demand_bytes
    [line] = hot.said
    assert "another" in line and "the rest is read from the layers" in line


def worse(change: str, head: Head) -> Head:
    if change == "another image":
        return head._replace(image=Digest.of(b"another"))
    if change == "other layers":
        return head._replace(layers=tuple(each._replace(digest=Digest.of(b"x")) for each in head.layers))
    if change == "another table":
        return head._replace(layers=tuple(each._replace(table=Digest.of(b"x")) for each in head.layers))
    if change == "files behind their layer":
        layers = tuple(each._replace(size=max(1, each.size // 4)) for each in head.layers)
        return head._replace(layers=layers, parts=(), order=())
    if change == "no tree":
        return head._replace(tree=b"no tree")
    assert change == "no head"
    return head._replace(window=0)


@pytest.mark.parametrize(
    "change", ["another image", "other layers", "another table", "files behind their layer", "no tree", "no head"]
)
def test_a_pack_that_does_not_fit_is_told_and_the_image_starts_without(hot: Hot, tmp_path: Path, change: str) -> None:
    hot.attach(lambda head: worse(change, head))
    starts_without(hot, tmp_path)


@pytest.mark.parametrize("fault", [Corrupt(100), CutAnswer(100), Status(404)], ids=["corrupt", "cut", "gone"])
def test_a_head_that_does_not_come_right_is_told(hot: Hot, tmp_path: Path, fault: Fault) -> None:
    hot.faults.play("GET", hot.blobs(0), fault)
    starts_without(hot, tmp_path)


def test_a_pack_that_nobody_believed_signed_is_told(hot: Hot, other_key: Key, tmp_path: Path) -> None:
    with hot.opened(tmp_path / "node", other_key) as opened:
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        assert not counted_note(opened, tmp_path).pack
    [line] = hot.said
    assert "trusted key" in line


def test_a_signed_note_is_no_good_for_another_pack_or_another_image(hot: Hot, tmp_path: Path) -> None:
    [there] = find_packs(hot.behind, hot.release.digest, hot.key.verifier).believed
    registry, repository = hot.behind.registry, hot.behind.repository
    manifest = registry.get_manifest(repository, there.descriptor.digest).content()
    head, note, frames, _ = manifest.layers  # type: ignore[union-attr]
    wrong = artifact_manifest(
        artifact_type=PACK_TYPE,
        layers=[msgspec.structs.replace(head, digest=frames.digest, size=frames.size), note, frames],
        subject=hot.release,
    )
    other = image(hot.behind, tag="v2", more_mib=1)
    moved = artifact_manifest(artifact_type=PACK_TYPE, layers=[head, note, frames], subject=other)
    for each in (wrong, moved):
        registry.put_manifest(repository, each)
    registry.delete_manifest(repository, there.descriptor.digest)
    assert [each.reason for each in find_packs(hot.behind, hot.release.digest, hot.key.verifier).not_used] == [
        "the signed note is about another image or another head"
    ]
    found = find_packs(hot.behind, other.digest, hot.key.verifier)
    assert not found.believed and "not about" in found.not_used[0].reason
    starts_without(hot, tmp_path)


def starts_without(hot: Hot, folder: Path) -> None:
    with hot.opened(folder / "node") as opened:
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        note = counted_note(opened, folder)
        assert not note.pack and not note.pack_bytes and note.lazy
    [line] = hot.said
    assert "pack is not used" in line


def comes(opened: OpenImage, path: str) -> bool:
    """Whether a file can be read by now: a good answer, too, may take longer than a reader waits here."""
    with suppress(Unavailable):
        return bool(content(opened, path))
    return False


def test_a_registry_that_hangs_in_the_middle_is_an_error_after_a_while_and_the_rest_comes_later(
    hot: Hot, tmp_path: Path
) -> None:
    hold = HoldContent(threading.Event(), 700_000)
    hot.faults.play("GET", hot.blobs(2), hold)
    with hot.opened(tmp_path / "node", patience_s=0.3) as opened:
        until(lambda: comes(opened, "data/2"))
        assert content(opened, "data/2") == NOISE[2 * MIB : 3 * MIB]  # its frames hang, and so it is read by pieces
        hold.release.set()
    with hot.opened(tmp_path / "node") as opened:
        first = counted_note(opened, tmp_path).pack_bytes
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        assert counted_note(opened, tmp_path).pack_bytes >= first
    with hot.opened(tmp_path / "node") as opened:
        hot.faults.reset_counts()
        assert content(opened, "data/1") + content(opened, "data/2") == NOISE[MIB : 3 * MIB]
        assert counted_note(opened, tmp_path).fetched_bytes == 0


@pytest.mark.parametrize("ranges", [True, False], ids=["by ranges", "whole"])
def test_of_what_is_under_way_at_the_end_nobody_waits_for_the_rest(hot: Hot, tmp_path: Path, ranges: bool) -> None:
    hold = HoldContent(threading.Event(), 700_000)
    if not ranges:
        hot.faults.play("GET", hot.blobs(2), NoRange(), times=1000)
    hot.faults.play("GET", hot.blobs(2), hold)
    pack = open_pack(hot.place, hot.release.digest, hot.key.verifier, log=hot.said.append)
    assert pack is not None
    store = BlockStore(tmp_path / "blocks")
    with Filler(hot.place, store, log=hot.said.append) as filler:
        layers = [filler.open_late(each.digest, each.size, unread, table=None) for each in pack.head.layers]
        stream = PackStream(hot.place, pack, layers, store, count=filler.counts.pack, log=hot.said.append)
        [number] = {part.layer for part in pack.head.parts}
        comes = stream.of_layer(number)
        assert comes is not None
        stream.start()
        until(lambda: filler.counts.pack.bytes > 600_000)  # the registry holds the rest
        stream.close()
        hold.release.set()
        stream.join()
        assert not comes.wanted(0, layers[number].size)[0]


def unread() -> Pieces:
    raise AssertionError("nothing is read by pieces")


def test_a_registry_that_dies_ends_every_read(hot: Hot, tmp_path: Path) -> None:
    hold = HoldContent(threading.Event(), 400_000)
    hot.faults.play("GET", hot.blobs(2), hold)
    with hot.opened(tmp_path / "node", patience_s=0.3) as opened:
        hot.faults.play("GET", r"/v2/team/app/.*", Status(503))
        with pytest.raises(Unavailable):
            content(opened, "data/3")
        hold.release.set()
        hot.faults.clear()
        until(lambda: comes(opened, "data/3"))
        assert content(opened, "data/3") == NOISE[3 * MIB :]


def test_a_layer_that_no_index_has_is_fetched_whole_when_something_else_of_it_is_read(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=4)
    cut(counted.place, streamer.state, key, recording(release.digest, {"data/1": MIB}))
    node = tmp_path / "node"
    with open_image(counted.place, "v1", state=node, verifier=key.verifier, log=print) as opened:
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB]
        assert counted_note(opened, node).fetched_bytes < 1.1 * MIB
        assert content(opened, "data/3") == NOISE[3 * MIB :]
        note = counted_note(opened, node)
        assert note.layers_whole == 1 and "no index" in note.reasons[0] and note.demand_bytes > 4 * MIB


def test_an_estargz_image_and_an_index_of_platforms_have_packs(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    image(counted.place, more_mib=4)
    converted = streamer.convert(counted.place.registry.resolve("team/app", "v1"), ESTARGZ).derived
    assert converted is not None
    other = image(counted.place, tag="other", more_mib=1)
    push_index(counted.place, {"arm64": other, "amd64": converted}, tag="many")
    told = recording(converted.digest, {"data/1": MIB, "motd": 6, "etc/motd": 6})
    made = cut(counted.place, streamer.state, key, told)
    assert made.pages_found == 257 and made.files_dropped == 1  # a link is no file
    said: list[str] = []
    with open_image(counted.place, "many", state=tmp_path / "node", verifier=key.verifier, log=said.append) as opened:
        assert content(opened, "data/1") == NOISE[MIB : 2 * MIB] and content(opened, "etc/motd") == b"hello\n"
        note = counted_note(opened, tmp_path)
        assert note.pack and not note.demand_bytes
        assert content(opened, "data/3") == NOISE[3 * MIB :] and counted_note(opened, tmp_path).demand_bytes < 2 * MIB
    assert not said


def test_heads_are_read_as_they_were_written_and_nothing_else_is(hot: Hot) -> None:
    head = hot.head
    raw = encode_head(head)
    assert decode_head(raw) == head and encode_head(decode_head(raw)) == raw
    assert isinstance(hot.behind.registry.get_manifest("team/app", "v1"), ManifestBytes)


def test_a_kernel_mounts_the_metadata_that_came_with_the_pack(hot: Hot, tmp_path: Path) -> None:
    need_fanotify(tmp_path)
    with hot.opened(tmp_path / "node") as opened:
        ready = opened.metadata()
        assert ready is not None
        made = Metadata(opened.tree, [layer.size for layer in opened.layers])
        raw, own = bytearray(), bytearray()
        ready.write(SimpleNamespace(write=raw.extend))
        made.write(SimpleNamespace(write=own.extend))
        assert raw == own and ready.layout == made.layout
        (tmp_path / "top").mkdir()
        carrier = open_carrier("fanotify", opened, Where(tmp_path / "top", "v1", tmp_path / "lazy"), log=pytest.fail)
        thread = threading.Thread(target=carrier.run)
        thread.start()
        try:
            assert (tmp_path / "top/data/1").read_bytes() == content(opened, "data/1")
            assert sorted(each.name for each in (tmp_path / "top").iterdir()) == ["data", "etc", "lib", "motd"]
        finally:
            carrier.end()
            thread.join()
            carrier.close()
    assert hot.faults.requests("GET", hot.blobs(-1))


@pytest.mark.parametrize("carrier", ["fuse", "fanotify"])
def test_a_mount_reads_ahead_as_far_as_its_pack_was_cut_for(hot: Hot, tmp_path: Path, carrier: Kind) -> None:
    if carrier == "fuse":
        need_fuse()
    else:
        need_fanotify(tmp_path)
    assert hot.head.window == WINDOW_BYTES
    hot.attach(lambda head: head._replace(window=(16 << 10) + 1))
    top = tmp_path / "top"
    top.mkdir()
    with hot.opened(tmp_path / "node") as opened:
        mount = open_carrier(carrier, opened, Where(top, "v1", tmp_path / "lazy"), log=lambda line: None)
        thread = threading.Thread(target=mount.run)
        thread.start()
        try:
            assert (top / "motd").is_symlink()
            if carrier == "fuse":
                assert read_ahead(top) == 16 << 10
            else:  # the kernel numbers those by itself; no other mount of tests has a window of that size
                assert "16" in erofs_read_aheads()
        finally:
            mount.end()
            thread.join()
            mount.close()


@pytest.mark.parametrize("change", ["damaged", "of another form", "of other layers"])
def test_metadata_that_cannot_be_used_is_made_here(hot: Hot, tmp_path: Path, change: str) -> None:
    there = hot.head.metadata
    assert there is not None
    match change:
        case "damaged":
            hot.faults.play("GET", hot.blobs(-1), Corrupt(100), times=1000)
        case "of another form":
            hot.attach(lambda head: head._replace(metadata=there._replace(format=there.format + 1)))
        case _:
            layers = tuple(each._replace(size=each.size + (1 << 20)) for each in hot.head.layers)
            with pytest.raises(IndexInvalid):
                read_metadata(hot.behind, there, [each.size for each in layers])
            return
    with hot.opened(tmp_path / "node") as opened:
        assert opened.metadata() is None
    assert bool(hot.said) == (change == "damaged")


def test_a_check_says_what_pack_there_is(hot: Hot, other_key: Key) -> None:
    def checked(key: Key | None) -> tuple[str, list[str]]:
        found = check_release(hot.place, "v1", verifier=key.verifier if key else None, min_layer_bytes=1000)
        [pack] = found.packs
        return pack.state, [row.name for row in found.rows if row.name.startswith("pack-")]

    assert checked(hot.key) == ("fresh", [])
    assert checked(None) == ("unverified", [])
    assert checked(other_key) == ("not believed", ["pack-unsigned"])
    [pack] = check_release(hot.place, "v1", verifier=hot.key.verifier).packs
    assert pack.pages_found == 1.0 and 2 * MIB < pack.stored_bytes < pack.content_bytes + 1000
    hot.faults.play("HEAD", hot.blobs(2), Status(404))
    assert checked(hot.key) == ("damaged", ["pack-damaged"])
    hot.faults.clear()
    hot.attach(lambda head: worse("files behind their layer", head))
    assert checked(hot.key) == ("damaged", ["pack-damaged"])
    [pack] = find_packs(hot.behind, hot.release.digest, hot.key.verifier).believed
    hot.behind.registry.delete_manifest(hot.behind.repository, pack.descriptor.digest)
    assert checked(hot.key) == ("none", [])
