"""This machine: who asks, what the kernel carries, how much room there is, and whether the clock can be right."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.node.examining.model import Finding, failed, from_error, note, well
from registry_pipelines.progress import size_text

LEAST_FREE_BYTES = 10 << 30
"""Below it layers of the next image may not fit: one of PyTorch unpacks to 7 GB."""
_NOT_SYNCHRONISED = 5
"""adjtimex(2), TIME_ERROR."""
_TIMEX_BYTES = 1024
"""More than ``struct timex`` has on any machine."""
_UNFIT = ("overlay", "tmpfs", "nfs", "nfs4", "fuse", "squashfs")
"""File systems on which a container's own files cannot stand, or are lost."""


def examine_machine(root: Path, lazy: Path) -> Iterator[Finding]:
    """root, lazy: folders of the agent, for snapshots and for what is kept of lazy images."""
    if os.geteuid() != 0:
        yield failed("user", "this is not root, and snapshots are mounted by root", do="Run it as root")
        return
    yield well("user", "root")
    yield from _carriers(lazy)
    yield from _disks(root, lazy)
    yield _clock()


def _carriers(lazy: Path) -> Iterator[Finding]:
    from registry_pipelines.stream.lazy.probing import probe

    try:
        found = probe(lazy)
    except RegistryPipelinesError as error:
        yield from_error("kernel", error)
        return
    for part in found.parts:
        if not part.works:
            yield note(f"kernel: {part.name}", f"{part.tried}: {part.came}, so {part.without}")
    if found.carriers:
        yield well("kernel", f"Linux {found.kernel} carries lazy images by {', '.join(found.carriers)}", str(lazy))
    else:
        yield failed(
            "kernel",
            f"Linux {found.kernel} carries no lazy images, so all are pulled as usual",
            where=str(lazy),
            do="Load the module (`modprobe fuse`); in a container give it /dev/fuse and CAP_SYS_ADMIN",
        )


def _disks(root: Path, lazy: Path) -> Iterator[Finding]:
    seen = set()
    for about, folder in (("disk of snapshots", root), ("disk of lazy images", lazy)):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        status = os.statvfs(there)
        if there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        free, kind = status.f_bavail * status.f_frsize, _kind_of(there)
        if status.f_flag & os.ST_RDONLY:
            yield failed(about, "it is mounted read-only", where=str(there), do="Name another with --root")
        elif kind in _UNFIT and folder is root:
            yield failed(about, f"it is on {kind}", where=str(there), do="Name a folder on ext4 or XFS with --root")
        elif status.f_files and status.f_favail < status.f_files // 100:
            yield failed(about, "less than 1 % of its inodes are free", where=str(there), do="Remove images")
        elif free < LEAST_FREE_BYTES:
            yield note(about, f"{size_text(free)} are free", where=str(there), do="Remove images, or use a larger disk")
        else:
            yield well(about, f"{size_text(free)} are free on {kind or 'its file system'}", str(there))


def _kind_of(folder: Path) -> str:
    """Of the file system that a folder is on (proc(5), mountinfo); empty where the kernel does not say."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    return ""


def _clock() -> Finding:
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _NOT_SYNCHRONISED:
        return note(
            "clock",
            "the kernel says that nothing keeps it right; certificates and log-ins of clouds fail by minutes",
            do="Run a time service: chrony or systemd-timesyncd",
        )
    if state < 0:
        return note("clock", f"the kernel does not say: {os.strerror(ctypes.get_errno())}")
    return well("clock", "a time service keeps it right")


__all__ = ["examine_machine"]
