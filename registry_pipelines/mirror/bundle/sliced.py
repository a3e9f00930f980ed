"""The stream of a bundle, read at any place out of its parts, which cut it inside blobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import LocalError
from registry_pipelines.registry.protocol import BlobReader


class PartStream:
    """The bytes of the parts one after another. Safe for many threads: each reader has a file of its own open, one at
    a time.

    paths: the parts in their order. part_size: bytes of each but the last. Nothing is kept in memory.
    """

    def __init__(self, paths: Sequence[Path], part_size: int) -> None:
        self._paths, self._part_size = tuple(paths), part_size

    def reader(self, start: int, stop: int, *, size: int | None = None, first: int = 0) -> PartReader:
        """Bytes ``start`` up to (not including) ``stop`` of the stream. size and first: what BlobReader calls ``size``
        and ``start``; those of the range unless told."""
        return PartReader(self, start, stop, stop - start if size is None else size, first)

    def read(self, start: int, size: int) -> bytes:
        """Some bytes at once, for manifests. Raises LocalError."""
        content = bytearray(size)
        with self.reader(start, start + size) as reader:
            view = memoryview(content)
            while view:
                view = view[reader.readinto(view) :]
        return bytes(content)

    def locate(self, place: int) -> tuple[Path, int]:
        """The part that holds a byte of the stream, and the byte's place in it."""
        number, within = divmod(place, self._part_size)
        return self._paths[number], within

    @property
    def part_size(self) -> int:
        """Bytes of each part but the last."""
        return self._part_size


class PartReader:
    """Implements BlobReader over a range of the stream. Raises LocalError once a part cannot be read: its medium was
    taken out, or it became shorter."""

    def __init__(self, stream: PartStream, start: int, stop: int, size: int, first: int) -> None:
        self.size: int | None = size
        self.start = first
        self._stream, self._place, self._stop = stream, start, stop
        self._file: int | None = None
        self._path = Path()

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        wanted = min(len(buffer), self._stop - self._place)
        if not wanted:
            return 0
        path, within = self._stream.locate(self._place)
        wanted = min(wanted, self._stream.part_size - within)
        try:
            if path != self._path or self._file is None:
                self.close()
                self._file, self._path = os.open(path, os.O_RDONLY), path
            count = os.preadv(self._file, [buffer[:wanted]], within)
        except OSError as error:
            raise _lost(path, error.strerror or "it cannot be read") from error
        if not count:
            raise _lost(path, "it became shorter")
        self._place += count
        return count

    def close(self) -> None:
        """See BlobReader."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _lost(path: Path, why: str) -> LocalError:
    return LocalError(
        f"a part of the bundle cannot be read any more: {why}",
        where=str(path),
        do="Put the medium back and run the same command again: it goes on where it was",
    )
