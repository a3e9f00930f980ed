"""Mounts: of a FUSE tree by mount(2) as root, else by fusermount3; of a writable layer above it; and their end."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.threads import run_child

KIND = "fuse.registry-pipelines"
"""File system type of our mounts, as /proc/self/mountinfo has it."""

EROFS_KIND = "erofs"
"""And of those that the kernel reads itself."""

DEVICE = Path("/dev/fuse")

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
HELPER_TIMEOUT_S = 30.0
_OCTAL = re.compile(r"\\([0-7]{3})")
_SETTINGS = Path("/sys/class/bdi")
_named_settings: dict[int, Path] = {}
"""By device number of a mount."""
_libc = ctypes.CDLL(None, use_errno=True)


class Mount(NamedTuple):
    """A line of the kernel's list of mounts."""

    folder: Path
    kind: str
    source: str


def mounts() -> Iterator[Mount]:
    """All mounts of this process's namespace (proc(5), mountinfo), in the order in which they were made."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, source = right.split()[:2]
            yield Mount(Path(_plain(left.split()[4])), kind, _plain(source))


def mount(source: str, folder: Path | str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    given = [os.fsencode(text) for text in (source, folder, kind)]
    if _libc.mount(*given, ctypes.c_ulong(flags), data.encode()) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


def make_read_only(folder: Path) -> None:
    """A mount, and all below it (mount_setattr(2), since Linux 5.12; before it nothing is changed). Raises OSError."""
    wanted = struct.pack("=QQQQ", MS_RDONLY, 0, 0, 0)
    number, flags = ctypes.c_long(_MOUNT_SETATTR), ctypes.c_uint(_AT_RECURSIVE)
    if _libc.syscall(number, _AT_FDCWD, os.fsencode(folder), flags, wanted, ctypes.c_size_t(len(wanted))) < 0:
        code = ctypes.get_errno()
        if code != errno.ENOSYS:
            raise OSError(code, os.strerror(code), str(folder))


def unmount(folder: Path | str, *, detach: bool = False) -> None:
    """umount2(2). detach: also while it is in use; those who use it may go on. Raises OSError."""
    if _libc.umount2(os.fsencode(folder), MNT_DETACH if detach else 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


def check_folder(folder: Path) -> None:
    """That something can be mounted there: an empty folder, or none yet, which is made. What a killed process of ours
    left mounted is taken away. Raises InputError, LocalError."""
    while any(each.folder == absolute(folder) and each.kind == KIND for each in mounts()):
        if not _is_dead(folder):
            raise InputError(
                "an image is mounted there already", where=str(folder), do=f"Unmount it: `umount {folder}`"
            )
        end_mount(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(
                "the folder is not empty, and a mount would hide what is in it", where=str(folder), do="Name another"
            )
    except FileExistsError as error:
        raise InputError("that is no folder", where=str(folder), do="Name a folder, or one to be made") from error
    except OSError as error:
        raise LocalError(f"the folder cannot be used: {error.strerror}", where=str(folder)) from error


def mount_fuse(folder: Path, name: str) -> int:
    """Mount a FUSE tree; the kernel waits for a server from now on. name: what `mount` and `df` show.

    Returns the descriptor to serve on; mounted is what keeps it, so whoever closes it ends the mount. Without root it
    is fusermount3 that mounts, and only this user sees the files. Raises LocalError, ToolMissing.
    """
    if not DEVICE.exists():
        raise LocalError(
            f"there is no {DEVICE} on this machine, so images cannot be mounted",
            do="Load the kernel's module (`modprobe fuse`); in a container give it the device (`--device /dev/fuse`)",
        )
    if os.geteuid() != 0:
        return _mount_by_helper(folder, name)
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise LocalError(
            f"{DEVICE} cannot be opened: {error.strerror}", do="In a container give it the device (--device /dev/fuse)"
        ) from error
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    try:
        mount(_source(name), folder, KIND, MS_RDONLY | MS_NOSUID | MS_NODEV, options)
    except OSError as error:
        os.close(device)
        raise LocalError(
            f"the image cannot be mounted: {error.strerror}",
            where=str(folder),
            do="Mounting needs CAP_SYS_ADMIN; in a container give it that (--cap-add SYS_ADMIN)",
        ) from error
    return device


def set_read_ahead(folder: Path, size: int) -> None:
    """How far the kernel reads ahead in files of a mount that are opened from now on, in bytes. For root of the
    machine; nothing happens for others."""
    device = folder.stat().st_dev
    settings = _SETTINGS / f"{os.major(device)}:{os.minor(device)}"
    if not settings.exists():  # a name may be left of a mount that is gone, whose number another one has now
        settings = _named_settings.get(device, settings)
    with suppress(OSError):
        (settings / "read_ahead_kb").write_text(str(size >> 10))


@contextmanager
def naming_settings(folder: Path, kind: str) -> Iterator[None]:
    """For a mount of a kind whose settings the kernel numbers by itself (EROFS of a file: ``erofs-12``), so that
    :func:`set_read_ahead` finds them: what is new once ``folder`` is mounted in the block. Where another mount of the
    kind was made in the same moment nobody can tell which is which, and its read-ahead stays the kernel's."""
    before = set(_SETTINGS.glob(f"{kind}-*"))
    yield
    new = set(_SETTINGS.glob(f"{kind}-*")) - before
    if len(new) == 1:
        _named_settings[folder.stat().st_dev] = new.pop()


def end_mount(folder: Path) -> None:
    """Unmount what we mounted; where it is in use the name is free at once, and its users keep what they have. Nothing
    happens where nothing is mounted any more."""
    if os.geteuid() == 0:
        try:
            unmount(folder, detach=True)
        except OSError:  # somebody else did it
            return
    elif program := shutil.which("fusermount3"):
        run_child([program, "-u", "-z", "-q", "--", str(folder)], timeout_s=HELPER_TIMEOUT_S)


def _mount_by_helper(folder: Path, name: str) -> int:
    """As libfuse does it: the helper, which is setuid, mounts, and hands the device over on a socket."""
    program = shutil.which("fusermount3")
    if program is None:
        raise ToolMissing(
            "mounting an image needs root, or the program fusermount3, and neither is here",
            do="Run it as root, or install the package fuse3",
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    options = f"ro,nosuid,nodev,default_permissions,fsname={_source(name)},subtype={KIND.partition('.')[2]}"
    with ours, theirs:
        ran = subprocess.run(
            [program, "-o", options, "--", str(folder)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=HELPER_TIMEOUT_S,
            check=False,
        )
        if ran.returncode:
            said = ran.stderr.decode(errors="replace").strip()
            raise LocalError(f"fusermount3 does not mount the image: {said[-500:]}", where=str(folder))
        _, notes, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        descriptors = array.array("i")
        for _, _, data in notes:
            descriptors.frombytes(data[:4])
    if not descriptors:
        raise LocalError("fusermount3 handed over no device", where=str(folder))
    return descriptors[0]


def _source(name: str) -> str:
    """A name as mount options bear it: commas end one."""
    return re.sub(r"[,\\\s]", "_", name)


def _is_dead(folder: Path) -> bool:
    """Whether nobody serves a mount any more. Attributes would say nothing: the kernel keeps them."""
    try:
        os.statvfs(folder)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED)
    return False


def absolute(folder: Path) -> Path:
    """Its real name without asking what is mounted there."""
    return folder.parent.resolve() / folder.name


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
