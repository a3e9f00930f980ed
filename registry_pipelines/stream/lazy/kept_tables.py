"""The table of an eStargz layer, fetched once by a node: the last bytes of the blob, as they came, and held against the
digest in the layer's manifest each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from registry_pipelines.errors import ContentError, DiskFull
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, replaced
from registry_pipelines.oci.layer.estargz_footer import FOOTER_BYTES, read_footer
from registry_pipelines.registry.protocol import BUFFER_BYTES, BlobReader, Readable
from registry_pipelines.stream.estargz_toc import Toc, read_toc
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.ranges import Ranges

MAX_KEPT_BYTES = 64 << 20
"""Of one table, compressed; a million files have some 50 MB. Longer ones are fetched each time."""


def kept_toc(
    ranges: Ranges, layer: Digest, size: int, expected: Digest, *, kept: KeptFiles, folder: Path, where: str
) -> Toc:
    """As ``read_toc``. size: of the layer's blob. kept: of this node; what its disk does not take is not kept."""
    path = kept.path(Digest.of(f"table {expected} of {layer}".encode()).hex)
    if kept.find(path.name):
        with suppress(OSError, ContentError), path.open("rb") as file:
            return read_toc(_end_of(file, size), size, expected=expected, where=where, folder=folder)
    with ranges(max(0, size - FOOTER_BYTES), size) as reader:
        tail = b"".join(_pieces(reader, FOOTER_BYTES))
    footer = read_footer(tail)
    start = footer.toc_offset if footer else 0
    if not 0 < size - start <= MAX_KEPT_BYTES:
        return read_toc(ranges, size, expected=expected, where=where, folder=folder)
    try:
        with local_errors(path), replaced(path) as temporary, temporary.open("w+b") as file:
            with ranges(start, size) as reader:
                file.writelines(_pieces(reader, size - start))
            file.flush()
            toc = read_toc(_end_of(file, size), size, expected=expected, where=where, folder=folder)
    except DiskFull:
        return read_toc(ranges, size, expected=expected, where=where, folder=folder)
    kept.make_room(path)
    return toc


def _pieces(reader: Readable, size: int) -> Iterator[bytes]:
    """At most ``size`` bytes."""
    buffer = memoryview(bytearray(min(size, BUFFER_BYTES)))
    while size and (count := reader.readinto(buffer[:size])):
        yield bytes(buffer[:count])
        size -= count


class _Part:
    """A part of a file, as a blob is read."""

    def __init__(self, file: IO[bytes], left: int) -> None:
        self._file, self._left = file, left

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        content = self._file.read(min(self._left, len(buffer)))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)


def _end_of(file: IO[bytes], size: int) -> Ranges:
    """Ranges of a blob of ``size`` bytes whose end the file has."""
    has = file.seek(0, 2)

    @contextmanager
    def opened(start: int, stop: int) -> Iterator[BlobReader]:
        file.seek(max(0, start - (size - has)))
        yield cast(BlobReader, _Part(file, stop - start))

    return opened


__all__ = ["kept_toc"]
