"""One writer at a time for what has no lock of its own: the fallback tag of a subject, among threads and processes, and
among workers on other machines where they share a state."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; there one process writes at a time
    fcntl = None  # type: ignore[assignment]

_BUCKETS = 256
"""Lock files at most; subjects share them, which costs a wait now and then."""

_thread_locks = [threading.Lock() for _ in range(_BUCKETS)]


_elsewhere: Callable[[str], AbstractContextManager[object]] | None = None


def share_locks(held: Callable[[str], AbstractContextManager[object]] | None) -> None:
    """Hold each lock also among other machines. held: does so, by a name; it raises nothing of its own, for whoever
    writes a fallback tag reads it again afterwards anyway. None: no more."""
    global _elsewhere
    _elsewhere = held


@contextmanager
def one_writer(*key: str) -> Iterator[None]:
    """Hold the lock of a key: in this process always, among this user's processes on this machine where files can be
    locked, elsewhere by :func:`share_locks`. Never taken twice by one thread."""
    name = hashlib.sha256("\n".join(key).encode())
    bucket = name.digest()[0] % _BUCKETS
    with _thread_locks[bucket]:
        file = _open_lock(bucket)
        try:
            with _elsewhere(f"fallback-tag/{name.hexdigest()}") if _elsewhere else nullcontext():
                yield
        finally:
            if file is not None:
                file.close()


def _open_lock(bucket: int) -> IO[bytes] | None:
    """The locked file, None where there is no safe place for it (the lock is then this process's alone)."""
    if fcntl is None:
        return None
    import tempfile  # brings shutil, bz2 and lzma, and almost no run writes a fallback tag

    try:
        folder = Path(tempfile.gettempdir()) / f"registry-pipelines-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return None
        file = (folder / f"{bucket:02x}.lock").open("wb")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        file.close()
        return None
    return file
