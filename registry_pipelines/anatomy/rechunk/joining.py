"""A gzip layer put together of runs that were compressed before and of small files that are compressed with it.

A run is a raw deflate stream that ends on a whole byte and not with a last block, so runs follow each other as they are
(RFC 1951, section 3.2.4). One gzip member comes out (RFC 1952), with the checksum that is joined of theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from zlib_ng import zlib_ng

from registry_pipelines.build.splice import COMPRESSION_LEVEL, END_OF_TAR, GZIP_HEADER, PENDING_BYTES, SMALL_BYTES
from registry_pipelines.oci.layer.inflate import RAW_WINDOW
from registry_pipelines.oci.layer.tar import BLOCK_BYTES

_WINDOW_BYTES = 32 * 1024
Sink = Callable[[bytes | memoryview], object]


class Packed(NamedTuple):
    """A run. size, crc: of what it unpacks to."""

    data: bytes
    size: int
    crc: int


def pack(content: bytes | bytearray, before: bytes) -> Packed:
    """Compress a piece. before: what stands before it in its file, at most the last 32 KiB of it matter."""
    window = before[-_WINDOW_BYTES:]
    compressor: Any = (
        zlib_ng.compressobj(COMPRESSION_LEVEL, zlib_ng.DEFLATED, RAW_WINDOW, zdict=window)
        if window
        else zlib_ng.compressobj(COMPRESSION_LEVEL, zlib_ng.DEFLATED, RAW_WINDOW)
    )
    data = compressor.compress(content) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return Packed(data, len(content), zlib_ng.crc32(content))


class JoinedLayer:
    """Writes one layer into a sink. Each entry is ``content`` with its header, then its content through ``content`` or
    ``run``; both end on whole blocks by ``pad``."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._crc = self.tar_size = 0
        self._compressor: Any = zlib_ng.compressobj(COMPRESSION_LEVEL, zlib_ng.DEFLATED, RAW_WINDOW)
        self._pending, self._small = bytearray(), bytearray()
        self._dirty = False
        self._emit(GZIP_HEADER)

    def content(self, piece: bytes | memoryview) -> None:
        """The tar's next bytes, to be compressed here."""
        self._crc = zlib_ng.crc32(piece, self._crc)
        self.tar_size += len(piece)
        self._pending += piece
        if len(self._pending) >= PENDING_BYTES:
            self._drain(flush=False)

    def run(self, pieces: Iterable[bytes], size: int, crc: int) -> None:
        """The tar's next ``size`` bytes, compressed before."""
        if self._pending or self._dirty:
            self._drain(flush=True)
        for piece in pieces:
            self._emit(piece)
        self._crc = zlib_ng.crc32_combine(self._crc, crc, size)
        self.tar_size += size

    def pad(self) -> None:
        """End an entry."""
        self.content(bytes(-self.tar_size % BLOCK_BYTES))

    def finish(self) -> None:
        """End the tar and the layer."""
        self.content(END_OF_TAR)
        self._drain(flush=True)
        trailer = self._crc.to_bytes(4, "little") + (self.tar_size & 0xFFFFFFFF).to_bytes(4, "little")
        self._sink(bytes(self._small) + b"\x03\x00" + trailer)

    def _drain(self, *, flush: bool) -> None:
        packed = self._compressor.compress(self._pending)
        if flush:
            # Nothing behind a run may refer to what stands before it: the window is not where it seems.
            packed += self._compressor.flush(zlib.Z_FULL_FLUSH)
        self._emit(packed)
        self._pending.clear()
        self._dirty = not flush

    def _emit(self, piece: bytes) -> None:
        if len(piece) < SMALL_BYTES:
            self._small += piece
            if len(self._small) < SMALL_BYTES:
                return
            piece = b""
        if self._small:
            self._sink(bytes(self._small))
            self._small.clear()
        if piece:
            self._sink(piece)


__all__ = ["JoinedLayer", "Packed", "pack"]
