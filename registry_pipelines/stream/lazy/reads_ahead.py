"""Files of a mount of our own that are read before anybody else reads them, in large pieces.

The kernel asks who watches the mount's file once for each piece that it reads (``fanotify``), and a program reads in
pieces of the read-ahead. So where a hot pack brought bytes the kernel is told to read them in larger ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from registry_pipelines.stream.lazy.tree import ROOT, Tree

READ_BYTES = 128 << 10
"""What the kernel reads when it is told so; of more it reads that much (``bdi->io_pages``: Linux, mm/readahead.c)."""


class ReadsAhead:
    """A ``pages_ahead.Store``; for one thread. Whoever answers the kernel's questions must be another one."""

    def __init__(self, folder: Path, tree: Tree, ended: Callable[[], bool]) -> None:
        """folder: where the file is mounted. ended: whether it is not any more."""
        self._folder, self._tree, self._ended = folder, tree, ended
        self._names: dict[int, dict[int, bytes]] = {}

    def __call__(self, number: int, offset: int, size: int) -> bool:
        """See ``pages_ahead.Store``."""
        if self._ended():
            raise OSError("it is not mounted any more")
        file = os.open(self._folder / os.fsdecode(self._path(number)), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for at in range(offset, offset + size, READ_BYTES):
                os.posix_fadvise(file, at, min(READ_BYTES, offset + size - at), os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)
        return True

    def _path(self, number: int) -> bytes:
        parts = []
        while number != ROOT:
            above = self._tree.parent(number)
            if above not in self._names:
                self._names[above] = {child: name for name, child in self._tree.children(above)}
            parts.append(self._names[above][number])
            number = above
        return b"/".join(reversed(parts))


__all__ = ["ReadsAhead"]
