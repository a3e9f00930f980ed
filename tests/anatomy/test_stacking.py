"""Layers on each other, held against a file system: each layer is unpacked into one folder as a runtime would do it."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry_pipelines.anatomy.stacking import Piece, stack
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER

NAMES = st.sampled_from(["a", "b", "x", "link"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ENTRIES = st.one_of(
    st.tuples(st.just("file"), PATHS, st.sampled_from([b"", b"one", b"two" * 300])),
    st.tuples(st.just("dir"), PATHS, st.just(b"")),
    st.tuples(st.just("symlink"), st.sampled_from(["link", "a/link"]), st.sampled_from([b"x", b"b"])),
    st.tuples(st.just("hardlink"), PATHS, st.integers(0, 8).map(lambda number: b"%d" % number)),
    st.tuples(st.just("gone"), PATHS, st.just(b"")),
    st.tuples(st.just("opaque"), PATHS, st.just(b"")),
)
Entry = tuple[str, str, bytes]


def layer_tar(entries: list[Entry]) -> tuple[bytes, list[Entry]]:
    """The tar, and the entries that are in it: hard links name a file that stands before them."""
    buffer, kept, files = io.BytesIO(), [], []
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind, path, content in entries:
            head, _, base = path.rpartition("/")
            name = {"gone": f"{head}/.wh.{base}".lstrip("/"), "opaque": f"{path}/.wh..wh..opq"}.get(kind, path)
            info = tarfile.TarInfo(name)
            if kind == "hardlink":
                if not files or files[int(content) % len(files)] == path:
                    continue
                content = files[int(content) % len(files)].encode()
                info.type, info.linkname = tarfile.LNKTYPE, content.decode()
            elif kind in ("dir", "symlink"):
                info.type = tarfile.DIRTYPE if kind == "dir" else tarfile.SYMTYPE
                info.linkname = content.decode()
            elif kind == "file":
                info.size = len(content)
                files.append(path)
            tar.addfile(info, io.BytesIO(content) if kind == "file" else None)
            kept.append((kind, path, content))
    return buffer.getvalue(), kept


def unpack(root: Path, entries: list[Entry]) -> None:
    for kind, path, _ in entries:
        where = real(root, path if kind == "opaque" else str(Path(path).parent))
        if kind == "gone" and where.is_dir():
            clear(where / Path(path).name)
        elif kind == "opaque" and where.is_dir():
            for each in list(where.iterdir()):
                clear(each)
    for kind, path, content in entries:
        if kind in ("gone", "opaque"):
            continue
        parent = make(root, Path(path).parent)
        target = parent / Path(path).name
        if kind == "dir":
            if target.is_symlink() or not target.is_dir():
                clear(target)
                target.mkdir()
        elif kind == "hardlink":
            source = real(root, str(Path(content.decode()).parent)) / Path(content.decode()).name
            if (not source.is_symlink() and not source.is_file()) or (os.path.lexists(target) and same(source, target)):
                continue
            held = root.parent / "held"
            os.link(source, held, follow_symlinks=False)
            clear(target)
            held.rename(target)
        else:
            clear(target)
            if kind == "symlink":
                target.symlink_to(content.decode())
            else:
                target.write_bytes(content)


def same(first: Path, second: Path) -> bool:
    return os.path.samestat(first.lstat(), second.lstat())


def real(root: Path, path: str) -> Path:
    return Path(os.path.realpath(root / path))


def make(root: Path, path: Path) -> Path:
    """The folder, made where it is not there; files in its way go."""
    here = root
    for part in path.parts:
        here = Path(os.path.realpath(here / part))
        if not here.is_dir():
            clear(here)
            here.mkdir(parents=True)
    return here


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read(folder: Path, tars: list[bytes]) -> list[LayerRecord]:
    store, records = LayerStore(folder), []
    for raw in tars:
        layer = Descriptor(media_type=OCI_LAYER, digest=Digest.of(raw), size=len(raw))
        records.append(store.read(io.BytesIO(raw), layer, layer.digest))  # type: ignore[arg-type]
    return records


def names(piece: Piece) -> set[str]:
    return {piece.path, *piece.also}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=4))
# A hard link to a symbolic link is one more of it, and takes the place of a file.
@example([[("file", "link", b""), ("file", "a", b"one"), ("symlink", "link", b"x"), ("hardlink", "a", b"0")]])
def test_what_stands_is_what_unpacking_leaves(layers: list[list[Entry]]) -> None:
    made = [layer_tar(entries) for entries in layers]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        for _, entries in made:
            unpack(root, entries)
        there = {}
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                there.setdefault(path.stat().st_ino, (path.stat().st_size, set()))[1].add(str(path.relative_to(root)))
        pieces = stack(read(Path(folder, "records"), [raw for raw, _ in made]))
    standing = [each for each in pieces if not each.gone]
    assert sorted(each.size for each in standing) == sorted(size for size, _ in there.values())
    if not any(kind == "symlink" for _, entries in made for kind, _, _ in entries):
        for _, paths in there.values():
            assert any(paths == names(each) - each.removed for each in standing)
    assert all((each.gone_by >= each.layer) == bool(each.gone) for each in pieces)
    files = sum(kind == "file" for _, entries in made for kind, _, _ in entries)
    assert len(pieces) == files
