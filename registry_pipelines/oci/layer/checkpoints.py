"""Points from which a gzip layer can be inflated without what stands before them, and the digests of the spans between.

The rule is the one that SOCI indexes are made by (soci-snapshotter, ``compression/gzip_zinfo.c``, after zlib's
examples/zran.c): a point is added at the first deflate block that begins more than ``span_bytes`` behind the last one.
So positions do not depend on who inflates. Two places are safer than the original, whose own reader refuses what it
writes there: of several points at the very beginning only the last is kept, and none is added behind the end of the
archive.
This is bookkeeping only: no byte is inflated here, so whoever makes a layer can keep it as well as who reads one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

SPAN_BYTES = 1 << 22
"""Uncompressed bytes of a span, soci-snapshotter's default; for whole indexes and what a start reads it is near the
optimum."""

WINDOW_BYTES = 1 << 15
"""Deflate refers at most so far back (RFC 1951 section 2)."""


class Checkpoint(NamedTuple):
    """Where one can begin."""

    start: int
    """Offset in the compressed layer of the first byte that belongs to the block as a whole."""
    position: int
    """Offset in the uncompressed tar."""
    bits: int
    """How many of the high bits of byte ``start - 1`` belong to the block, 0 to 7."""

    @property
    def first_byte(self) -> int:
        """Offset in the layer of the first byte that the span needs: neighbours share one when ``bits`` is not 0."""
        return self.start - (1 if self.bits else 0)


class Checkpoints:
    """Collects the points of a gzip layer while it passes.

    Tell it the block boundaries in their order, each before the compressed bytes from its ``start`` on are handed to
    :meth:`compressed`; at the end call :meth:`finish`. The window of every point goes to ``keep_window`` at once.
    """

    def __init__(self, keep_window: Callable[[bytes], object], *, span_bytes: int = SPAN_BYTES) -> None:
        self.span_bytes = span_bytes
        self.points: list[Checkpoint] = []
        self._keep_window = keep_window
        self._last = -1
        self._archive_end: int | None = None
        self._spans = _SpanHasher()

    @property
    def digests(self) -> list[bytes]:
        """sha256 of each span's compressed bytes, complete after :meth:`finish`."""
        return self._spans.digests

    def room(self, position: int) -> int:
        """How many bytes may be inflated from ``position`` on without stopping at blocks, because no block on the way
        could be a point; 0: stop at every one."""
        if position <= 0 or self._last < 0:
            return 0
        return max(0, self._last + self.span_bytes - position)

    def due(self, position: int) -> bool:
        """Whether a block that begins at ``position`` is a point."""
        if self._archive_end is not None and position > self._archive_end:
            return False
        return position == 0 or position - self._last > self.span_bytes

    def at_block(self, start: int, position: int, bits: int, window: bytes) -> bool:
        """A deflate block begins; not to be called for the last block's end, behind which there is none.

        window: the bytes before it, the newest last, at most WINDOW_BYTES count; across gzip members too. Answers
        whether this is a point now.
        """
        if not self.due(position):
            return False
        point = Checkpoint(start, position, bits)
        if self.points and position == 0:
            self.points[-1] = point
            self._spans.begin(point, instead=True)
            return True
        self.points.append(point)
        self._last = position
        self._spans.begin(point, instead=False)
        self._keep_window(window[-WINDOW_BYTES:].rjust(WINDOW_BYTES, b"\0"))
        return True

    def archive_ended(self, position: int) -> None:
        """The tar ends here, with its second zero block; what follows is padding and needs no point."""
        self._archive_end = position

    def compressed(self, piece: bytes | memoryview) -> None:
        """The layer's next bytes as stored. May be called from another thread than the rest, in order."""
        self._spans.feed(piece)

    def finish(self) -> None:
        """The layer has ended: the last span ends with it."""
        self._spans.close()


class _SpanHasher:
    """sha256 of the bytes from one point to the next."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self._begins: deque[tuple[Checkpoint, bool]] = deque()
        self._fed = 0
        self._last_byte = b""
        self._hasher: Any = None

    def begin(self, point: Checkpoint, *, instead: bool) -> None:
        self._begins.append((point, instead))

    def feed(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        first, end = self._fed, self._fed + len(view)
        done = 0
        while self._begins and self._begins[0][0].start <= end:
            point, instead = self._begins.popleft()
            upto = point.start - first
            if upto < done:
                raise ValueError("a block was announced after its bytes")
            self._turn(view[done:upto], instead=instead)
            if point.bits:
                self._hasher.update(view[upto - 1 : upto] if upto else self._last_byte)
            done = upto
        if self._hasher is not None:
            self._hasher.update(view[done:])
        if end > first:
            self._last_byte = bytes(view[-1:])
        self._fed = end

    def _turn(self, rest: memoryview, *, instead: bool) -> None:
        """The span that runs ends with ``rest``, and the next one begins."""
        if self._hasher is not None and not instead:
            self._hasher.update(rest)
            self.digests.append(self._hasher.digest())
        self._hasher = hashlib.sha256()

    def close(self) -> None:
        if self._hasher is not None:
            self.digests.append(self._hasher.digest())
            self._hasher = None


class FixedSpans:
    """Spans of a layer that is not compressed: slices of ``span_bytes``, the last one shorter. No points."""

    def __init__(self, *, span_bytes: int = SPAN_BYTES) -> None:
        self.span_bytes = span_bytes
        self.points: list[Checkpoint] = []
        self.digests: list[bytes] = []
        self._hasher: Any = hashlib.sha256()
        self._room = span_bytes

    def archive_ended(self, position: int) -> None:
        """Nothing: the slices go on to the layer's end."""

    def compressed(self, piece: bytes | memoryview) -> None:
        """The layer's next bytes."""
        view = memoryview(piece)
        while view:
            part, view = view[: self._room], view[self._room :]
            self._hasher.update(part)
            self._room -= len(part)
            if not self._room:
                self._turn()

    def finish(self) -> None:
        """The layer has ended."""
        if self._room < self.span_bytes:
            self._turn()

    def _turn(self) -> None:
        self.digests.append(self._hasher.digest())
        self._hasher, self._room = hashlib.sha256(), self.span_bytes
