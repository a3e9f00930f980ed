"""A gzip layer written in one pass, taking over deflate streams as they are.

A gzip layer is one deflate stream of a tar, and deflate streams can be joined bit by bit: a member of a wheel keeps
its own compressed bytes, only its "last block" bit is cleared and its end padded to a whole byte by an empty block.
Everything else (tar headers, small generated files) goes through one compressor that is flushed completely before a
splice, so that nothing refers back across it. The result is a single gzip member that every reader takes.
Sources: RFC 1951 sections 3.2.3 to 3.2.4, RFC 1952.
"""

from __future__ import annotations

import ctypes
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from zlib_ng import zlib_ng

from registry_pipelines.build.entries import header_bytes
from registry_pipelines.build.inflating import Blocks, Stretches
from registry_pipelines.build.recording import Recording
from registry_pipelines.errors import WheelInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.inflate import END_OF_BLOCK, LAST_BLOCK, RAW_WINDOW, Inflater
from registry_pipelines.oci.layer.linkage import LinkCollector
from registry_pipelines.oci.layer.record import RecordWriter
from registry_pipelines.registry.protocol import Readable

INPUT_BYTES = 256 * 1024
"""Of one read."""

PENDING_BYTES = 256 * 1024
"""So many bytes for the compressor are collected before it is called."""

SMALL_BYTES = 32 * 1024
"""Smaller pieces of the layer are hashed and handed on together: most are a few hundred bytes."""

COMPRESSION_LEVEL = 6
CODEC = f"zlib-ng {zlib_ng.ZLIBNG_VERSION}, level {COMPRESSION_LEVEL}"
"""What the compressed bytes of headers and generated files depend on; part of every layer's key."""

MAX_BLOCKS_PER_KIB = 64
"""Deflate blocks per KiB of what is walked through block by block, one piece of input at most (beside 4,096 free ones,
and two per KiB of all, where checkpoints are looked for). Real streams have less than one; a stream of empty blocks
would cost a call each."""

GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""No name, no time, unknown system: equal input gives equal bytes."""
STORED_BLOCK_BYTES = 65535
EMPTY_STORED_BLOCK = b"\x00\x00\xff\xff"
END_OF_TAR = bytes(2 * tarfile.BLOCKSIZE)


Sink = Callable[[memoryview | bytes], object]
"""Takes the layer's bytes in order; a view is valid during the call only."""


@dataclass(frozen=True)
class LayerDigests:
    """What a layer came out as; sizes in bytes."""

    digest: Digest
    diff_id: Digest
    size: int
    tar_size: int


class LayerWriter:
    """Writes one layer into a sink; memory stays below 2 MiB whatever the sizes.

    Each file is ``header`` followed by exactly ``info.size`` bytes through ``content``, ``deflated`` or ``stored``, and
    ``hashed``. A context manager: leaving it frees the inflater.
    """

    def __init__(
        self,
        sink: Sink,
        record: RecordWriter | None = None,
        *,
        tar_sink: Sink = lambda piece: None,
        links: LinkCollector | None = None,
    ) -> None:
        """record: where to keep what a reader of the layer would find; whole after ``finish``. tar_sink: takes the
        uncompressed bytes, as ``sink`` does those of the layer. links: is told of the entries and their content."""
        self._links = links
        self._content_left = 0
        self._sink = sink
        self._tar_sink = tar_sink
        self._layer = hashlib.sha256()
        self._tar = hashlib.sha256()
        self._crc = 0
        self._size = 0
        self._tar_size = 0
        self._comment = ""
        self._pending = bytearray()
        self._small = bytearray()
        self._compressor: Any = zlib_ng.compressobj(COMPRESSION_LEVEL, zlib_ng.DEFLATED, RAW_WINDOW)
        self._dirty = False
        self._stretches = Stretches()
        self._input = bytearray(1 + INPUT_BYTES)
        self._input_view = memoryview(self._input)
        self._input_address = ctypes.addressof(ctypes.c_char.from_buffer(self._input))
        self._recording = Recording(record, self._stretches, len(GZIP_HEADER)) if record else None
        self._emit(GZIP_HEADER)

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stretches.close()

    def header(self, info: tarfile.TarInfo) -> None:
        """Start an entry, after padding the one before; its content must follow at once."""
        self._pad()
        if self._comment:
            info.pax_headers, self._comment = {"comment": self._comment}, ""
        blocks = header_bytes(info)
        self._compress(blocks)
        if self._recording:
            self._recording.entry(self._tar_size, info.size if info.isreg() else 0, blocks)
        if self._links:
            kind = "file" if info.isreg() else "symlink" if info.issym() else "other"
            self._links.entry(info.name, kind, info.size, info.linkname)
            self._content_left = info.size if info.isreg() else 0

    def hashed(self, sha256: bytes, crc: int) -> None:
        """What the entry's content, all of which was given, hashes to, and its CRC-32: who checked it knows, so it is
        hashed once."""
        if self._recording:
            self._recording.hashed(sha256, crc)

    def comment(self, text: str) -> None:
        """Put a text beside the next entry (pax, "comment", which every reader passes over): a layer of the same files
        has another digest then."""
        self._comment = text

    def content(self, piece: bytes | memoryview) -> None:
        """Some bytes of the entry, to be compressed here."""
        self._compress(piece)

    def deflated(
        self, source: Readable, compressed_size: int, consume: Callable[[memoryview], None], where: str
    ) -> None:
        """The entry's whole content as a raw deflate stream, taken over bit by bit.

        consume: gets the inflated pieces, in order, valid during the call only. Raises WheelInvalid for a stream that
        is damaged, ends early, or is followed by other bytes.
        """
        self._flush()
        _Splice(self, source, compressed_size, consume, where).run()

    def stored(self, source: Readable, size: int, consume: Callable[[memoryview], None], where: str) -> None:
        """The entry's whole content from an uncompressed source, as stored blocks."""
        self._flush()
        left = size
        while left:
            count = _fill(source, self._stretches.output[: min(left, STORED_BLOCK_BYTES)])
            if not count:
                raise WheelInvalid("the archive ends in the middle of a file", where=where)
            piece = self._stretches.output[:count]
            consume(piece)
            self._account(piece)
            self._emit(b"\x00" + count.to_bytes(2, "little") + (count ^ 0xFFFF).to_bytes(2, "little"))
            self._emit(piece)
            if self._recording:
                self._recording.passed(piece)
                self._recording.block(self._size, 0)
            left -= count

    def finish(self) -> LayerDigests:
        """End the tar and the gzip member; nothing may be written afterwards."""
        self._pad()
        self._compress(END_OF_TAR)
        self._flush()
        self._emit(b"\x03\x00" + self._crc.to_bytes(4, "little") + (self._tar_size & 0xFFFFFFFF).to_bytes(4, "little"))
        self._emit_at_once(bytes(self._small))
        digest, diff_id = (Digest(f"sha256:{hasher.hexdigest()}") for hasher in (self._layer, self._tar))
        if self._recording:
            self._recording.finish(digest, self._size, diff_id)
        return LayerDigests(digest, diff_id, self._size, self._tar_size)

    def _pad(self) -> None:
        self._compress(bytes(-self._tar_size % tarfile.BLOCKSIZE))

    def _compress(self, piece: bytes | memoryview) -> None:
        self._account(piece)
        self._pending += piece
        if len(self._pending) >= PENDING_BYTES:
            self._drain(flush=False)

    def _drain(self, *, flush: bool) -> None:
        packed = self._compressor.compress(self._pending)
        if flush:
            packed += self._compressor.flush(zlib.Z_FULL_FLUSH)
        if self._recording:
            self._recording.compressed(packed, self._pending, self._size, flushed=flush)
        self._emit(packed)
        self._pending.clear()
        self._dirty = not flush

    def _flush(self) -> None:
        if self._pending or self._dirty:
            self._drain(flush=True)

    def _account(self, piece: bytes | memoryview) -> None:
        self._tar.update(piece)
        self._tar_sink(piece)
        self._crc = zlib_ng.crc32(piece, self._crc)
        self._tar_size += len(piece)
        if self._content_left and self._links:
            self._links.feed(piece)
            self._content_left -= len(piece)

    def _emit(self, piece: bytes | memoryview) -> None:
        self._size += len(piece)
        if len(piece) < SMALL_BYTES:
            self._small += piece
            if len(self._small) < SMALL_BYTES:
                return
            piece = b""
        self._emit_at_once(bytes(self._small))
        self._small.clear()
        self._emit_at_once(piece)

    def _emit_at_once(self, piece: bytes | memoryview) -> None:
        if piece:
            self._layer.update(piece)
            if self._recording:
                self._recording.emitted(piece)
            self._sink(piece)


class _Splice:
    """One deflate stream on its way through a LayerWriter.

    Only where the last block starts and ends must be known. So pieces before the last one are inflated at a stretch,
    and a piece on whose way the last block began is walked through block by block once more, with a copy of the
    inflater. The stops at all blocks (one in 25 KB) cost as much as a tenth of the inflating, and far more when
    threads wait for each other at each of them.

    Byte 0 of the input buffer carries the last byte of the piece before: a block that ends inside that byte may set a
    bit in it. ``count``: how many bytes of input there are from index 1 on; ``end``: where in the layer they end.
    ``last_block_bit``: where in the buffer the bit to clear stands.
    """

    def __init__(
        self,
        writer: LayerWriter,
        source: Readable,
        size: int,
        consume: Callable[[memoryview], None],
        where: str,
    ) -> None:
        self.writer = writer
        self.source = source
        self.left = size
        self.consume = consume
        self.where = where
        self.count = 0
        self.end = writer._size
        self.in_last_block = False
        self.peek_next_byte = True
        self.unused_bits = -1
        self.last_block_bit: tuple[int, int] | None = None
        self.blocks_left = 4096 + (min(size, INPUT_BYTES) * MAX_BLOCKS_PER_KIB + size * 2) // 1024

    def run(self) -> None:
        """Take over the whole stream."""
        writer = self.writer
        writer._stretches.inflater.reset()
        start = 1
        while self.left and self.unused_bits < 0:
            count = _fill(self.source, writer._input_view[1 : 1 + min(self.left, INPUT_BYTES)])
            if not count:
                raise WheelInvalid("the archive ends in the middle of a file", where=self.where)
            self.left -= count
            self._inflate(count)
            if self.last_block_bit:
                index, bit = self.last_block_bit
                writer._input[index] &= ~(1 << bit) & 0xFF
                self.last_block_bit = None
            writer._emit(writer._input_view[start:count])
            writer._input[0] = writer._input[count]
            start = 0
        if self.unused_bits < 0:
            raise WheelInvalid("a compressed file ends early", where=self.where)
        if self.left:
            raise WheelInvalid("bytes follow the end of a compressed file", where=self.where)
        self._align(writer._input[0])

    def _inflate(self, count: int) -> None:
        """The ``count`` bytes that stand from index 1 of the input buffer."""
        self.count = count
        self.end += count
        recording = self.writer._recording
        if recording:
            recording.feed(self.end)
        if self.in_last_block or not self.left:
            self._walk(recording)
            return
        inflater = self.writer._stretches.inflater
        with closing(inflater.copy()) as before:
            self._run(self._hand_on, _Blocks(self, recording, every=False) if recording else None)
            if inflater.stream.data_type & LAST_BLOCK:
                self._walk(None, before)
                return
        self.peek_next_byte = False
        if inflater.stream.data_type & END_OF_BLOCK:
            self.block_ended(count, inflater.stream.data_type & 7)

    def _walk(self, recording: Recording | None, again: Inflater | None = None) -> None:
        """Stop at every block. again: a copy that stands before the piece, when it was inflated already."""
        if self.peek_next_byte:
            self.peek_next_byte = False
            self._peek(1, 0)
        self._run((lambda piece: None) if again else self._hand_on, _Blocks(self, recording, every=True), again)

    def _run(
        self, hand_on: Callable[[memoryview], None], blocks: Blocks | None, inflater: Inflater | None = None
    ) -> None:
        if not self.writer._stretches.inflate(self.writer._input_address + 1, self.count, hand_on, blocks, inflater):
            raise WheelInvalid("a compressed file is damaged", where=self.where)

    def _hand_on(self, piece: memoryview) -> None:
        self.consume(piece)
        self.writer._account(piece)
        if self.writer._recording:
            self.writer._recording.passed(piece)

    def count_block(self) -> None:
        """A block at whose end we stopped. Raises WheelInvalid: there are far too many."""
        self.blocks_left -= 1
        if self.blocks_left < 0:
            raise WheelInvalid("a compressed file consists of far too many blocks", where=self.where)

    def block_ended(self, offset: int, unused: int) -> None:
        """A block ended before ``unused`` bits of byte ``offset - 1`` (buffer index ``offset``)."""
        if self.in_last_block:
            if offset != self.count:
                raise WheelInvalid("bytes follow the end of a compressed file", where=self.where)
            self.unused_bits = unused
        elif unused:
            self._peek(offset, 8 - unused)
        elif offset < self.count:
            self._peek(offset + 1, 0)
        else:
            self.peek_next_byte = True

    def _peek(self, index: int, bit: int) -> None:
        """Read the next block's first bit, BFINAL."""
        if self.writer._input[index] >> bit & 1:
            self.in_last_block = True
            self.last_block_bit = (index, bit)

    def _align(self, last: int) -> None:
        """Emit the last byte without what follows the stream's end, and an empty stored block up to a whole byte."""
        tail = bytes([last & (0xFF >> self.unused_bits)])
        if self.unused_bits < 3:
            tail += b"\x00"
        self.writer._emit(tail + EMPTY_STORED_BLOCK)


class _Blocks:
    """Tells where blocks end (``inflating.Blocks``): all of them where the last one is looked for, and those that the
    record asks for."""

    def __init__(self, splice: _Splice, recording: Recording | None, *, every: bool) -> None:
        self._splice = splice
        self._recording = recording
        self._every = every

    def room(self, filled: int) -> int:
        return 0 if self._every or self._recording is None else self._recording.room(filled)

    def ended(self, left: int, unused: int, filled: int) -> bool:
        splice = self._splice
        splice.count_block()
        if self._recording:
            self._recording.ended(left, unused, filled)
        if self._every:
            splice.block_ended(splice.count - left, unused)
        return splice.unused_bits >= 0


def _fill(source: Readable, view: memoryview) -> int:
    """Read until the view is full or the source ends."""
    count = 0
    while count < len(view):
        got = source.readinto(view[count:])
        if not got:
            break
        count += got
    return count
