"""Small trees that are served to the real kernel."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES, FuseServer
from registry_pipelines.stream.lazy.mounting import DEVICE, end_mount, mount_fuse
from registry_pipelines.stream.lazy.pages_ahead import Placed
from registry_pipelines.stream.lazy.watch_proof import self_test
from tests.needs import missing


def read_ahead(folder: Path) -> int:
    device = folder.stat().st_dev
    return int(Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").read_text()) << 10


def erofs_read_aheads() -> list[str]:
    """Of all such mounts of this machine, in KiB; those of other tests come and go meanwhile."""
    found = []
    for path in Path("/sys/class/bdi").glob("erofs-*/read_ahead_kb"):
        with suppress(OSError):
            found.append(path.read_text().strip())
    return found


def need_fuse() -> None:
    """Root, and a kernel that mounts."""
    if os.geteuid() != 0 or not DEVICE.exists():
        missing("this needs root and /dev/fuse")


def need_erofs() -> None:
    """Root, and a kernel that mounts plain files as EROFS."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    known = any(line.split()[-1] == "erofs" for line in Path("/proc/filesystems").read_text().splitlines())
    if os.geteuid() != 0 or not known or release < (6, 12):
        missing("this needs root, and Linux 6.12 or later with EROFS")


def need_fanotify(folder: Path) -> None:
    """Root, a kernel that asks before it reads, and a file system that takes part."""
    need_erofs()
    try:
        self_test(folder)
    except LocalError as error:
        missing(f"this needs Linux 6.14 and a file system that can be watched: {error.what}")


@dataclass
class Thing:
    """A file by its content, a directory by its names, a link by its target, or another by its mode alone."""

    mode: int
    content: bytes = b""
    names: dict[bytes, int] = field(default_factory=dict)
    target: bytes = b""
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    rdev: int = 0
    nlink: int = 1
    above: int = 1

    @property
    def size(self) -> int:
        return len(self.target or self.content)


@dataclass
class MemoryTree:
    """Things by number. fetch: makes what a read of content gives in place of ``view``, where it is there."""

    things: dict[int, Thing]
    fetch: Callable[[bytes], bytes] | None = None
    any_xattrs: bool = True
    content_bytes: int = 1 << 20
    asked: list[int] = field(default_factory=list)
    """Whose content was asked for."""
    copy: Path | None = None
    """Where a file gets a copy of its own."""
    told: list[tuple[int, int, int]] = field(default_factory=list)
    """What was said to be read next."""

    @property
    def nodes(self) -> int:
        return len(self.things)

    def node(self, number: int) -> Thing:
        return self.things[number]

    def lookup(self, directory: int, name: bytes) -> int | None:
        return self.things[directory].names.get(name)

    def children(self, directory: int) -> list[tuple[bytes, int]]:
        return list(self.things[directory].names.items())

    def parent(self, directory: int) -> int:
        return self.things[directory].above

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        assert offset + size <= self.things[number].size
        self.asked.append(number)
        return None if self.fetch else memoryview(self.things[number].content)[offset : offset + size]

    def read(self, number: int, offset: int, size: int) -> bytes:
        assert self.fetch is not None
        return self.fetch(self.things[number].content)[offset : offset + size]

    def soon(self, number: int, offset: int, size: int) -> None:
        self.told.append((number, offset, size))

    def unpacked(self, number: int) -> int | None:
        return os.open(self.copy, os.O_RDONLY) if self.copy and self.copy.exists() else None

    def unpack(self, number: int) -> bool:
        if self.copy is None:
            return False
        whole = self.copy.with_suffix(".new")
        whole.write_bytes(self.things[number].content)
        whole.rename(self.copy)
        return True


def one_file(content: bytes, fetch: Callable[[bytes], bytes] | None = None) -> MemoryTree:
    top = Thing(stat.S_IFDIR | 0o755, names={b"file": 2}, nlink=2)
    return MemoryTree({1: top, 2: Thing(stat.S_IFREG | 0o644, content)}, fetch)


@contextmanager
def mounted(
    tree: MemoryTree,
    folder: Path,
    *,
    read_ahead_bytes: int = READ_AHEAD_BYTES,
    copies: bool = False,
    alone: bool = False,
    ahead: Placed | None = None,
) -> Iterator[FuseServer]:
    """A tree on a folder, which is made; served by threads of this process. ahead: where its files are, of which pages
    come ahead."""
    folder.mkdir(exist_ok=True)
    device = mount_fuse(folder, "a test")
    server = FuseServer(device, tree, copies=tree if copies else None, read_ahead_bytes=read_ahead_bytes, alone=alone)
    if ahead is not None:
        server.pages_ahead(ahead)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        end_mount(folder)
        thread.join()
        os.close(device)
