"""Layers merged to one tree: what unpacking them one above the other makes, and what no unpacking would make."""

from __future__ import annotations

import gzip
import io
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import IndexInvalid, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.tree import ROOT, Tree
from registry_pipelines.stream.mountable import ztoc_files
from tests.stream.layers import pack
from tests.stream.lazy.stacks import Entry, entry, layers, need_root, unpack

DIR, LINK, SYM, CHAR = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE


def merged(stack: Sequence[list[Entry]], folder: Path) -> tuple[Tree, list[bytes]]:
    tars = [pack(entries) for entries in stack]
    store = LayerStore(folder)
    records = []
    for tar in tars:
        blob = gzip.compress(tar, 1)
        layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(blob), size=len(blob))
        records.append(store.read(io.BytesIO(blob), layer, Digest.of(tar)))
    return merge_layers([ztoc_files(record) for record in records]), tars


def everything(tree: Tree, tars: Sequence[bytes]) -> dict[str, tuple[Any, ...]]:
    """All paths of a tree, described as ``stacks.described`` does."""
    found: dict[str, tuple[Any, ...]] = {}
    waiting = [("", ROOT)]
    while waiting:
        above, directory = waiting.pop()
        names = [name for name, _ in tree.children(directory)]
        assert names == sorted(names) and tree.lookup(directory, b"no such name") is None
        for name, number in tree.children(directory):
            path, node = f"{above}{name.decode()}", tree.node(number)
            assert tree.lookup(directory, name) == number == tree.find(path.encode())
            folder = stat.S_ISDIR(node.mode)
            if folder:
                assert tree.parent(number) == directory
                waiting.append((f"{path}/", number))
            content = node.target
            if stat.S_ISREG(node.mode):
                content = tars[node.layer][node.position : node.position + node.size]
            links = 0 if folder else node.nlink
            owner = (node.mode, node.uid, node.gid, node.mtime_ns, node.rdev)
            found[path] = (*owner, links, content, dict(node.xattrs))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4))
def test_a_tree_is_what_unpacking_the_layers_makes(stack: list[list[Entry]]) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as folder:
        tree, tars = merged(stack, Path(folder, "records"))
        assert everything(tree, tars) == unpack(stack, Path(folder, "unpacked"))
        again = Tree.load(tree.dump())
        assert everything(again, tars) == everything(tree, tars)
        assert (again.nodes, again.layers, again.any_xattrs) == (tree.nodes, len(stack), tree.any_xattrs)
        sizes = {number: tree.node(number).size for number in range(1, tree.nodes + 1)}
        files = {number: size for number, size in sizes.items() if stat.S_ISREG(tree.node(number).mode)}
        assert tree.content_bytes == again.content_bytes == sum(files.values())


def paths(stack: Sequence[list[Entry]], folder: Path) -> dict[str, bytes]:
    return {path: what[-2] for path, what in everything(*merged(stack, folder)).items()}


def test_a_whiteout_hides_what_is_below_wherever_it_stands_in_its_layer(tmp_path: Path) -> None:
    base = [entry("a", DIR), entry("a/old", content=b"1"), entry("b", content=b"2"), entry("c/d", content=b"3")]
    after = [entry("a/new", content=b"4"), entry("a/.wh..wh..opq"), entry("b", DIR), entry(".wh.b"), entry(".wh.none")]
    device = entry("c/d", CHAR, devmajor=0, devminor=0)
    found = paths([base, [*after, device, entry(".wh..wh.plnk/1", content=b"x")]], tmp_path)
    assert found == {"a": b"", "a/new": b"4", "b": b"", "c": b""} | {".wh..wh.plnk": b"", ".wh..wh.plnk/1": b"x"}


def test_a_hard_link_gives_its_owner_and_mode_to_the_file_and_may_name_one_below(tmp_path: Path) -> None:
    base = [entry("a", content=b"x", mode=0o600), entry("b", LINK, linkname="a", mode=0o4755, uid=7, mtime=5)]
    tree, _ = merged([base, [entry("c", LINK, linkname="./b", mode=0o644)]], tmp_path)
    first, second, third = (tree.node(tree.find(name) or 0) for name in (b"a", b"b", b"c"))
    assert (first.mode, first.uid, first.mtime_ns) == (stat.S_IFREG | 0o4755, 7, 5 * 10**9)
    # The name that was linked to goes up with the file; the other one below stays as it was.
    assert second == third and (third.mode, third.nlink, first.nlink) == (stat.S_IFREG | 0o644, 2, 1)
    assert (third.layer, third.position, third.size) == (first.layer, first.position, first.size)


def test_a_file_that_is_linked_to_goes_up_as_overlayfs_has_it(tmp_path: Path) -> None:
    need_root()
    for name in ("lower/a", "upper", "work", "merged"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lower/a/b").write_bytes(b"x")
    (tmp_path / "lower/a/c").hardlink_to(tmp_path / "lower/a/b")
    # On a file system of its own: the folder may be an overlay itself, and none stands on another.
    script = f"""cd {tmp_path}; mount -t tmpfs none work && mkdir work/l work/u work/w && cp -a lower/. work/l &&
        mount -t overlay none -o lowerdir=work/l,upperdir=work/u,workdir=work/w merged &&
        ln merged/a/b merged/d && ln merged/a/b merged/e && chmod 4755 merged/e && cd merged &&
        stat -c '%n %i %a' a/b a/c d e"""
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    seen = {name: (inode, mode) for name, inode, mode in (line.split() for line in done.stdout.splitlines())}
    base = [entry("a/b", content=b"x"), entry("a/c", LINK, linkname="a/b")]
    links = [entry("d", LINK, linkname="a/b"), entry("e", LINK, linkname="a/b", mode=0o4755)]
    tree, _ = merged([base, links], tmp_path / "records")
    numbers = {name: tree.find(name.encode()) or 0 for name in seen}
    assert {name: f"{tree.node(number).mode & 0o7777:o}" for name, number in numbers.items()} == {
        name: mode for name, (_, mode) in seen.items()
    }
    for one in seen:
        assert {other for other in seen if seen[other][0] == seen[one][0]} == {
            other for other in seen if numbers[other] == numbers[one]
        }


def test_a_file_that_is_linked_to_and_hidden_by_the_same_layer_goes(tmp_path: Path) -> None:
    base = [entry("a/b", content=b"x"), entry("e/a", content=b"y")]
    more = [
        entry("c", LINK, linkname="a/b"),
        entry("a/.wh.b"),
        entry("d", LINK, linkname="e/a"),
        entry("e/.wh..wh..opq"),
    ]
    assert set(paths([base, more], tmp_path)) == {"a", "c", "d", "e"}


def test_entries_below_a_symbolic_link_of_their_layer_stand_where_it_leads(tmp_path: Path) -> None:
    usr = [entry("usr/lib", DIR), entry("lib", SYM, linkname="usr/lib"), entry("lib/a", content=b"1")]
    more = [entry("x/y", SYM, linkname="/lib/../../lib"), entry("x/y/b", content=b"2")]
    assert {"usr/lib/a": b"1", "usr/lib/b": b"2", "lib": b"usr/lib"}.items() <= paths([usr + more], tmp_path).items()


def test_a_directory_that_no_entry_tells_of_is_the_one_below_or_roots(tmp_path: Path) -> None:
    base = [entry("a", DIR, mode=0o700, uid=5, mtime=9)]
    tree, _ = merged([base, [entry("a/b/c", content=b"")]], tmp_path)
    told, made = (tree.node(tree.find(name) or 0) for name in (b"a", b"a/b"))
    assert (told.mode & 0o7777, told.uid, told.mtime_ns, told.nlink) == (0o700, 5, 9 * 10**9, 3)
    assert (made.mode & 0o7777, made.uid, made.mtime_ns, made.nlink) == (0o755, 0, 0, 2)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("a", LINK, linkname="none")], "hard link to 'none'"),
        ([entry("a", DIR), entry("b", LINK, linkname="a")], "hard link to 'a'"),
        ([entry("a", SYM, linkname="b"), entry("b", SYM, linkname="a"), entry("a/c")], "circle"),
        ([entry("n" * 256)], "256 bytes"),
        ([entry("n" * 256 + "/a")], "too long"),
        ([entry("d/" * 1100 + "a")], "too many"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_by_name(entries: list[Entry], why: str, tmp_path: Path) -> None:
    with pytest.raises(LayerInvalid, match="cannot be unpacked because of") as told:
        merged([entries], tmp_path)
    assert why in told.value.what


def test_attributes_of_the_kernel_alone_are_left_out(tmp_path: Path) -> None:
    info, _ = entry("a")
    capability = "\x01\x00"
    info.pax_headers = {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.capability": capability,
        "comment": "x",
    }
    tree, _ = merged([[(info, b"")]], tmp_path)
    assert tree.node(tree.find(b"a") or 0).xattrs == {b"security.capability": capability.encode()}


@given(st.binary(max_size=40), st.integers(0, 2000))
def test_a_kept_tree_that_is_damaged_is_not_read(noise: bytes, cut: int) -> None:
    raw = merge_layers([[]]).dump()
    for damaged in (noise, raw[: cut % len(raw)], raw[:-1] + bytes([raw[-1] ^ 1])):
        with pytest.raises(IndexInvalid):
            Tree.load(damaged)


MANY = """
from pathlib import Path
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.toc import FileMetadata

def entries(count):
    for number in range(count):
        folder, file = divmod(number, 20)
        name = b"usr/lib/package%05d/module_%02d_of_it.py" % (folder, file)
        owner = (0o644, 0, 0, b"", b"", b"2024-01-01T00:00:00Z", 0, 0, ())
        yield FileMetadata(name, b"reg", number << 10, 1000, b"", *owner)

def resident(which):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which)]
    return int(line.split()[1]) << 10

Path("/proc/self/clear_refs").write_text("5")  # the kernel's own peak (VmHWM) begins anew (man 5 proc)
before = resident("VmRSS")
merge_layers([entries(200_000)])
print(resident("VmHWM") - before)
"""


@pytest.mark.long
def test_many_files_are_merged_in_bounded_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", MANY], check=True, capture_output=True, text=True)
    assert int(ran.stdout) < 75 << 20  # objects took 100
