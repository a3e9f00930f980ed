"""Pieces that a filler is to fetch, and the answers of a registry in which they come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from registry_pipelines.errors import IndexInvalid, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import BUFFER_BYTES, Readable
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer

if TYPE_CHECKING:  # what comes ahead needs none
    from registry_pipelines.stream.lazy.pieces import Pieces


class Job:
    """One piece that waits to be fetched, or is."""

    def __init__(self, layer: Filled, piece: int) -> None:
        self.layer, self.piece = layer, piece
        self.done = threading.Event()
        self.demanded = False
        self.runner = 0
        """The thread that fetches it."""
        self.parts: Parts | None = None
        """In which it comes."""
        self.error: RegistryPipelinesError | None = None
        self.unkept: list[tuple[int, bytes]] = []
        """What the disk could not keep."""

    def end(self, error: RegistryPipelinesError | None = None) -> None:
        """Let go who waits for it; hold the filler's lock."""
        self.error = error
        self.layer.jobs.pop(self.piece, None)
        self.done.set()


class Fetched(msgspec.Struct):
    """Requests for ranges of blobs, and bytes that came."""

    requests: int = 0
    bytes: int = 0


class Ahead(Protocol):
    """Bytes of one layer that are on their way without the layer's pieces: a hot pack's."""

    def wanted(self, start: int, stop: int) -> tuple[Sequence[Any], Sequence[tuple[int, int]]]:
        """Of the bytes from ``start`` to ``stop``: what is on its way and has some, and the ranges that none has."""
        ...

    def wait(self, wanted: Sequence[Any], patience_s: float) -> None:
        """Until all of it came or failed, or nothing moved for so long."""
        ...


class Filled:
    """A layer that is filled."""

    def __init__(self, digest: Digest, pieces: Pieces | Callable[[], Pieces], lazy: LazyLayer) -> None:
        """pieces: or what finds them; then they are found when they are first needed (:meth:`find`)."""
        self.digest, self.lazy = digest, lazy
        self.ahead: Ahead | None = None
        self.jobs: dict[int, Job] = {}
        """Not done yet, by piece."""
        self.again: deque[int] = deque()
        """Pieces that the background left."""
        self._finding = threading.Lock()
        self._find = pieces if callable(pieces) else None
        self._pieces = None if callable(pieces) else pieces
        self._missing: Iterator[int] | None = None

    @property
    def pieces(self) -> Pieces:
        """Known after :meth:`find`."""
        assert self._pieces is not None  # noqa: S101 - whoever asks has called it
        return self._pieces

    @property
    def is_found(self) -> bool:
        """Whether its pieces are known."""
        return self._pieces is not None

    def find(self) -> None:
        """Have its pieces known; without the filler's lock. Raises ContentError, LocalError, the RegistryError
        family; it may be called again then."""
        with self._finding:
            if self._pieces is None and self._find is not None:
                self._pieces = self._find()

    def next_missing(self) -> int | None:
        """The next piece that is neither there nor on its way; None when all were looked at."""
        if self._pieces is None:
            return None
        if self._missing is None:
            self._missing = iter(self._pieces.between(0, self._pieces.tar_size))
        while (piece := self.again.popleft() if self.again else next(self._missing, None)) is not None:
            if piece not in self.jobs and not self.lazy.holds(*self.pieces.unpacked(piece)):
                break
        return piece

    def clipped(self, piece: int, start: int, stop: int) -> tuple[int, int]:
        """The part of a piece that lies between two positions."""
        first, last = self.pieces.unpacked(piece)
        return max(first, start), min(last, stop)


class Runs:
    """Bytes from and to, those that follow each other as one."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        """These came, too."""
        if self.runs and self.runs[-1][1] == start:
            start = self.runs.pop()[0]
        self.runs.append((start, stop))


class _Nothing:
    def readinto(self, buffer: memoryview, /) -> int:
        return 0


NOTHING = _Nothing()


class Parts:
    """The pieces in the answer to one request, one after the other; two may share the byte between them."""

    def __init__(self, reader: Readable, start: int) -> None:
        self._reader, self._position = reader, start
        self._last = self._pending = b""
        self._left = 0
        self._received = 0
        self.moved_at = time.monotonic()

    def taken(self) -> int:
        """Bytes that came since the last call."""
        count, self._received = self._received, 0
        return count

    def begin(self, start: int, stop: int) -> None:
        """The next piece; what is left of the one before is passed over."""
        scratch = memoryview(bytearray(min(BUFFER_BYTES, max(start - self._position, 0))))
        self._pending, self._left = b"", start - self._position
        while self._left > 0 and self.readinto(scratch):
            pass
        self._pending = self._last if start < self._position else b""
        self._left = stop - self._position

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from the front; 0 at the end of the piece."""
        if self._pending:
            buffer[:1], self._pending = self._pending, b""
            return 1
        if self._left <= 0 or not (count := self._reader.readinto(buffer[: self._left])):
            return 0
        self.moved_at = time.monotonic()
        self._last = bytes(buffer[count - 1 : count])
        self._position += count
        self._left -= count
        self._received += count
        return count


def assembled(layer: Filled, jobs: list[Job], start: int, stop: int) -> memoryview:
    """Bytes of which the disk could not keep all. Raises IndexInvalid: no piece of the layer has some of them."""
    content, have = bytearray(stop - start), 0
    kept = {job.piece: job.unkept for job in jobs}
    for piece in layer.pieces.between(start, stop):
        first, last = layer.clipped(piece, start, stop)
        if layer.lazy.holds(first, last):
            content[first - start : last - start] = layer.lazy.raw(first, last)
            have += last - first
            continue
        for position, part in kept.get(piece, ()):
            begin, end = max(position, start), min(position + len(part), stop)
            if begin < end:
                content[begin - start : end - start] = part[begin - position : end - position]
                have += end - begin
    if have != stop - start:
        raise IndexInvalid("the layer's index has no piece with these bytes", where=str(layer.digest))
    return memoryview(content)


__all__ = ["NOTHING", "Ahead", "Fetched", "Filled", "Job", "Parts", "Runs", "assembled"]
