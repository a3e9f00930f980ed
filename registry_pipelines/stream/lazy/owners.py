"""Trees seen with other owners: a mount that shows each user of a tree as another one (mount_setattr(2),
``MOUNT_ATTR_IDMAP``; Linux 5.12, and what the file system can: FUSE since 6.12)."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from registry_pipelines.stream.lazy.namespaces import check

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR, _AT_FDCWD = 428, 429, 442, -100
_CLONE, _CLOEXEC, _EMPTY_PATH, _READ_ONLY, _IDMAP, _FROM_EMPTY_PATH = 1, 0o2000000, 0x1000, 1, 0x100000, 4
_NEW_USER = "import ctypes,sys; c=ctypes.CDLL(None,use_errno=True); "
_NEW_USER += "print(c.unshare(0x10000000) and ctypes.get_errno(),flush=True); sys.stdin.read()"
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def user_namespace(uids: str, gids: str) -> Iterator[int]:
    """A descriptor of a user namespace, as long as the context lasts. uids, gids: lines of ``inside outside count``
    (user_namespaces(7), ``uid_map``). Raises OSError."""
    python = [sys.executable, "-I", "-S", "-c", _NEW_USER]
    with subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        says, ends = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stdin)
        namespace = -1
        try:
            if number := int(says.readline() or b"1"):
                raise OSError(number, os.strerror(number))
            for name, lines in (("uid_map", uids), ("gid_map", gids)):
                Path(f"/proc/{process.pid}/{name}").write_text(lines)
            namespace = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            yield namespace
        finally:
            ends.close()
            if namespace >= 0:
                os.close(namespace)


@contextmanager
def mapped_tree(folder: Path, namespace: int) -> Iterator[int]:
    """A descriptor of a read-only mount of what is mounted on a folder, or of a folder, that lies nowhere yet: its
    owners are those that a namespace's users have outside. Raises OSError: EINVAL where the file system cannot."""
    tree = check(
        _libc.syscall(ctypes.c_long(_OPEN_TREE), _AT_FDCWD, os.fsencode(folder), ctypes.c_uint(_CLONE | _CLOEXEC))
    )
    try:
        wanted = struct.pack("=QQQQ", _IDMAP | _READ_ONLY, 0, 0, namespace)
        check(
            _libc.syscall(
                ctypes.c_long(_MOUNT_SETATTR),
                *(tree, b"", ctypes.c_uint(_EMPTY_PATH), wanted, ctypes.c_size_t(len(wanted))),
            )
        )
        yield tree
    finally:
        os.close(tree)


def put(tree: int, folder: Path) -> None:
    """Mount it on a folder, where it stays. Raises OSError."""
    check(
        _libc.syscall(
            ctypes.c_long(_MOVE_MOUNT), *(tree, b"", _AT_FDCWD, os.fsencode(folder), ctypes.c_uint(_FROM_EMPTY_PATH))
        )
    )


__all__ = ["mapped_tree", "put", "user_namespace"]
