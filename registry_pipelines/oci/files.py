"""Files that are there whole or not at all, also after kill -9 and a power cut."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from registry_pipelines.errors import DiskFull, LocalError, StateLocked

LOCK_PAUSE_S = 0.05
"""Between two looks at a lock that another process has, by who waits for it."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(where: Path | str) -> Iterator[None]:
    """Translate "no space left", quota and file-size limits into DiskFull; other OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            f"no space is left: {error.strerror}", where=str(where), do="Free space or choose another folder"
        ) from error


def raise_file_limit() -> None:
    """Permit as many open files as this process may have: the usual 1,024 are fewer than a registry has connections,
    and than the layers of eight images have files."""
    import resource  # few commands need it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def local_errors(where: Path | str) -> Iterator[None]:
    """Translate every OSError of files that are our own (state, spool): DiskFull, or LocalError."""
    try:
        with disk_errors(where):
            yield
    except OSError as error:
        raise LocalError(
            f"files cannot be kept there: {error.strerror}", where=str(where), do="Check the folder and its rights"
        ) from error


@contextmanager
def held_alone(
    lock: Path, what: str, *, do: str = "Wait for it; once is enough", own: bool = False, wait_s: float = 0.0
) -> Iterator[None]:
    """Hold a lock file, made when it is missing, as the only process. what: another process does that holds it, as
    ``another process updates advisories``. own: of this user alone, for whoever may read such a file can hold it, too
    (flock(2)). wait_s: how long to wait for it; unless told it is refused at once. Raises StateLocked, LocalError."""
    until = time.monotonic() + wait_s
    descriptor = _lock_file(lock, own)
    try:
        while not (_locked(descriptor) and _is_named(lock, descriptor)):
            if not _is_named(lock, descriptor):  # who held it took it away when he was done: others hold a new one
                fresh = _lock_file(lock, own)
                os.close(descriptor)
                descriptor = fresh
            elif time.monotonic() >= until:
                raise StateLocked(what, where=str(lock.parent), do=do)
            else:
                time.sleep(LOCK_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def _lock_file(lock: Path, own: bool) -> int:
    mode = 0o600 if own else 0o666
    with local_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, mode)
        try:
            if own:
                os.fchmod(descriptor, mode)  # it may be from before
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def _is_named(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def install_file(descriptor: int, temporary: Path, target: Path) -> None:
    """Put a finished temporary file in its place: fsync, rename, fsync of the folder. Raises DiskFull, OSError.

    An existing target is replaced: by its name it has the same content, or was damaged.
    """
    with disk_errors(target):
        os.fsync(descriptor)
        temporary.rename(target)
        sync_folder(target.parent)


def _refuse_devices(target: Path) -> None:
    """A rename would put a file in the place of ``/dev/null``, for all programs. Raises OSError."""
    try:
        mode = os.lstat(target).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return
        if not (stat.S_ISLNK(mode) and str(target.readlink()).startswith("/proc/")):  # as /dev/stdout
            mode = target.stat().st_mode
    except OSError:  # nothing is there
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(
            errno.EINVAL, "this is a device, a pipe or a socket, and a file would take its place", str(target)
        )


def write_file(
    target: Path, content: bytes, *, temporary_folder: Path | None = None, mode: int = 0o666, lasting: bool = True
) -> None:
    """Replace a small file at once or not at all. mode: of the new file, less the umask. lasting: also over a power
    cut; else it may be empty or torn after one, for who notices that when he reads it. Raises DiskFull, OSError."""
    _refuse_devices(target)
    temporary = (temporary_folder or target.parent) / f".{target.name[:40]}.{uuid.uuid4().hex}"
    with disk_errors(target):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if lasting:
                install_file(descriptor, temporary, target)
            else:
                temporary.rename(target)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Replace small files that belong together: all are written aside, then renamed in the order given, so that a full
    disk, a missing right or a folder in the way leaves every one of them as it was. Folders are made. Raises DiskFull,
    LocalError."""
    asides = {path: path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}") for path in contents}
    try:
        for path, aside in asides.items():
            with local_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "there is a folder of that name", str(path))
                _refuse_devices(path)
                write_file(aside, contents[path])
        for path, aside in asides.items():
            with local_errors(path):
                aside.rename(path)
        for folder in dict.fromkeys(path.parent for path in contents):
            with local_errors(folder):
                sync_folder(folder)
    finally:
        for aside in asides.values():
            with suppress(OSError):
                aside.unlink()


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; on success it takes its place, on any error it is removed.

    Readers see the old file or the new one. Raises DiskFull, LocalError (no right to write there).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_devices(path)
            yield temporary
            temporary.replace(path)
    except OSError as error:
        raise LocalError(
            f"the state folder cannot be written: {error.strerror or error}",
            where=str(path.parent),
            do="Make the folder writable, or name another in the configuration (state)",
        ) from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        # The folder itself is the problem, and that error is already on its way.
        return


__all__ = ["disk_errors", "held_alone", "install_file", "local_errors", "replaced", "sync_folder", "write_file"]
