"""What a node keeps of layers: bits that never say more than what is there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import IndexInvalid, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from tests.patience import patient
from tests.stream.lazy.parts import noise

LAYER = Digest.of(b"a layer")


def fill(layer: LazyLayer, tar: bytes, start: int, stop: int) -> None:
    layer.put(start, tar[start:stop])
    layer.mark(start, stop)


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    size = draw(st.integers(1, 5000))
    cuts = st.tuples(st.integers(0, size), st.integers(0, size))
    return size, [(min(each), max(each)) for each in draw(st.lists(cuts, max_size=12))]


@settings(max_examples=200)
@given(parts())
def test_only_what_was_marked_is_there(
    tmp_path_factory: pytest.TempPathFactory, marked: tuple[int, list[tuple[int, int]]]
) -> None:
    size, runs = marked
    tar, there = noise(1, size), bytearray(size)
    with BlockStore(tmp_path_factory.mktemp("blocks")).open(LAYER, size) as layer:
        for start, stop in runs:
            fill(layer, tar, start, stop)
            there[start:stop] = b"\1" * (stop - start)
        blocks = [there[at : at + 512] for at in range(0, size, 512)]
        whole = sum(len(each) for each in blocks if all(each))
        assert layer.filled_bytes in (whole, min(size, -(-whole // 512) * 512))
        for start, stop in [*runs, (0, size)]:
            # Blocks in the middle are all or nothing; the outer ones are there to the byte.
            inner = there[start - start % 512 : stop + -stop % 512]
            if all(inner):
                assert layer.holds(start, stop)
            if not all(there[start:stop]):
                assert not layer.holds(start, stop)
            if layer.holds(start, stop):
                assert layer.read(start, stop - start) == tar[start:stop]
            else:
                with pytest.raises(LocalError, match="does not have"):
                    layer.read(start, stop - start)
        for start, stop in ((-1, 1), (0, size + 1), (size, size + 1)):
            with pytest.raises(IndexInvalid, match="outside"):
                layer.read(start, stop - start)


def test_another_table_is_another_file(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    tables = [None, Digest.of(b"one"), Digest.of(b"other")]
    layers = [store.open(LAYER, 1000, table=table) for table in tables]
    fill(layers[1], bytes(1000), 0, 1000)
    assert [layer.complete for layer in layers] == [False, True, False]
    with store.open(LAYER, 1000, table=tables[1]) as again, store.open(LAYER, 999, table=tables[1]) as shorter:
        assert again.complete and not shorter.complete
    for layer in layers:
        layer.close()


def test_a_folder_that_others_write_to_is_refused(tmp_path: Path) -> None:
    BlockStore(tmp_path / "blocks")
    inner = tmp_path / "blocks" / "v1"
    assert stat.S_IMODE(inner.stat().st_mode) == 0o700
    inner.chmod(0o777)
    with pytest.raises(LocalError, match="other users"):
        BlockStore(tmp_path / "blocks")


def crash(layer: LazyLayer) -> None:
    """What a crash of the machine may leave: bits of this run of it, and none of the bytes that were not synced."""
    (layer.folder / "boot").write_text("an earlier run of the kernel 1")


def test_after_a_crash_of_the_machine_only_what_was_synced_is_believed(tmp_path: Path) -> None:
    tar, store = noise(1, 40_000), BlockStore(tmp_path)
    with store.open(LAYER, len(tar)) as layer:
        fill(layer, tar, 0, 10_000)
        layer.sync()
        fill(layer, tar, 20_000, 30_000)
    folder = layer.folder
    crash(layer)
    with store.open(LAYER, len(tar)) as layer:
        # It was closed in order, so all of it was synced; an edge is forgotten.
        assert layer.holds(0, 9_728) and layer.holds(20_480, 29_696) and not layer.holds(20_000, 20_480)
        synced = (folder / "synced").read_bytes()
        fill(layer, tar, 30_720, len(tar))
        # The last block is a short one.
        assert layer.holds(30_720, len(tar))
        other = os.open(folder / "data", os.O_RDWR)
        os.pwrite(other, bytes(len(tar) - 30_720), 30_720)
        os.close(other)
    (folder / "synced").write_bytes(synced)
    crash(layer)
    with store.open(LAYER, len(tar)) as layer:
        assert layer.holds(20_480, 29_696) and not layer.holds(30_720, 31_232)
    (folder / "synced").write_bytes(synced[:-1] + bytes([synced[-1] ^ 1]))
    crash(layer)
    with store.open(LAYER, len(tar)) as layer:
        assert layer.filled_bytes == 0
    with store.open(LAYER, len(tar)) as layer:
        fill(layer, tar, 0, len(tar))
    os.truncate(folder / "data", 512)
    with store.open(LAYER, len(tar)) as layer:
        assert layer.filled_bytes == 0


def test_a_copy_of_the_folder_is_not_believed(tmp_path: Path) -> None:
    tar = noise(1, 5000)
    with BlockStore(tmp_path / "one").open(LAYER, len(tar)) as layer:
        fill(layer, tar, 0, len(tar))
        layer.sync()
        shutil.copytree(tmp_path / "one", tmp_path / "other")
    with BlockStore(tmp_path / "other").open(LAYER, len(tar)) as layer:
        assert not layer.filled_bytes
    with BlockStore(tmp_path / "one").open(LAYER, len(tar)) as layer:
        assert layer.complete


def test_what_the_disk_did_not_take_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BlockStore(tmp_path).open(LAYER, 5000) as layer:
        fill(layer, bytes(5000), 0, 1024)
        layer.sync()
        synced = (layer.folder / "synced").read_bytes()
        fill(layer, bytes(5000), 1000, 4000)
        with monkeypatch.context() as refused:
            refused.setattr(os, "fdatasync", lambda _: os.close(-1))
            with pytest.raises(OSError, match="Bad file"):
                layer.sync()
        assert layer.holds(0, 1024) and layer.filled_bytes == 1024 and not layer.holds(3900, 3901)
        layer.sync()
        assert (layer.folder / "synced").read_bytes() == synced
        fill(layer, bytes(5000), 1024, 5000)
        layer.sync()
        assert layer.complete and (layer.folder / "synced").read_bytes() != synced


def test_what_is_open_is_never_evicted(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, max_bytes=250_000)
    tar = noise(1, 100_000)
    digests = [Digest.of(bytes([number])) for number in range(4)]
    opened = store.open(digests[0], len(tar))
    fill(opened, tar, 0, len(tar))
    for age, digest in enumerate(digests[1:]):
        with store.open(digest, len(tar)) as layer:
            fill(layer, tar, 0, len(tar))
        os.utime(layer.folder / "lease", (1000 + age, 1000 + age))
    os.utime(opened.folder / "lease", (1, 1))
    assert store.make_room() > 0
    there = []
    for digest in digests[1:]:
        with store.open(digest, len(tar)) as layer:
            there.append(layer.complete)
    assert opened.read(0, len(tar)) == tar and there == [False, False, True]
    opened.close()
    for _ in digests:
        store.make_room(10**9)
    with store.open(digests[0], len(tar)) as layer:
        assert not layer.filled_bytes
    assert not list(tmp_path.glob("v1/.deleting-*"))


FILLER = """
import random, sys
from pathlib import Path
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.lazy.blocks import BlockStore
tar, draw = Path(sys.argv[2]).read_bytes(), random.Random(int(sys.argv[3]))
layer = BlockStore(Path(sys.argv[1])).open(Digest.of(b"a layer"), len(tar))
print("open", flush=True)
for number in range(10**9):
    start = draw.randrange(len(tar))
    stop = min(len(tar), start + draw.randrange(60_000))
    layer.put(start, tar[start:stop])
    layer.mark(start, stop)
    if number % 20 == 0:
        layer.sync()
    if layer.complete:
        break
"""


def killed_fillers(tmp_path: Path, seeds: range) -> None:
    tar, store = noise(1, 2_000_001), BlockStore(tmp_path / "blocks")
    (tmp_path / "tar").write_bytes(tar)
    for seed in seeds:
        command = [sys.executable, "-c", FILLER, str(tmp_path / "blocks"), str(tmp_path / "tar")]
        fillers = [subprocess.Popen([*command, str(seed + each)], stdout=subprocess.PIPE) for each in (0, 1000)]
        for process in fillers:
            assert process.stdout and process.stdout.readline() == b"open\n"
        with store.open(LAYER, len(tar)) as layer:
            draw = random.Random(seed)
            wanted = draw.randrange(len(tar) // 2)
            while layer.filled_bytes < wanted:
                pass
            for process in fillers:
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=patient(30))
            right = sum(
                layer.read(at, min(512, len(tar) - at)) == tar[at : at + 512]
                for at in range(0, len(tar), 512)
                if layer.holds(at, min(at + 512, len(tar)))
            )
            assert right == -(-layer.filled_bytes // 512) > 0
        if seed % 2:
            crash(layer)
        assert store.make_room(10**9) if seed % 3 == 2 else True


def test_two_processes_fill_one_layer_and_are_killed(tmp_path: Path) -> None:
    killed_fillers(tmp_path, range(1, 3))


@pytest.mark.long
def test_many_kills_leave_no_wrong_byte(tmp_path: Path) -> None:
    killed_fillers(tmp_path, range(100))


def test_a_part_of_a_layer_becomes_a_file_of_its_own_and_goes_with_the_layer(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(1 << 20)
    store = BlockStore(tmp_path)
    with store.open(Digest.of(content), len(content)) as layer:
        layer.put(0, content[: 1 << 19])
        layer.mark(0, 1 << 19)
        assert layer.unpacked(1000, 400_000) is None
        assert not layer.unpack(1000, 1 << 19)  # not all of it is here
        assert layer.unpack(1000, 400_000) and layer.unpack(1000, 400_000)
        copy = layer.unpacked(1000, 400_000)
        assert copy is not None
        with os.fdopen(copy, "rb") as file:
            assert file.read() == content[1000:401_000]
        names = {each.name for each in layer.folder.iterdir()}
        counted = sum(each.stat().st_blocks * 512 for each in layer.folder.iterdir())
    assert "file-1000-400000" in names and counted >= (1 << 19) + 400_000
    assert not layer.unpack(0, 1000)  # it is closed
    assert store.make_room(1) >= counted - (1 << 16)
    assert not layer.folder.exists()
