"""The root of a program that is started from an image: a writable layer above it, and what of the machine is needed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy import mounting
from registry_pipelines.stream.lazy.mounting import mount
from registry_pipelines.stream.lazy.namespaces import group_ids, user_ids

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
GPU_DEVICES = ("nvidia*", "dri", "kfd")
FROM_HERE = ("etc/resolv.conf", "etc/hosts")
"""Files of the machine that the program sees in place of the image's, as in Docker."""

SCRATCH = ("tmp", "run", "var/tmp")
"""Where a program can write though its root is read-only."""

_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus")
"""Of /proc: settings of the machine."""
_PLACES = {"proc": 0o555, "sys": 0o555, "dev": 0o755}


class Kinds(Protocol):
    """What a tree has under a path: its mode, user and group; None for nothing. No link is followed."""

    def __call__(self, path: str) -> tuple[int, int, int] | None:
        """See above."""
        ...


@contextmanager
def run_folder(parent: Path) -> Iterator[Path]:
    """A folder for one run, gone with the context; those of runs that were killed go now. Raises LocalError."""
    with local_errors(parent):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        alone = _folder(parent)
        try:
            fcntl.flock(alone, fcntl.LOCK_EX)
            for left in parent.iterdir():
                _remove_unused(left)
            folder = Path(tempfile.mkdtemp(dir=parent))
            held = _folder(folder)
            fcntl.flock(held, fcntl.LOCK_SH)
        finally:
            os.close(alone)
    try:
        yield folder
    finally:
        os.close(held)
        _remove_unused(folder)


def _folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _remove_unused(folder: Path) -> None:
    try:
        held = _folder(folder)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(held)


@contextmanager
def writable_root(
    image: Path,
    folder: Path,
    kinds: Kinds,
    say: Callable[[str], object],
    *,
    files: Mapping[str, Path] = MappingProxyType({}),
    memory_bytes: int = 0,
) -> Iterator[Path]:
    """A writable tree above a mounted image while the context lasts. What is written goes to ``folder``, or to memory
    where that file system cannot bear it; where the kernel puts nothing above the image (without root, before 5.11)
    only ``SCRATCH`` is writable. say: is told where it is not the first of these. files: of the machine, seen read-only
    by their paths below the root, in folders of the image and through no link. memory_bytes: it is kept in memory, and
    no more than that. Gives where the tree is. Raises InputError, LocalError."""
    root, above = folder / "root", folder / "above"
    for each in (root, above):
        each.mkdir()
    try:
        try:
            if memory_bytes:
                _memory(above, f",size={memory_bytes}")
            _fill_above(above, kinds, files)
            _overlay(image, above, root)
        except OSError:
            if not memory_bytes:
                _memory(above)
                _fill_above(above, kinds, files)
            try:
                _overlay(image, above, root)
                say("what the program writes is kept in memory: the folder's file system bears no writable layer")
            except OSError as error:
                _read_only_root(image, above, root, kinds)
                places = ", ".join(f"/{name}" for name in SCRATCH)
                say(f"the program can write only to {places}, which are empty: no overlay here ({error.strerror})")
                if files:
                    say("the program sees nothing of the machine's GPU driver: nothing can be laid above the image")
                files = {}
        for name, source in files.items():
            _show(source, root / name)
    except OSError as error:
        _end_mounts(root, above)
        raise LocalError(f"the image cannot be made a root: {error.strerror}") from error
    try:
        yield root
    finally:
        _end_mounts(root, above)


def _memory(folder: Path, more: str = "") -> None:
    mount("none", folder, "tmpfs", 0, f"mode=755{more}")


def _read_only_root(image: Path, above: Path, root: Path, kinds: Kinds) -> None:
    mount(str(image), root, "", mounting.MS_BIND | mounting.MS_REC)
    for name in _PLACES:
        if kinds(name) is None:
            raise InputError(f"the image has no folder /{name}, and nothing can be written above it here")
    for name in SCRATCH:
        found = kinds(name)
        if found is not None and stat.S_ISDIR(found[0]):
            mount("none", root / name, "tmpfs", mounting.MS_NOSUID | mounting.MS_NODEV, "mode=1777")
    for name in FROM_HERE:
        found = kinds(name)
        if found is not None and stat.S_ISREG(found[0]) and (above / "upper" / name).is_file():
            mount(str(above / "upper" / name), root / name, "", mounting.MS_BIND)


def _end_mounts(*folders: Path) -> None:
    for each in folders:
        with suppress(OSError):  # it is not mounted
            mounting.unmount(each, detach=True)


def _overlay(image: Path, above: Path, root: Path) -> None:
    def plain(path: Path) -> str:
        return re.sub(r"([\\:,])", r"\\\1", str(path))

    options = f"lowerdir={plain(image)},upperdir={plain(above / 'upper')},workdir={plain(above / 'work')}"
    if not user_ids().every:  # attributes of the kernel's own are not ours to write
        options += ",userxattr"
    try:
        # What is written goes with the program: nobody waits at its end until the disk has all that came meanwhile.
        mount("overlay", root, "overlay", mounting.MS_NODEV, f"{options},volatile")
    except OSError as error:
        if error.errno != errno.EINVAL:  # Linux 5.10 knows it
            raise
        mount("overlay", root, "overlay", mounting.MS_NODEV, options)


def _show(source: Path, target: Path) -> None:
    """A file of the machine in place of an empty one, read-only."""
    mount(str(source), target, "", mounting.MS_BIND)
    flags = mounting.MS_REMOUNT | mounting.MS_BIND | mounting.MS_RDONLY | mounting.MS_NOSUID | mounting.MS_NODEV
    mount("none", target, "", flags)


def _fill_above(above: Path, kinds: Kinds, files: Mapping[str, Path]) -> None:
    """The places for what comes from the machine, made in the upper layer, so that no link of the image is followed."""
    upper = above / "upper"
    for name in ("upper", "work"):
        shutil.rmtree(above / name, ignore_errors=True)
        (above / name).mkdir()
    _like(upper, kinds("."))
    for name, mode in _PLACES.items():
        found = kinds(name)
        if found is not None and not stat.S_ISDIR(found[0]):
            raise InputError(f"/{name} of the image is no folder, and a program needs one there")
        if found is None:
            (upper / name).mkdir(mode)
    for name in files:
        way = Path(name)
        for each in reversed(way.parents[:-1]):
            if not (upper / each).is_dir():
                (upper / each).mkdir()
                _like(upper / each, kinds(str(each)))
        (upper / way).touch()
    found = kinds("etc")
    if found is not None and not stat.S_ISDIR(found[0]):
        return
    (upper / "etc").mkdir(0o755, exist_ok=True)
    _like(upper / "etc", found)
    for name in FROM_HERE:
        there = kinds(name)
        source = Path("/", name)
        if source.is_file() and (there is None or not stat.S_ISDIR(there[0])):
            (upper / name).write_bytes(source.read_bytes())
            (upper / name).chmod(0o644)


def _like(folder: Path, found: tuple[int, int, int] | None) -> None:
    if found is not None:
        os.chown(folder, user_ids().shown(found[1]), group_ids().shown(found[2]))
        folder.chmod(stat.S_IMODE(found[0]))


def machine_mounts(root: Path, *, gpus: bool = True, shm_bytes: int = 0) -> None:
    """/proc, /sys and /dev; each is a folder, and no link (:func:`_fill_above`). To be called in the mounts
    and process numbers that the program will have. gpus: with their devices. shm_bytes: most that /dev/shm takes;
    else the kernel's half of the memory. Raises OSError."""
    safe = mounting.MS_NOSUID | mounting.MS_NODEV | mounting.MS_NOEXEC
    own = user_ids().every
    try:
        mount("proc", root / "proc", "proc", safe)
    except PermissionError:  # a container's is masked in places, and no other may be had then
        if own:
            raise
        _bind(Path("/proc"), root / "proc")
    else:
        for name in _READ_ONLY:
            if (root / "proc" / name).exists():
                _bind(root / "proc" / name, root / "proc" / name, read_only=True)
    if own:
        mount("/sys", root / "sys", "", mounting.MS_BIND)  # without the control groups below it
        mount("none", root / "sys", "", mounting.MS_REMOUNT | mounting.MS_BIND | mounting.MS_RDONLY | safe)
    else:  # what is mounted below may not be uncovered
        _bind(Path("/sys"), root / "sys")
        mounting.make_read_only(root / "sys")
    dev = root / "dev"
    mount("tmpfs", dev, "tmpfs", mounting.MS_NOSUID | mounting.MS_NOEXEC, "mode=755,size=64k")
    machine = Path("/dev")
    for each in [machine / name for name in DEVICES] + (gpu_devices() if gpus else []):
        if each.exists():
            target = dev / each.name
            target.mkdir() if each.is_dir() else target.touch()
            _bind(each, target)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount(
        "devpts", dev / "pts", "devpts", mounting.MS_NOSUID | mounting.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"
    )
    mount("shm", dev / "shm", "tmpfs", safe, f"mode=1777{f',size={shm_bytes}' if shm_bytes else ''}")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}
    for name, target_name in {**links, "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}.items():
        (dev / name).symlink_to(target_name)


def gpu_devices() -> list[Path]:
    """Of this machine."""
    return [each for glob in GPU_DEVICES for each in Path("/dev").glob(glob)]


def _bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    mount(str(source), target, "", mounting.MS_BIND | mounting.MS_REC)
    if read_only:
        flags = mounting.MS_REMOUNT | mounting.MS_BIND | mounting.MS_RDONLY
        mount("none", target, "", flags | mounting.MS_NOSUID | mounting.MS_NODEV | mounting.MS_NOEXEC)
