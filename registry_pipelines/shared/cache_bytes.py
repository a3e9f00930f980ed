"""The bytes of a cache's entry as they are kept for other machines: compressed, and known by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Protocol

import zstandard

from registry_pipelines.errors import DigestMismatch
from registry_pipelines.oci.digest import Digest

IN_MEMORY = 4 << 20
"""Bytes of an entry that are packed without a file."""
PIECE_BYTES = 1 << 20
_LEVEL = 1
"""Facts are JSON, which becomes a tenth; what is compressed already costs little."""


class Source(Protocol):
    """What is read; as ``oci.layer.decompress.Readable``."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Some bytes; 0 at the end."""
        ...


class Packed:
    """An entry's bytes, packed aside. A context manager. size: of what went in; stored: of what came out."""

    def __init__(self, pieces: Iterable[bytes], scratch: Path) -> None:
        """scratch: a folder for those that are too large for memory. Raises OSError."""
        self.size = self.stored = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY, dir=str(scratch))  # noqa: SIM115 - a part of this
        compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        try:
            for piece in pieces:
                self.size += len(piece)
                self._add(compressor.compress(piece))
            self._add(compressor.flush())
        except BaseException:
            self._file.close()
            raise

    def _add(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.stored += self._file.write(piece)

    def __enter__(self) -> Packed:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def digest(self) -> Digest:
        """Of the packed bytes."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def pieces(self) -> Iterator[bytes]:
        """The packed bytes."""
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            yield piece


class _Hashed:
    """Reads a source to its end, and no further than it should be long."""

    def __init__(self, source: Source, most: int) -> None:
        self._source, self._left = source, most
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """What the decompressor asks for."""
        buffer = bytearray(min(self._left, size if size > 0 else PIECE_BYTES))
        count = self._source.readinto(memoryview(buffer)) if buffer else 0
        self._left -= count
        piece = bytes(memoryview(buffer)[:count])
        self.hash.update(piece)
        return piece


def unpacked(source: Source, digest: Digest, *, stored: int, size: int) -> Iterator[bytes]:
    """What was packed, piece by piece. digest, stored: of the packed bytes; size: of what they unpack to.

    Raises DigestMismatch, at the end or before: they are other bytes. What came before counts for nothing then. What
    the source raises passes.
    """
    hashed = _Hashed(source, stored)
    left = size
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(hashed)  # type: ignore[arg-type]
        while piece := reader.read(PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                break
            yield piece
    except zstandard.ZstdError as error:
        raise DigestMismatch(f"these are not the bytes that were kept: {error}", where=str(digest)) from error
    while hashed.read():
        pass  # behind the frame
    if left or hashed.hash.hexdigest() != digest.hex:
        raise DigestMismatch("these are not the bytes that were kept", where=str(digest))


__all__ = ["PIECE_BYTES", "Packed", "Source", "unpacked"]
