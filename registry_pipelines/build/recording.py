"""The record of a layer, kept while the layer is made, so that nobody has to read it again.

It says what a reader of the finished layer would find: the same checkpoints, span digests and entries
(``oci.layer.checkpoints`` has the rule). A stream that is taken over keeps its deflate blocks, moved by where it stands
in the layer. Only the blocks of our own compressor are unknown; what that made is inflated again where a checkpoint
may fall into it: seldom between two files of a wheel, always in a layer that was compressed here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from registry_pipelines.build.inflating import Stretches
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.checkpoints import SPAN_BYTES, WINDOW_BYTES, Checkpoints
from registry_pipelines.oci.layer.record import RawEntry, RecordWriter
from registry_pipelines.oci.layer.store import LayerStore


class TarReader(Protocol):
    """Looks into a tar while it is made; a context manager gives one for each layer."""

    def write(self, piece: bytes | memoryview, /) -> object:
        """The next bytes, valid during the call only."""
        ...

    def keep(self, diff_id: Digest, digest: Digest, /) -> object:
        """That was all of it: what it and the layer made of it hash to."""
        ...


@dataclass(frozen=True)
class Keeping:
    """What is kept of layers that are made, so that nobody has to read them afterwards."""

    records: LayerStore
    span_bytes: int = SPAN_BYTES
    """Uncompressed bytes between checkpoints; the store keeps a record for each."""
    read: Callable[[], AbstractContextManager[TarReader]] | None = None
    """Who else wants to look into them: a scan."""


class Recording:
    """What a LayerWriter tells of the layer it makes. ``position``: how much of the tar was told."""

    def __init__(self, record: RecordWriter, stretches: Stretches, start: int) -> None:
        """start: where in the layer the first block begins, behind the gzip header."""
        self._record = record
        self._stretches = stretches
        self._spans = Checkpoints(record.keep_window, span_bytes=record.span_bytes)
        self._tail = bytearray()
        self._input_end = 0
        self._running = False
        self._entry: RawEntry | None = None
        self.position = 0
        self._spans.at_block(start, 0, 0, b"")

    def entry(self, position: int, size: int, blocks: bytes) -> None:
        """An entry begins; ``hashed`` tells of its content, if it has any."""
        self._keep_entry()
        self._entry = RawEntry(position, size, blocks, b"")

    def hashed(self, sha256: bytes, crc: int) -> None:
        """What the content of the entry that was begun last hashes to, and its CRC-32."""
        assert self._entry is not None  # noqa: S101 - an entry was begun
        if self._entry.size:
            self._entry = self._entry._replace(sha256=sha256, crc=crc)

    def emitted(self, piece: memoryview | bytes) -> None:
        """The layer's next bytes as stored."""
        self._spans.compressed(piece)

    def feed(self, input_end: int) -> None:
        """Blocks that end now do so in input whose last byte stands before ``input_end`` of the layer."""
        self._input_end = input_end

    def room(self, filled: int) -> int:
        """See ``inflating.Blocks``."""
        return self._spans.room(self.position + filled)

    def ended(self, left: int, unused: int, filled: int) -> bool:
        """See ``inflating.Blocks``."""
        self.block(self._input_end - left, unused, self._stretches.output[:filled])
        return False

    def block(self, start: int, unused: int, ahead: memoryview | bytes = b"") -> None:
        """A block ended there. ahead: bytes of the tar since ``position``."""
        position = self.position + len(ahead)
        if self._spans.due(position):
            self._spans.at_block(
                start, position, unused, bytes(self._tail[-WINDOW_BYTES:]) + bytes(ahead[-WINDOW_BYTES:])
            )

    def passed(self, piece: memoryview | bytes | bytearray) -> None:
        """The tar's next bytes, in which all blocks that matter were told."""
        self.position += len(piece)
        if len(piece) >= WINDOW_BYTES:
            self._tail[:] = piece[-WINDOW_BYTES:]
            return
        self._tail += piece
        if len(self._tail) > 8 * WINDOW_BYTES:
            del self._tail[:-WINDOW_BYTES]

    def compressed(self, packed: bytes, tar: bytearray, start: int, *, flushed: bool) -> None:
        """Our compressor took ``tar`` and gave ``packed``, which goes to ``start`` of the layer.

        flushed: whether it gave all that it had. What follows a flush begins with a new block that refers to nothing
        before it.
        """
        if flushed and not self._running and len(tar) <= self._spans.room(self.position):
            self.passed(tar)
            return
        if not self._running:
            self._stretches.inflater.reset()
        self._running = not flushed
        self.feed(start + len(packed))
        address = ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p).value or 0
        self._stretches.inflate(address, len(packed), self.passed, self)

    def finish(self, digest: Digest, size: int, diff_id: Digest) -> None:
        """All was told, and emitted."""
        self._keep_entry()
        self._spans.archive_ended(self.position)
        self._spans.finish()
        self._record.finish(
            self._spans,
            digest=digest,
            size=size,
            diff_id=diff_id,
            tar_size=self.position,
            archive_end=self.position,
            compression="gzip",
        )

    def _keep_entry(self) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            assert bool(entry.size) == bool(entry.sha256), "whoever wrote the content tells its hash"  # noqa: S101
            self._record.add(entry)
