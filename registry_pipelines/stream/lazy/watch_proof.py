"""The proof that the kernel asks before it reads a mounted file, without which ``fanotify`` would let holes be read."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from registry_pipelines.arrivals import is_ready
from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy import fanotify_wire as fan
from registry_pipelines.stream.lazy.erofs import Metadata
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, MS_RDONLY, mount, unmount
from registry_pipelines.stream.lazy.tree import ROOT, Inode, TreeWriter

TEST_BYTES = 3 * 4096
TEST_S = 20.0
"""How long the kernel may take to ask, in the test."""


def self_test(folder: Path) -> None:
    """Prove on a file of three pages that the kernel asks before it reads, refuses when told to, and then reads what
    was filled. folder: where files of images are.

    Raises LocalError: what is missing.
    """
    make_own(folder)
    with ExitStack() as stack, local_errors(folder):
        alone = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, alone)
        fcntl.flock(alone, fcntl.LOCK_EX)
        for left in folder.glob("test-*"):  # of one that was killed
            with suppress(OSError):
                unmount(left / "top", detach=True)
            shutil.rmtree(left, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix="test-", dir=folder))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        _test(place, stack)


def small_file(path: Path, stack: ExitStack) -> tuple[int, Metadata]:
    """A file of EROFS with one file, ``file``, whose content is a hole of ``TEST_BYTES``; open until the stack ends.
    Raises OSError."""
    data = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, data)
    writer = TreeWriter(1)
    top = Inode(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 2, 0, 0, 0, b"", {})
    writer.add(top, ROOT)
    number = writer.add(top._replace(mode=stat.S_IFREG | 0o600, nlink=1, size=TEST_BYTES), ROOT)
    writer.children(ROOT, [(b"file", number)])
    metadata = Metadata(writer.finish(), [TEST_BYTES])
    with os.fdopen(os.dup(data), "wb") as out:
        metadata.write(out)
    os.ftruncate(data, metadata.layout.size)
    return data, metadata


def _test(place: Path, stack: ExitStack) -> None:
    data, metadata = small_file(place / "data", stack)
    group = _test_group(data, stack, place)
    (place / "top").mkdir()
    try:
        mount(str(place / "data"), place / "top", EROFS_KIND, MS_RDONLY)
    except OSError as error:
        raise LocalError(why_no_mount(error)) from error
    stack.callback(unmount, place / "top", detach=True)
    content = os.urandom(TEST_BYTES)
    if _read(place / "top" / "file", group, lambda: fan.DENY_EIO) is not None:
        raise LocalError("the kernel does not ask before it reads")

    def fill() -> int:
        os.pwrite(data, content, metadata.layout.regions[0].offset)
        return fan.FAN_ALLOW

    if _read(place / "top" / "file", group, fill) != content:
        raise LocalError("the kernel does not read what was filled")


def _test_group(data: int, stack: ExitStack, place: Path) -> int:
    release = os.uname().release
    try:
        group = fan.open_group()
    except OSError as error:
        why = "that needs CAP_SYS_ADMIN" if error.errno == errno.EPERM else f"fanotify_init: {error.strerror}"
        raise LocalError(f"files cannot be watched: {why}") from error
    stack.callback(os.close, group)
    try:
        fan.watch(group, data)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise LocalError(f"Linux {release} cannot be asked before it reads a file; 6.14 can") from error
        why = f"({error.strerror}); ext4, XFS and btrfs can"
        raise LocalError(f"the file system cannot be watched {why}", where=str(place.parent)) from error
    return group


def why_no_mount(error: OSError) -> str:
    """What a refused mount of a plain file as EROFS means."""
    if error.errno == errno.ENODEV:
        return "the kernel has no EROFS (module erofs)"
    if error.errno == errno.ENOTBLK:
        return f"Linux {os.uname().release} mounts no plain file as EROFS; 6.12 does, on most file systems"
    return f"EROFS cannot be mounted: {error.strerror}"


def _read(path: Path, group: int, answered: Callable[[], int]) -> bytes | None:
    """What a reader gets, each of whose questions is answered so; None for an error."""
    found: list[bytes | None] = []

    def read() -> None:
        try:
            found.append(path.read_bytes())
        except OSError:
            found.append(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    asked, until = 0, time.monotonic() + TEST_S
    while reader.is_alive() and time.monotonic() < until:
        if is_ready(group, 0.002):
            for event in fan.events(group):
                asked += 1
                fan.answer(group, event.descriptor, answered())
                os.close(event.descriptor)
    if not asked:
        raise LocalError("the kernel does not ask before it reads")
    return found[0] if found else None


__all__ = ["self_test", "small_file", "why_no_mount"]
