"""The store of layers' records: whole or not there, for several processes, bounded; and reading without zlib-ng."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from zlib_ng import zlib_ng

from registry_pipelines.errors import DigestMismatch, LayerInvalid, ToolMissing
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import FORMAT, LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from tests.oci.test_layers import make_tar
from tests.patience import patient
from tests.ztoc_vectors import files, vectors

TAR = make_tar(("a", b"content"), ("b", bytes(range(256)) * 100))
RAW = gzip.compress(TAR, mtime=0)
LAYER = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(RAW), size=len(RAW))
DIFF_ID = Digest.of(TAR)


def read(store: LayerStore, number: int = 0) -> tuple[Digest, Digest]:
    """Another layer for each number; its diffID and digest."""
    tar = make_tar(("a", b"%d" % number), ("b", os.urandom(60_000))) if number else TAR
    raw = gzip.compress(tar, mtime=0) if number else RAW
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
    store.read(io.BytesIO(raw), layer, Digest.of(tar))
    return Digest.of(tar), layer.digest


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_record_is_found_by_both_digests_and_its_span(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    assert store.get(DIFF_ID, LAYER.digest) is None
    read(store)
    found = LayerStore(tmp_path).get(DIFF_ID, LAYER.digest)
    assert found is not None and (found.diff_id, found.digest, found.size) == (DIFF_ID, LAYER.digest, len(RAW))
    assert store.get(LAYER.digest, LAYER.digest) is None
    assert store.get(DIFF_ID, DIFF_ID) is None
    assert store.get(DIFF_ID, LAYER.digest, span_bytes=1 << 20) is None


@pytest.mark.parametrize("what", ["diffID", "digest", "size", "cut"])
def test_what_is_not_as_it_was_said_leaves_nothing(what: str, tmp_path: Path) -> None:
    other, size = Digest.of(b"other"), len(RAW) + (what == "size")
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=other if what == "digest" else LAYER.digest, size=size)
    raw, diff_id = RAW[:-9] if what == "cut" else RAW, other if what == "diffID" else DIFF_ID
    with pytest.raises(LayerInvalid if what in ("size", "cut") else DigestMismatch):
        LayerStore(tmp_path).read(io.BytesIO(raw), layer, diff_id)
    assert stored(tmp_path) == []


@pytest.mark.parametrize("name", ["entries", "windows", "record.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_record_is_none_and_is_made_again(name: str, damage: str, tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    read(store)
    (path,) = tmp_path.rglob(name)
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else content[:-1])
    if damage == "flipped" and name == "record.json":
        path.write_bytes(content.replace(b'"span_bytes":', b'"spun_bytes":'))
    assert store.get(DIFF_ID, LAYER.digest) is None
    read(store)
    assert store.get(DIFF_ID, LAYER.digest) is not None


def test_a_record_stays_readable_when_the_store_lets_it_go(tmp_path: Path) -> None:
    store = LayerStore(tmp_path, max_bytes=1)
    read(store)
    record = store.get(DIFF_ID, LAYER.digest)
    assert record is not None
    expected = (bytes(record.window(0)), list(record.entries()))
    read(store, 1)
    assert store.get(DIFF_ID, LAYER.digest) is None
    assert (bytes(record.window(0)), list(record.entries())) == expected


def test_the_records_not_used_for_longest_go_first(tmp_path: Path) -> None:
    store = LayerStore(tmp_path, max_bytes=3 * 34_500)
    keys = [read(store, number) for number in (1, 2, 3)]
    for number, path in enumerate({path.parent for path in stored(tmp_path)}):
        os.utime(path, (number, number))
    assert store.get(*keys[0]) is not None
    keys.append(read(store, 4))
    assert [store.get(*key) is not None for key in (keys[0], keys[3])] == [True, True]
    assert [store.get(*key) is not None for key in keys].count(True) == 3


def test_what_killed_processes_and_older_versions_left_goes(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    read(store)
    (folder,) = tmp_path.glob("v*")
    old, fresh = folder / ".writing-old", folder / ".writing-fresh"
    older, newer = (tmp_path / f"v{FORMAT + step}" for step in (-1, 1))
    for path in (old, fresh, older, newer):
        path.mkdir()
        (path / "windows").write_bytes(b"x")
    yesterday = time.time() - 25 * 3600
    for path in (old / "windows", old):
        os.utime(path, (yesterday, yesterday))
    read(store, 1)
    assert [path.exists() for path in (old, fresh, older, newer)] == [False, True, False, True]


def read_and_get(folder: Path) -> bool:
    store = LayerStore(folder)
    read(store)
    record = store.get(DIFF_ID, LAYER.digest)
    return record is not None and len(list(record.entries())) == 2


def test_processes_that_read_the_same_layer_at_once_leave_one_record(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        assert all(pool.map(read_and_get, [tmp_path] * 12))
    assert sorted(path.name for path in stored(tmp_path)) == ["entries", "record.json", "windows"]


WITHOUT = """
import json, sys
from zlib_ng import zlib_ng
import ctypes
import msgspec._core  # some library that is there as a file
zlib_ng.__file__ = msgspec._core.__file__
if sys.argv[2] == "neither":
    load = ctypes.CDLL
    def CDLL(name, *more):
        if name == "libz.so.1":
            raise OSError("libz.so.1: cannot open shared object file")
        return load(name, *more)
    ctypes.CDLL = CDLL
from pathlib import Path
from registry_pipelines.oci.layer import inflate
from tests.oci import test_layer_store
print(json.dumps(test_layer_store.points_of_vectors(Path(sys.argv[1]))))
print(inflate.load().name)
"""


def points_of_vectors(folder: Path) -> list[list[list[int]]]:
    """Of all golden layers."""
    found = []
    for number, vector in enumerate(vectors("golden")):
        raw = files()[vector["layer"]]
        tar = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw))
        store = LayerStore(folder / str(number))
        record = store.read(io.BytesIO(raw), layer, Digest.of(tar), span_bytes=vector["span_size"])
        found.append([list(point) for point in record.checkpoints])
    return found


def run_without(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process where zlib-ng's extension exports nothing, as its wheels for other platforms may."""
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=patient(60), cwd=Path(__file__).parents[2])


def test_where_zlib_ng_exports_nothing_the_systems_zlib_gives_the_same_points(tmp_path: Path) -> None:
    done = run_without(tmp_path, "libz")
    points, name = done.stdout.splitlines()
    assert (json.loads(points), name) == ([vector["checkpoints"] for vector in vectors("golden")], "zlib")


def test_without_both_libraries_a_record_of_gzip_is_refused_and_says_what_to_install(tmp_path: Path) -> None:
    done = run_without(tmp_path, "neither")
    assert done.returncode == 1
    assert ToolMissing.__name__ in done.stderr and "zlib1g on Debian" in done.stderr


SCAN_WITHOUT = (
    WITHOUT.partition("from pathlib")[0]
    + """
from pathlib import Path
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.sbom import scan_image
from tests.scan.images import DEBIAN, push_image
folder = Path(sys.argv[1])
place = Place(LayoutRegistry(folder / "registry"), "team/app")
(packages,) = scan_image(place, push_image(place, [DEBIAN]), state=folder / "state", records=True)
[record] = (folder / "state" / "layers").rglob("record.json")
print(len(packages.components), record.parent.name.rpartition("-")[2])
"""
)


def test_without_both_libraries_a_scan_works_and_leaves_a_listing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCAN_WITHOUT, str(tmp_path), "neither"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=patient(60), cwd=Path(__file__).parents[2], check=True
    )
    assert done.stdout.split() == ["2", "0"]


MEASURE = """
import sys
from pathlib import Path
from registry_pipelines.threads import Pool
from tests.oci.test_layer_store import huge_layer
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.oci.layer.record import LayerRecord

def anonymous():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("RssAnon")).split()[1]) // 1024

most, seen = 0, 0
class Stream:
    def __init__(self, pieces):
        self.pieces, self.piece = pieces, memoryview(b"")
    def readinto(self, buffer):
        global most, seen
        if not self.piece:
            self.piece = memoryview(next(filter(None, self.pieces), b""))
            seen += 1
            if seen % 50 == 0:
                most = max(most, anonymous())
        count = min(len(buffer), len(self.piece))
        buffer[:count] = self.piece[:count]
        self.piece = self.piece[count:]
        return count

store = LayerStore(Path(sys.argv[1]), max_bytes=1 << 40)
with store.writing() as writer, Pool(1, "hash") as beside:
    walk = open_layer(Stream(huge_layer(int(sys.argv[2]))), OCI_LAYER_GZIP, writer=writer, beside=beside)
    for entry in walk:
        pass
    walk.finish()
    record = LayerRecord(writer.folder)
    count = sum(1 for entry in record.entries())
    most = max(most, anonymous())
    print(most, record.tar_size, len(record.checkpoints), count)
"""


def huge_layer(gib: int) -> Iterator[bytes]:
    """A gzip layer of so many GiB of tar: for each 64 MiB of one file 400 small entries with extended headers. The big
    content is compressed once and repeated, so that making it takes no time."""
    words = b"".join(b"%x " % number for number in range(1 << 18))[: 1 << 20]
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    big = packer.compress(words) + packer.flush(zlib.Z_FULL_FLUSH)
    packer, crc, size = zlib.compressobj(1, zlib.DEFLATED, -15), 0, 0

    def add(content: bytes) -> None:
        nonlocal crc, size
        crc, size = zlib_ng.crc32(content, crc), size + len(content)

    yield bytes.fromhex("1f8b08000000000000ff")
    for number in range(gib * 16):
        for small in range(401):
            info = tarfile.TarInfo(f"folder-{number}/{'deep/' * 10}{small}")
            info.pax_headers = {"SCHILY.xattr.user.number": f"{number}-{small}" * 20}
            info.size = 64 << 20 if small == 400 else 0
            header = info.tobuf(tarfile.PAX_FORMAT)
            add(header)
            yield packer.compress(header)
        yield packer.flush(zlib.Z_FULL_FLUSH)
        for _ in range(64):
            add(words)
            yield big
    add(bytes(1024))
    yield packer.compress(bytes(1024)) + packer.flush() + struct.pack("<II", crc, size & 0xFFFFFFFF)


@pytest.mark.long
def test_memory_stays_below_200_mib_at_any_size_of_a_layer(tmp_path: Path) -> None:
    found = {}
    for gib in (1, 9):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / str(gib)), str(gib)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        most, size, points, entries = map(int, done.stdout.split())
        assert size > gib << 30 and points > gib * 200 and entries == gib * 16 * 401
        found[gib] = most
    assert max(found.values()) < 200
    # What a GiB more costs: its points and digests in memory, nothing of its windows (8 MiB) and headers.
    assert found[9] - found[1] < 8 * 8
