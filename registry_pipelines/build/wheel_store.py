"""Wheel files by hash, in the state folder. Local wheels are linked into it, not copied; nothing is hashed twice. What
was fetched from an index the other machines of a shared state find, too: it is what its name's hash says."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry_pipelines.build.cache import BuildCache
from registry_pipelines.errors import WheelInvalid
from registry_pipelines.oci.behind import behind, file_pieces
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.threads import Pool

_KIND = "wheels/v1"

SCRATCH = "resolve-"
"""Beginning of the names of folders in which questions to pip are worked on."""

SCRATCH_LIFE_S = 24 * 3600
"""No resolution takes longer; an older scratch folder belongs to a build that was killed."""


class WheelStore:
    """Files at ``<root>/<sha256>/<filename>``. What is in it was verified when it came in. Safe for many processes.

    A wheel of a local folder is a hard link, where the file system has them: 3 GB of CUDA wheels are not copied. Then
    the file is still the user's, who may write it anew in place and then remove the other link; so a file is only found
    while it has its hash. cache: remembers hashes by what a file system says of a file (device, inode, size, times of
    content and inode in ns); without it every look reads the file.
    """

    def __init__(self, root: Path, cache: BuildCache | None = None) -> None:
        self.root = root
        self._cache = cache

    def find(self, sha256: str, filename: str) -> Path | None:
        """The file, None when it is not there (any more), and no machine that shares the state has it."""
        path = self.root / sha256 / filename
        there = self._has(path, sha256) or (behind(self.root).fetch(_KIND, sha256, path) and self._has(path, sha256))
        return path if there else None

    def _has(self, path: Path, sha256: str) -> bool:
        """Whether the file is there; one with another hash is taken away."""
        with contextlib.suppress(FileNotFoundError):
            if self.sha256(path) == sha256:
                return True
            path.unlink(missing_ok=True)
        return False

    def sha256(self, path: Path, over: threading.Event | None = None) -> str:
        """The hex digest of any file; read only when it is not known or the file was touched. Empty, and not
        remembered, when ``over`` was set before the end. Raises OSError."""
        key = _identity(path)
        known = self._cache.note(key) if self._cache else None
        if isinstance(known, str):
            return known
        digest = read_sha256(path, over)
        if digest and _identity(path) == key:
            self._remember(key, digest)
        return digest

    @contextlib.contextmanager
    def reading_ahead(self, paths: Iterable[Path]) -> Iterator[None]:
        """Learn what files hash to, one after the other, while the block goes on; at its end the rest is left."""
        over = threading.Event()

        def read() -> None:
            for path in paths:
                with contextlib.suppress(OSError):
                    self.sha256(path, over)
                if over.is_set():
                    return

        with Pool(1, "read ahead") as pool:
            pool.submit(read)
            try:
                yield
            finally:
                over.set()

    def verify(self, path: Path, sha256: str) -> None:
        """Check a stored file again; a damaged one is removed, so that it is fetched anew. Raises WheelInvalid."""
        actual = self.sha256(path)
        if actual != sha256:
            path.unlink(missing_ok=True)
            raise _other_hash(path, actual, sha256)

    def sweep(self) -> None:
        """Remove what builds that were killed left behind, a day after."""
        for folder in self.root.glob(f"{SCRATCH}*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > SCRATCH_LIFE_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def take(self, path: Path, sha256: str) -> Path:
        """Move a file in. Raises WheelInvalid when it has another hash."""
        actual = read_sha256(path)
        if actual != sha256:
            raise _other_hash(path, actual, sha256)
        target = self._place(path.name, sha256)
        path.replace(target)
        self._remember(_identity(target), sha256)
        behind(self.root).keep(_KIND, sha256, file_pieces(target))
        return target

    def link(self, path: Path, filename: str) -> str:
        """Have a local file in the store under a wheel's name, as a link where that works, else as a copy; its sha256.

        path may be called otherwise: folders of wheels hold symbolic links into stores that go by hash.
        """
        before, sha256 = path.stat(), self.sha256(path)
        target = self._place(filename, sha256)
        if self._has(target, sha256):
            return sha256
        new = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
        new.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), new)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, new)
            if (actual := read_sha256(new)) != sha256:
                new.unlink()
                raise _other_hash(path, actual, sha256) from None
        new.replace(target)
        new.unlink(missing_ok=True)  # POSIX leaves both names where another build made the same link meanwhile
        after = target.stat()
        if (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns):
            # The link changed the inode's time, and with it the identity; the content is that which was read.
            self._remember(_identity(target), sha256)
        return sha256

    def _place(self, filename: str, sha256: str) -> Path:
        target = self.root / sha256 / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _remember(self, key: str, sha256: str) -> None:
        if self._cache:
            self._cache.remember_note(key, sha256)


def read_sha256(path: Path, over: threading.Event | None = None) -> str:
    """The hex digest of a file's content; empty when ``over`` was set before its end. Raises OSError."""
    digest = hashlib.sha256()
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if over and over.is_set():
                return ""
            digest.update(view[:count])
    return digest.hexdigest()


def _identity(path: Path) -> str:
    state = path.stat()
    return f"sha256 {state.st_dev} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _other_hash(path: Path, actual: str, sha256: str) -> WheelInvalid:
    return WheelInvalid(
        f"its sha256 is {actual}, expected {sha256}", where=path.name, do="Build again; the file is fetched anew"
    )
