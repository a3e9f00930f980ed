"""Trees as EROFS: what the kernel, and programs of others, see in them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import IndexInvalid, LayerInvalid
from registry_pipelines.stream.lazy.erofs import ALIGNMENT, Layout, write_erofs
from registry_pipelines.stream.lazy.mounting import MS_RDONLY, mount, unmount
from registry_pipelines.stream.lazy.tree import ROOT, Inode, Tree, TreeWriter
from tests.stream.lazy.mounts import need_erofs
from tests.stream.lazy.stacks import Entry, described, layers, need_root, unpack
from tests.stream.lazy.test_merging import merged

PEERS = Path(__file__).parents[3] / ".peers" / "bin"
DIR, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o640, stat.S_IFLNK | 0o777


def image_file(tree: Tree, tars: Sequence[bytes], path: Path) -> Layout:
    """The whole file, nothing of it a hole."""
    with path.open("wb") as file:
        layout = write_erofs(tree, [len(tar) for tar in tars], file)
        assert file.tell() == layout.metadata_bytes
        for region, tar in zip(layout.regions, tars, strict=True):
            os.pwrite(file.fileno(), tar, region.offset)
        file.truncate(layout.size)
    return layout


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount(str(image), folder, "erofs", MS_RDONLY)
    try:
        yield folder
    finally:
        unmount(folder)


def seen(top: Path) -> dict[str, tuple[Any, ...]]:
    return {path.relative_to(top).as_posix(): described(path) for path in top.rglob("*")}


@settings(max_examples=25, deadline=None)
@given(stack=st.lists(layers(), min_size=1, max_size=3))
def test_what_the_kernel_mounts_is_what_unpacking_makes(stack: list[list[Entry]]) -> None:
    need_erofs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree, tars = merged(stack, folder / "records")
        image_file(tree, tars, folder / "image")
        with mounted(folder / "image", folder / "mount") as top:
            assert seen(top) == unpack(stack, folder / "unpacked")


@pytest.mark.peer("fsck.erofs", "dump.erofs")
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.lists(layers(), min_size=1, max_size=3))
def test_erofs_utils_check_it_and_extract_what_unpacking_makes(
    peer: Callable[[str], str], stack: list[list[Entry]]
) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree, tars = merged(stack, folder / "records")
        image_file(tree, tars, folder / "image")
        command = [peer("fsck.erofs"), "--xattrs", f"--extract={folder / 'out'}", str(folder / "image")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert seen(folder / "out") == unpack(stack, folder / "unpacked")
        shown = subprocess.run([peer("dump.erofs"), str(folder / "image")], capture_output=True, text=True, check=True)
        assert f"inode count:                       {tree.nodes}\n" in shown.stdout


@pytest.mark.long
@pytest.mark.peer("erofs-list")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stack=st.lists(layers(), min_size=1, max_size=3))
def test_the_reader_of_containerd_sees_what_unpacking_makes(
    peer: Callable[[str], str], stack: list[list[Entry]]
) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree, tars = merged(stack, folder / "records")
        image_file(tree, tars, folder / "image")
        ran = subprocess.run([peer("erofs-list"), str(folder / "image")], capture_output=True, text=True, check=True)
        found = {}  # the reader leaves the mode as Linux has it in its own
        for line in map(json.loads, ran.stdout.splitlines()):
            content = line["Target"] or line["Content"]
            xattrs = line["Xattrs"] or {}
            links = 0 if line["Mode"] & 1 << 31 else line["Nlink"]
            found[line["Path"]] = (
                line["Mode"] & 0xFFFF,
                *(line[key] for key in ("UID", "GID", "Mtime", "Rdev")),
                links,
                content,
                xattrs,
            )
        del found["."]
        expected = {}
        for path, (mode, uid, gid, mtime, rdev, links, content, xattrs) in unpack(stack, folder / "unpacked").items():
            text = os.fsdecode(content) if stat.S_ISLNK(mode) else ""
            if stat.S_ISREG(mode):
                text = hashlib.sha256(content).hexdigest()
            plain = {key.decode(): value.decode() for key, value in xattrs.items()}
            expected[path] = (mode, uid, gid, mtime, rdev, links, text, plain)
        assert found == expected


def node(mode: int, size: int = 0, position: int = 0, **more: Any) -> Inode:
    plain = Inode(mode, 0, 0, 0, 0, 1, size, 0, position, b"", {})
    return plain._replace(**more)


def tree_of(children: dict[bytes, Inode], *, layers: int = 1) -> Tree:
    """One directory. Inodes that are the same object are hard links of each other."""
    writer = TreeWriter(layers)
    writer.add(node(DIR, nlink=2), ROOT)
    numbers: dict[int, int] = {}
    found = []
    for name in sorted(children):
        inode = children[name]
        if id(inode) not in numbers:
            numbers[id(inode)] = writer.add(inode, ROOT)
        found.append((name, numbers[id(inode)]))
    writer.children(ROOT, found)
    return writer.finish()


# cap_net_raw+ep, version 2; an ACL that lets user 7 read.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex("0200000001000600ffffffff020004000700000004000400ffffffff10000400ffffffff20000000ffffffff")


def test_names_times_owners_links_and_attributes_of_every_kind(tmp_path: Path) -> None:
    need_erofs()
    content = os.urandom(70_001)
    both = node(FILE, len(content), 512, uid=4_000_000_000, gid=7, mtime_ns=1_700_000_000_123_456_789, nlink=2)
    common = {b"user.long": b"x" * 300, b"security.capability": CAPABILITY}
    things = {
        **{f"name-{number:05}".encode(): both for number in range(1500)},
        **{b"!" * length: node(LINK, length, target=b"t" * length) for length in (1, 63, 255)},
        b"-before-the-dots": node(LINK, 440, target=b"a" * 440),
        b"long": node(LINK, 4095, target=b"b/" * 2047 + b"c", xattrs={b"trusted.x": b""}),
        b"\xff\xfe": node(stat.S_IFBLK | 0o600, rdev=os.makedev(259, 70_000), mtime_ns=2**62),
        b"socket": node(stat.S_IFSOCK | 0o777),
        b"pipe": node(stat.S_IFIFO | 0o644),
        b"one": node(FILE, 1, 512, xattrs=common),
        b"two": node(FILE, xattrs={**common, b"user.own": b"y" * 3000, b"bad.name": b"z"}),
        b"acl": node(FILE, xattrs={b"system.posix_acl_access": ACL}),
        **{b"all-%d" % number: node(FILE, xattrs=common) for number in range(30)},
    }
    tree = tree_of(things)
    layout = image_file(tree, [bytes(512) + content + bytes(512)], tmp_path / "image")
    assert layout.left_out == ("bad.name",) and layout.metadata_bytes % ALIGNMENT == 0
    with mounted(tmp_path / "image", tmp_path / "top") as top:
        assert sorted(os.fsencode(path.name) for path in top.iterdir()) == sorted(things)
        for name, inode in things.items():
            path = top / os.fsdecode(name)
            found = path.lstat()
            shown = (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, found.st_nlink, found.st_size)
            assert shown == (*inode[:4], inode.nlink, inode.size) and found.st_rdev == inode.rdev, name
            if stat.S_ISLNK(inode.mode):
                assert os.fsencode(path.readlink()) == inode.target
            xattrs = {
                os.fsencode(key): os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            assert xattrs == {key: value for key, value in inode.xattrs.items() if key != b"bad.name"}, name
        names = [top / "name-00000", top / "name-01499"]
        assert len({path.stat().st_ino for path in names}) == 1
        assert all(path.read_bytes() == content for path in names)
        assert (top / "one").read_bytes() == content[:1] and not (top / "nothing").exists()
        told = os.statvfs(top)
        assert told.f_blocks * told.f_frsize == layout.size and told.f_files - told.f_ffree == tree.nodes


@pytest.mark.parametrize("size", [100_000, 60])
def test_attributes_that_many_have_stand_once(size: int) -> None:
    value = os.urandom(300)
    tree = tree_of({b"%d" % number: node(FILE, xattrs={b"user.x": value}) for number in range(size // 60)})
    out = io.BytesIO()
    write_erofs(tree, [0], out)
    assert out.getvalue().count(value) == 1


@pytest.mark.parametrize(
    ("inode", "why"),
    [
        (node(FILE, xattrs={b"user.x": bytes(65_536)}), "dir/file.*attribute 'user.x' has 65536 bytes"),
        (node(LINK, 4096, target=b"x" * 4096), "dir/file.*target has 4096 bytes"),
        (node(FILE, xattrs={b"user.%d" % number: bytes(60_000) for number in range(5)}), "dir/file.*attributes have"),
    ],
)
def test_what_erofs_cannot_hold_is_said(inode: Inode, why: str) -> None:
    writer = TreeWriter(1)
    writer.add(node(DIR), ROOT)
    writer.add(node(DIR), ROOT)
    writer.add(inode, 2)
    writer.children(1, [(b"dir", 2)])
    writer.children(2, [(b"file", 3)])
    with pytest.raises(LayerInvalid, match=why):
        write_erofs(writer.finish(), [1 << 20], io.BytesIO())


@pytest.mark.parametrize("inode", [node(FILE, 10, 513), node(FILE, 600, 512), node(FILE, 1, 0, layer=1)])
def test_a_file_outside_of_its_layer_is_refused(inode: Inode) -> None:
    with pytest.raises(IndexInvalid, match="'x' begins at byte"):
        write_erofs(tree_of({b"x": inode}), [1024], io.BytesIO())


def test_layers_of_more_than_two_tebibytes_are_refused() -> None:
    write_erofs(tree_of({}), [2**41 - (1 << 20)], io.BytesIO())
    with pytest.raises(LayerInvalid, match="TiB"):
        write_erofs(tree_of({}), [2**40, 2**40], io.BytesIO())


@given(sizes=st.lists(st.integers(0, 3 * ALIGNMENT), max_size=5), ends=st.tuples(*[st.integers(0, 70_000)] * 2))
def test_where_bytes_of_layers_lie(sizes: list[int], ends: tuple[int, int]) -> None:
    layout = Layout.of(8192, sizes)
    there = {
        region.offset + position: (layer, position)
        for layer, region in enumerate(layout.regions)
        for position in range(region.size)
    }
    assert all(region.offset % ALIGNMENT == 0 for region in layout.regions) and layout.size % ALIGNMENT == 0
    assert len(there) == sum(sizes) and min(there, default=8192) >= 8192 and max(there, default=0) < layout.size
    assert all(
        layout.find(offset) == there.get(offset) for offset in (*ends, *(region.offset for region in layout.regions))
    )
    start, stop = sorted(ends)
    found = [
        (part.offset + step, (part.layer, part.position + step))
        for part in layout.parts(start, stop)
        for step in range(part.size)
    ]
    assert found == [(offset, where) for offset, where in sorted(there.items()) if start <= offset < stop]
