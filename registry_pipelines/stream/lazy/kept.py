"""Small files that a node keeps for lazy images: tables of layers and merged trees, the ones not used longest going
first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.files import local_errors, write_file


def make_own(folder: Path) -> None:
    """Make a folder, where it is not there, that only this user can write to. Raises LocalError: others can, who would
    write there what nobody verified; or it cannot be made."""
    with local_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise LocalError(
            "other users can write there what a container would run",
            where=str(folder),
            do="Name a folder that only this user can write to",
        )


_SHARE = 4
"""Of the room that is left, what this process fills before it looks again: others fill it, too."""
_FREED = 8
"""A folder that is too full loses the eighth part of what it may have: else each new file would be one too many."""
_left: dict[tuple[Path, int], int] = {}
"""By folder and limit, the bytes that it may put before then: looking at thousands of files for each new one would take
longer than all else that a pull waits for."""


class KeptFiles:
    """Files below a folder, by name; any number of processes may use them. What is there by its name is whole."""

    def __init__(self, folder: Path, *, max_bytes: int, lasting: bool = True) -> None:
        """lasting: see ``write_file``. Raises what :func:`make_own` does."""
        self._folder, self._max_bytes, self._lasting = folder, max_bytes, lasting
        make_own(folder)

    def find(self, name: str) -> Path | None:
        """Where a file is, from now on one that was just used. Whoever opens it may still find that it has gone."""
        path = self._folder / name
        with suppress(OSError):
            os.utime(path)
            return path
        return None

    def put(self, name: str, content: bytes) -> Path:
        """Keep a file. Raises DiskFull, LocalError."""
        path = self._folder / name
        with local_errors(path):
            write_file(path, content, mode=0o600, lasting=self._lasting)
        self.make_room(path)
        return path

    def path(self, name: str) -> Path:
        """Where a file will be, for who writes it himself (``oci.files.replaced``)."""
        return self._folder / name

    def make_room(self, newest: Path) -> None:
        """Delete what is too much, but not ``newest``, which was just written."""
        key = (self._folder, self._max_bytes)
        with suppress(OSError):
            left = _left.get(key, 0) - newest.stat().st_size
            if left <= 0:
                left = (self._max_bytes - self._shrunk(newest)) // _SHARE
            _left[key] = left

    def _shrunk(self, newest: Path) -> int:
        """Bytes of all files, of which those are gone that were too much. Raises OSError."""
        files = [(each.stat(), each) for each in self._folder.iterdir() if not each.name.startswith(".")]
        total = sum(status.st_size for status, _ in files)
        enough = self._max_bytes - self._max_bytes // _FREED if total > self._max_bytes else total
        for status, path in sorted(files, key=lambda each: each[0].st_mtime_ns):
            if total <= enough:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= status.st_size
        return total


__all__ = ["KeptFiles", "make_own"]
