"""The store of layers' records: whole or not there, for several processes, bounded; and reading without zlib-ng."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from registry_pipelines.errors import DigestMismatch, LayerInvalid, ToolMissing
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
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


def test_what_killed_processes_and_other_versions_left_goes(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    read(store)
    (folder,) = tmp_path.glob("v*")
    old, fresh, other = folder / ".writing-old", folder / ".writing-fresh", tmp_path / "v0"
    for path in (old, fresh, other):
        path.mkdir()
        (path / "windows").write_bytes(b"x")
    yesterday = time.time() - 25 * 3600
    for path in (old / "windows", old):
        os.utime(path, (yesterday, yesterday))
    read(store, 1)
    assert (old.exists(), fresh.exists(), other.exists()) == (False, True, False)


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
import ctypes, math
zlib_ng.__file__ = math.__file__
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
(packages,) = scan_image(place, push_image(place, [DEBIAN]), state=folder / "state")
print(len(packages.components), (folder / "state" / "layers").exists())
"""
)


def test_without_both_libraries_a_scan_works_and_leaves_no_record(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCAN_WITHOUT, str(tmp_path), "neither"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=patient(60), cwd=Path(__file__).parents[2], check=True
    )
    assert done.stdout.split() == ["2", "False"]
