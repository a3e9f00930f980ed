"""Whole small blobs: read them verified, push them unless they are there. Large ones are streamed by ``transfer``."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from registry_pipelines.errors import DigestMismatch, ManifestTooLarge, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.protocol import BUFFER_BYTES, BlobReader, Place, Readable
from registry_pipelines.registry.remembered import Remembers

MOST_UNASKED_BYTES = 256 * 1024
"""Sending so much a second time costs no more than asking."""
READ_ATTEMPTS = 4
"""Tries to read on after a broken connection, each from the byte where it broke."""


class BytesSource:
    """Bytes in memory as a Readable. ``rewind`` starts again, so an upload that broke can be sent once more."""

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = memoryview(content).cast("B")
        self._position = 0

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        piece = self._content[self._position : self._position + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def rewind(self) -> None:
        """Start again from the first byte."""
        self._position = 0


class Counted:
    """A blob reader that tells how many bytes went through."""

    def __init__(self, reader: Readable, progress: Progress, task: str) -> None:
        self._reader = reader
        self._progress = progress
        self._task = task

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        count = self._reader.readinto(buffer)
        self._progress.advance(self._task, count)
        return count


def checked_pieces(content: Readable, descriptor: Descriptor, *, where: str) -> Iterator[memoryview]:
    """The bytes of an upload, hashed on the way; each piece is overwritten by the next one. Raises DigestMismatch at
    the end, also when the length is another: what was made of the pieces is not to be kept then."""
    hasher = descriptor.digest.hasher()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    total = 0
    while count := content.readinto(buffer):
        total += count
        if total > descriptor.size:
            break
        piece = buffer[:count]
        hasher.update(piece)
        yield piece
    if total != descriptor.size:
        amount = "more" if total > descriptor.size else f"only {total}"
        raise DigestMismatch(f"the content has {amount} bytes, expected {descriptor.size}", where=where)
    if hasher.hexdigest() != descriptor.digest.hex:
        actual = f"{descriptor.digest.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatch(f"content hashes to {actual}, expected {descriptor.digest}", where=where)


def read_blob(place: Place, descriptor: Descriptor, *, limit: int) -> bytes:
    """The bytes of a blob, verified against digest and size.

    limit: bytes the caller is ready to hold. Raises ManifestTooLarge when the descriptor says more, DigestMismatch,
    NotFound, Unavailable (after reading on a few times).
    """
    where = f"{place}@{descriptor.digest}"
    if descriptor.size > limit:
        raise ManifestTooLarge(f"the blob has {descriptor.size} bytes, at most {limit} are read", where=where)
    memory = place.registry if isinstance(place.registry, Remembers) else None
    kept = memory.recall_blob(place.repository, descriptor.digest) if memory else None
    if kept is not None and len(kept) == descriptor.size:
        return kept
    content = bytearray(descriptor.size)
    filled = 0
    for attempt in range(1, READ_ATTEMPTS + 1):
        opened = place.registry.open_blob(place.repository, descriptor.digest, start=filled)  # repeats by itself
        try:
            with opened as reader:
                while count := reader.readinto(memoryview(content)[filled:]):
                    filled += count
                _check_end(reader, descriptor, filled, where)
            break
        except Unavailable:
            if attempt == READ_ATTEMPTS:
                raise
    raw = bytes(memoryview(content)[:filled])
    descriptor.digest.check(raw, where=where)
    if filled != descriptor.size:
        raise DigestMismatch(
            f"the blob has {filled} bytes, its descriptor says {descriptor.size}",
            where=where,
            do="The manifest that names it is wrong; do not use it",
        )
    if memory:
        memory.keep_blob(place.repository, descriptor.digest, raw)
    return raw


def _check_end(reader: BlobReader, descriptor: Descriptor, filled: int, where: str) -> None:
    """Of a blob whose length was not told: that its body ended where the descriptor says."""
    if reader.size is not None:
        return
    if filled < descriptor.size:
        raise Unavailable(f"the content ended {descriptor.size - filled} bytes early", where=where, do="Try again")
    if reader.readinto(memoryview(bytearray(1))):
        raise DigestMismatch(f"the blob is longer than the {descriptor.size} bytes its descriptor says", where=where)


def push_blob(place: Place, content: bytes, *, media_type: str, made_now: bool = False) -> Descriptor:
    """Store bytes unless the repository has them; their descriptor. made_now: nobody has them but who was killed when
    he sent them, so a small one is sent without asking."""
    descriptor = Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))
    unasked = made_now and len(content) <= MOST_UNASKED_BYTES
    if unasked or place.registry.blob_size(place.repository, descriptor.digest) is None:
        place.registry.upload_blob(place.repository, descriptor, BytesSource(content))
    return descriptor


class BlobStream:
    """A blob from its first byte to its last, however often the connection breaks on the way; a context manager.

    For who needs all of a large one in order and hashes it himself: content is **not** verified here. Implements
    Readable. Raises NotFound, Unavailable (after reading on a few times without a byte in between).
    """

    def __init__(self, place: Place, descriptor: Descriptor) -> None:
        self._place, self._descriptor = place, descriptor
        self._reader: BlobReader | None = None
        self._position = 0
        self._attempts = 0

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        while True:
            try:
                if self._reader is None:
                    self._reader = self._open()
                count = self._reader.readinto(buffer)
            except Unavailable:
                self.close()
                self._attempts += 1
                if self._attempts == READ_ATTEMPTS:
                    raise
                continue
            self._position += count
            self._attempts = 0
            return count

    def _open(self) -> BlobReader:
        return self._place.registry.open_blob(self._place.repository, self._descriptor.digest, start=self._position)

    def close(self) -> None:
        """Free the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> BlobStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
