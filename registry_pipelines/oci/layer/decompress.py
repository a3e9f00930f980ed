"""Decompression of layers from any ``readinto`` object: plain, gzip (any number of members) and zstd, by magic number.

The media type does not decide, because containerd and Docker look at the first bytes too: what is read here must be
what a node unpacks. Compressed bytes are counted and hashed on the way.
"""

from __future__ import annotations

import gzip
import io
import zlib
from concurrent.futures import Executor
from typing import Any, Protocol

import zstandard
from isal import igzip, isal_zlib

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.layer.buffers import Buffers
from registry_pipelines.oci.layer.checkpoints import Checkpoints, FixedSpans
from registry_pipelines.oci.layer.gzip_blocks import GzipBlocks
from registry_pipelines.oci.layer.record import RecordWriter

READ_BYTES = 256 * 1024
"""One read of compressed bytes; larger is not faster (measured at 128 KiB, 256 KiB and 1 MiB). What was read and is not
inflated yet is never more, so that ``byte_count`` tells where in the layer one is."""

MAX_ZSTD_WINDOW_BYTES = 32 * 1024 * 1024
"""Memory a zstd frame may ask for. RFC 8878 section 3.1.1.1.2 recommends 8 MiB; levels below --ultra need no more."""

_ISAL_ERROR: Any = isal_zlib.error
"""Not a zlib.error; its stub calls it an instance."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"


class Readable(Protocol):
    """Fills at most ``len(buffer)`` bytes, returns how many, 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from the front."""
        ...


class Source(io.RawIOBase):
    """The compressed bytes: counted, hashed (unless ``hasher`` is None), and the first four seen in advance."""

    def __init__(self, stream: Readable, hasher: Any) -> None:
        self._stream = stream
        self.hasher = hasher
        self.byte_count = 0
        self.frames: ZstdFrames | None = None
        self.spans: Checkpoints | FixedSpans | None = None
        self.head = self._peek(4)
        self._pending = self.head

    def _peek(self, count: int) -> bytes:
        head = bytearray(count)
        have = 0
        while have < count:
            got = self._stream.readinto(memoryview(head)[have:])
            if not got:
                break
            have += got
        return bytes(head[:have])

    def readable(self) -> bool:
        """A source can only be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer; count and hash what was filled."""
        view = memoryview(buffer)
        count = self.read_into(view)
        self.account(view[:count])
        return count

    def read_into(self, view: memoryview) -> int:
        """The same, without hashing: who calls this gives it to :meth:`account` later."""
        view = view[:READ_BYTES]
        if self._pending:
            count = min(len(self._pending), len(view))
            view[:count] = self._pending[:count]
            self._pending = self._pending[count:]
        else:
            count = self._stream.readinto(view)
        self.byte_count += count
        return count

    def account(self, got: memoryview) -> None:
        """Hash the next bytes."""
        if self.hasher is not None:
            self.hasher.update(got)
        if self.spans is not None:
            self.spans.compressed(got)
        if self.frames is not None:
            self.frames.feed(got)

    def drain(self) -> None:
        """Read what a decompressor left, so that the digest covers every byte."""
        scratch = memoryview(bytearray(READ_BYTES))
        while self.readinto(scratch):
            pass


class _Pieces:
    """A source in pieces that stay in place, hashed when they were inflated: by then the blocks in them are known."""

    def __init__(self, source: Source, beside: Executor | None) -> None:
        self._source = source
        self._buffers = Buffers(READ_BYTES, beside)
        self._piece = memoryview(b"")

    def next(self) -> memoryview:
        if self._piece:
            self._buffers.work(self._source.account, self._piece)
        view = self._buffers.next()
        self._piece = view[: self._source.read_into(view)]
        return self._piece

    def finish(self) -> None:
        self._buffers.finish()


class Decompressor:
    """Uncompressed bytes of a layer; ``kind`` is ``plain``, ``gzip`` or ``zstd``.

    Where somebody wants a record, gzip is inflated by zlib-ng with stops at blocks, else by isal, which is faster and
    cannot stop. ``spans``: what the record is told of them.
    """

    def __init__(
        self, source: Source, *, where: str, writer: RecordWriter | None = None, beside: Executor | None = None
    ) -> None:
        """writer: of a record, None for a listing. Raises ToolMissing: a record is wanted, and no library stops at
        blocks."""
        self._reader: Any
        self._where = where
        self._source = source
        self.spans: Checkpoints | FixedSpans | None = None
        self._blocks: GzipBlocks | None = None
        self._pieces: _Pieces | None = None
        head = source.head
        if head[:2] == _GZIP_MAGIC:
            self.kind = "gzip"
            self._reader = self._gzip(writer, beside)
        elif head == _ZSTD_MAGIC or (head[1:] == _SKIPPABLE_MAGIC and 0x50 <= head[0] <= 0x5F):
            self.kind = "zstd"
            source.frames = ZstdFrames()
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
            self._reader = decompressor.stream_reader(
                io.BufferedReader(source, READ_BYTES), read_across_frames=True, read_size=READ_BYTES
            )
        else:
            self.kind = "plain"
            self._reader = source
            if writer:
                self.spans = source.spans = FixedSpans(span_bytes=writer.span_bytes)

    def _gzip(self, writer: RecordWriter | None, beside: Executor | None) -> Any:
        if writer is None:
            open_gzip: Any = igzip.IGzipFile
            return open_gzip(fileobj=self._source, mode="rb")
        self.spans = self._source.spans = checkpoints = Checkpoints(writer.keep_window, span_bytes=writer.span_bytes)
        self._pieces = _Pieces(self._source, beside)
        self._blocks = GzipBlocks(self._pieces.next, checkpoints)
        return self._blocks

    @property
    def padding_bytes(self) -> int:
        """Zero bytes behind the last gzip member, known where a record is wanted."""
        return self._blocks.padding_bytes if self._blocks else 0

    @property
    def may_go_on(self) -> bool:
        """Whether more may be inflated before the walk has come to the end of what was: not where a checkpoint is due,
        because there is none behind the archive's end."""
        return self._blocks is None or not self._blocks.is_due

    def finish(self) -> None:
        """After the last byte: all of them are hashed."""
        if self._pieces:
            self._pieces.finish()
        if self.spans:
            self.spans.finish()

    def readinto(self, buffer: memoryview, *, ahead: bool = False) -> int:
        """Fill the buffer; 0 at the end. ahead: what was read before is not looked at yet: also 0 where no more may be
        read until it is. Raises LayerInvalid on damaged or truncated content."""
        try:
            blocks = self._blocks
            count = blocks.readinto(buffer, ahead=ahead) if blocks else int(self._reader.readinto(buffer))
        except (EOFError, gzip.BadGzipFile, _ISAL_ERROR, zlib.error, zstandard.ZstdError) as error:
            raise LayerInvalid(
                f"the {self.kind} stream is damaged or truncated after {self._source.byte_count} bytes: {error}",
                where=self._where,
                do="Push the image again, or fetch the layer from another place",
            ) from error
        if not count and self.may_go_on:
            self._source.drain()
            if self._source.frames is not None and not self._source.frames.complete:
                raise LayerInvalid(
                    f"the zstd stream is truncated after {self._source.byte_count} bytes", where=self._where
                )
        return count


class ZstdFrames:
    """Follows the block structure of zstd frames (RFC 8878 section 3.1), to know whether the input ends with a frame.

    zstandard's stream reader returns a short read for a truncated frame and for a finished one alike.
    """

    def __init__(self) -> None:
        self._skip = 0
        self._need = 4
        self._part = bytearray()
        self._state = "magic"
        self._checksum = False
        self._last = False

    @property
    def complete(self) -> bool:
        """Whether everything fed so far ends exactly at the end of a frame."""
        return self._state == "magic" and not self._part and not self._skip

    def feed(self, data: memoryview) -> None:
        """Follow more bytes. Malformed input is left to the decompressor, which reports it."""
        position = 0
        while position < len(data) or (self._skip == 0 and self._need == 0):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            step = min(self._need - len(self._part), len(data) - position)
            self._part += data[position : position + step]
            position += step
            if len(self._part) < self._need:
                return
            part, self._part = bytes(self._part), bytearray()
            self._advance(part)

    def _advance(self, part: bytes) -> None:
        if self._state == "magic":
            self._state, self._need = ("frame", 1) if part == _ZSTD_MAGIC else ("skippable", 4)
        elif self._state == "skippable":
            self._skip = int.from_bytes(part, "little")
            self._state, self._need = "magic", 4
        elif self._state == "frame":
            self._begin_frame(part[0])
        elif self._state == "block":
            self._begin_block(int.from_bytes(part, "little"))

    def _begin_frame(self, descriptor: int) -> None:
        single = descriptor >> 5 & 1
        content_size = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
        dictionary = (0, 1, 2, 4)[descriptor & 3]
        self._checksum = bool(descriptor >> 2 & 1)
        self._skip = content_size + dictionary + (0 if single else 1)
        self._state, self._need = "block", 3

    def _begin_block(self, header: int) -> None:
        run_length = header >> 1 & 3 == 1
        self._skip = 1 if run_length else header >> 3
        if header & 1:
            self._skip += 4 if self._checksum else 0
            self._state, self._need = "magic", 4
