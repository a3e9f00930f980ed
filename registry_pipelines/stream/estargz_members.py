"""Writes the gzip members of an eStargz blob: compressed by several threads, written in order, with the table of
contents and the footer behind them.

The bytes do not depend on the number of threads. Memory: the members that are being compressed; the table goes to a
file without a name once it is large.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import deflate
import msgspec
from zlib_ng import zlib_ng

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.estargz_footer import footer
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.stream.estargz_headers import own_header
from registry_pipelines.stream.estargz_toc import TOC_NAME, TocEntry
from registry_pipelines.threads import Pool

BATCH_BYTES = 1024 * 1024
"""Uncompressed bytes handed to a thread at once: most members are small, and a hand-over costs as much as 10 KiB."""
WAITING_BYTES = 24 * 1024 * 1024
"""Uncompressed bytes that wait for a thread, are in one, or wait compressed for those before them."""
HEADERS_BYTES = 1024 * 1024
"""Headers of entries without content begin another member after so many bytes; readers go on from one to the next."""
TOC_IN_MEMORY_BYTES = 16 * 1024 * 1024
_TOC_LEVEL = 6
_GZIP_WINDOW = 31
_PIECE_BYTES = 1024 * 1024

Write = Callable[[memoryview | bytes], object]
"""Takes the blob's bytes in order."""


class Written(NamedTuple):
    """The blob; sizes in bytes."""

    digest: Digest
    size: int
    diff_id: Digest
    """Of the new tar, its table of contents included: what the image's config must name."""
    uncompressed_size: int
    toc_digest: Digest
    toc_size: int
    members: int


class _Member(NamedTuple):
    """A gzip member before it is compressed. chunk: the entry of the content at its beginning, of ``size`` bytes."""

    tar: bytearray
    chunk: TocEntry | None = None
    size: int = 0


class MemberWriter:
    """Takes headers and content in the order of the tar, in one thread and within its ``with`` block."""

    def __init__(self, write: Write, *, level: int, threads: int, folder: Path | None = None) -> None:
        """folder: for a table that is too long for memory."""
        self._write, self._level = write, level
        self._pool = Pool(threads, "compress")
        self._member = _Member(bytearray())
        self._batch: list[_Member] = []
        self._batch_bytes = self._waiting_bytes = 0
        self._waiting: deque[tuple[Future[list[tuple[bytearray, str]]], list[_Member], int]] = deque()
        self._blob_hash, self._tar_hash = hashlib.sha256(), hashlib.sha256()
        self._size = self._tar_size = self._members = 0
        self._table = _Table(folder)

    def __enter__(self) -> MemberWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)
        self._table.close()

    def header(self, blocks: bytes) -> None:
        """The header blocks of the next entry."""
        if len(self._member.tar) - self._member.size >= HEADERS_BYTES:
            self._begin(_Member(bytearray()))
        self._member.tar.extend(blocks)

    def list(self, entry: TocEntry) -> None:
        """Add an entry to the table. One with content gets its offset and digests when they are known, at once
        before its first :meth:`content`."""
        self._table.add(entry)

    def content(self, entry: TocEntry, size: int, fill: Callable[[memoryview], object]) -> None:
        """The bytes of a file, or of one chunk of it. fill: puts them into the buffer."""
        tar = bytearray(size)
        with memoryview(tar) as view:
            fill(view)
        self._begin(_Member(tar, entry, size))

    def pad(self, size: int) -> None:
        """Zeros to the end of the block behind a file of ``size`` bytes."""
        self._member.tar.extend(bytes(-size % BLOCK_BYTES))

    def finish(self) -> Written:
        """Write what waits, the table and the footer."""
        self._begin(_Member(bytearray()))
        self._submit()
        while self._waiting:
            self._take()
        toc_offset = self._size
        self._table.finish()
        self._write_table()
        self._put(footer(toc_offset))
        return Written(
            digest=Digest(f"sha256:{self._blob_hash.hexdigest()}"),
            size=self._size,
            diff_id=Digest(f"sha256:{self._tar_hash.hexdigest()}"),
            uncompressed_size=self._tar_size,
            toc_digest=self._table.digest,
            toc_size=self._table.size,
            members=self._members,
        )

    def _begin(self, member: _Member) -> None:
        done, self._member = self._member, member
        if not done.tar:
            return
        self._tar_hash.update(done.tar)
        self._tar_size += len(done.tar)
        self._members += 1
        self._batch.append(done)
        self._batch_bytes += len(done.tar)
        if self._batch_bytes >= BATCH_BYTES:
            self._submit()

    def _submit(self) -> None:
        if not self._batch:
            return
        while self._waiting and self._waiting_bytes + self._batch_bytes > WAITING_BYTES:
            self._take()
        future = self._pool.submit(partial(_compress, self._batch, self._level))
        self._waiting.append((future, self._batch, self._batch_bytes))
        self._waiting_bytes += self._batch_bytes
        self._batch, self._batch_bytes = [], 0
        while self._waiting and self._waiting[0][0].done():
            self._take()

    def _take(self) -> None:
        """Write the oldest batch."""
        future, batch, size = self._waiting.popleft()
        for (compressed, digest), member in zip(future.result(), batch, strict=True):
            if member.chunk is not None:
                member.chunk.offset = self._size
                member.chunk.chunk_digest = digest
                if not member.chunk.chunk_offset and member.size == member.chunk.size:
                    member.chunk.digest = digest
            self._put(compressed)
        self._waiting_bytes -= size
        self._table.flush()

    def _put(self, piece: bytes | bytearray) -> None:
        self._blob_hash.update(piece)
        self._size += len(piece)
        self._write(memoryview(piece))

    def _write_table(self) -> None:
        compressor = zlib_ng.compressobj(_TOC_LEVEL, zlib_ng.DEFLATED, _GZIP_WINDOW)
        size = self._table.size
        end = bytes(-size % BLOCK_BYTES + 2 * BLOCK_BYTES)
        for piece in chain([own_header(TOC_NAME, size)], self._table.pieces(), [end]):
            self._tar_hash.update(piece)
            self._tar_size += len(piece)
            self._put(compressor.compress(piece))
        self._put(compressor.flush())
        self._members += 1


def _compress(batch: list[_Member], level: int) -> list[tuple[bytearray, str]]:
    """Each member compressed, with the digest of its content."""
    done = []
    for tar, chunk, size in batch:
        digest = ""
        if chunk is not None:
            with memoryview(tar) as view:
                digest = str(Digest.of(view[:size]))
        done.append((deflate.gzip_compress(tar, level), digest))
    return done


class _Table:
    """The table of contents as JSON: entries wait until those before them are complete."""

    def __init__(self, folder: Path | None) -> None:
        self._where = str(folder or tempfile.gettempdir())
        self._waiting: deque[TocEntry] = deque()
        self._encoder = msgspec.json.Encoder()
        self._hash = hashlib.sha256()
        self._file = tempfile.SpooledTemporaryFile(max_size=TOC_IN_MEMORY_BYTES, dir=self._where)  # noqa: SIM115 - closed by the writer
        self._separator = b""
        self.size = 0
        self._append(b'{"version":1,"entries":[\n')

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def add(self, entry: TocEntry) -> None:
        self._waiting.append(entry)
        if len(self._waiting) == 1:
            self.flush()

    def flush(self) -> None:
        while self._waiting and self._waiting[0].complete:
            self._append(self._separator + self._encoder.encode(self._waiting.popleft()))
            self._separator = b",\n"

    def finish(self) -> None:
        self.flush()
        assert not self._waiting  # noqa: S101 - every content was written
        self._append(b"\n]}\n")

    def pieces(self) -> Iterator[bytes]:
        with local_errors(self._where):
            self._file.seek(0)
            while piece := self._file.read(_PIECE_BYTES):
                yield piece

    def close(self) -> None:
        self._file.close()

    def _append(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.size += len(piece)
        with local_errors(self._where):
            self._file.write(piece)
