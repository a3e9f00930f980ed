"""Gzip members one after the other as one stream, that knows where each of them begins (RFC 1952)."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from isal import igzip_lib

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.layer.decompress import Readable

_ERROR: Any = igzip_lib.IsalError
READ_BYTES = 64 * 1024
"""What is behind the end of a member is copied once for each member, and most have a few KiB."""


class MemberStart(NamedTuple):
    """Where a gzip member begins."""

    offset: int
    """In the blob."""
    position: int
    """In the tar, counted from where the stream began."""


class MemberStream:
    """The uncompressed bytes of gzip members, their checksums verified.

    stream: the blob's bytes from ``offset`` on. hasher: is fed what is read of it.
    """

    def __init__(self, stream: Readable, offset: int, *, where: str, hasher: Any = None) -> None:
        self._stream, self._where, self._hasher = stream, where, hasher
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._rest = b""
        self._decoder: Any = None
        self.offset = offset
        """In the blob, of the next byte that is not looked at yet."""
        self.position = 0
        """Bytes given so far."""
        self.starts: deque[MemberStart] = deque()
        """Of the members that bytes were given of; who uses them takes them out. An empty one is not among them."""

    def readinto(self, view: memoryview) -> int:
        """Fill the buffer from the front; 0 at the end. Raises IndexInvalid: damaged, or ends within a member."""
        while True:
            data, self._rest = self._rest, b""
            if self._decoder is None:
                data = data or self._more()
                if not data:
                    return 0
                self._decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
                self._begin()
            elif self._decoder.needs_input:
                data = self._more()
                if not data:
                    raise self._damaged("it ends within a gzip member")
            try:
                content: bytes = self._decoder.decompress(data, len(view))
            except _ERROR as error:
                raise self._damaged(str(error)) from error
            self.offset += len(data)
            if self._decoder.eof:
                self._rest = self._decoder.unused_data
                self.offset -= len(self._rest)
                self._decoder = None
            if content:
                view[: len(content)] = content
                self.position += len(content)
                return len(content)

    def exactly(self, count: int) -> bytes:
        """So many bytes. Raises IndexInvalid: fewer are left."""
        content = bytearray(count)
        self.fill(memoryview(content))
        return bytes(content)

    def fill(self, view: memoryview) -> None:
        """As many bytes as the buffer takes. Raises IndexInvalid: fewer are left."""
        have = 0
        while have < len(view):
            count = self.readinto(view[have:])
            if not count:
                raise self._damaged("it ends too early")
            have += count

    def _begin(self) -> None:
        if self.starts and self.starts[-1].position == self.position:
            self.starts.pop()
        self.starts.append(MemberStart(self.offset, self.position))

    def _more(self) -> bytes:
        count = self._stream.readinto(self._buffer)
        data = bytes(self._buffer[:count])
        if self._hasher is not None:
            self._hasher.update(data)
        return data

    def _damaged(self, why: str) -> IndexInvalid:
        return IndexInvalid(
            f"the eStargz layer is damaged near byte {self.offset}: {why}",
            where=self._where,
            do="Push the image again, or fetch the layer from another place",
        )
