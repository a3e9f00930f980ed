"""Hold a layer's ztoc against the layer: its digest, its spans by ranges, its entries by the tar's own headers.

A sample of both is read unless all is asked for: a ztoc of another layer, or of another version of it, shows at once,
and one that is wrong in a single place only when that place is read.
"""

from __future__ import annotations

import mmap
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, NamedTuple

from registry_pipelines.errors import ContentError, DigestMismatch, IndexInvalid, NotFound, Unsupported
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place
from registry_pipelines.stream.check_kinds import CheckId
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.soci_index import LayerTable
from registry_pipelines.stream.spans import LayerFiles
from registry_pipelines.stream.ztoc import GZIP, Spans, Ztoc, read_ztoc

SAMPLE = 6
"""Spans, and entries, that are read of a layer; the first and the last are among them."""

MAX_SAMPLED_BYTES = 32 << 20
"""Inflated bytes of a span that is read as a sample; larger ones only where all is asked for."""

MAX_TABLE_BYTES = (1 << 31) - 1
"""The format's own limit: offsets have 31 bits."""

FAR_ABOVE = 2
"""Times the target that a span may have. Compressors end their blocks after 1.5 MB at most, so that spans of 4 MiB have
up to 5.5 (facts measured with eight compressors, 2026-08)."""


class Finding(NamedTuple):
    """Something to be said of one layer's index."""

    name: CheckId
    detail: str = ""


@dataclass(frozen=True)
class TableFacts:
    """What a ztoc says of its layer."""

    spans: int
    largest_span_bytes: int
    """Uncompressed."""
    table_bytes: int
    tool: str
    """Who made it, as it says itself."""


def check_table(
    place: Place, table: LayerTable, layer: Descriptor, *, every_span: bool = False
) -> tuple[list[Finding], TableFacts | None]:
    """What is wrong with the ztoc of a layer, or worth knowing, and its facts where it can be read.

    every_span: read the whole layer through it, and the header of every entry. Memory does not grow with either. Raises
    RegistryError where the registry does not answer.
    """
    try:
        with _fetched(place, table.table) as raw:
            ztoc = read_ztoc(raw, where=f"{place}@{table.table.digest}")
            facts = _facts(ztoc, table.table.size)
            findings = list(_of_spans(ztoc.spans, table))
            if ztoc.spans.size != layer.size:
                said = f"of {ztoc.spans.size} bytes, and the layer has {layer.size}"
                return [*findings, Finding("ztoc-other-layer", said)], facts
            return [*findings, *_read(place, ztoc, layer, every_span)], facts
    except NotFound:
        return [Finding("ztoc-missing", str(table.table.digest))], None
    except ContentError as error:
        return [Finding("ztoc-damaged", error.what)], None


@contextmanager
def _fetched(place: Place, descriptor: Descriptor) -> Iterator[mmap.mmap]:
    """The blob's bytes in a file of this machine, verified. Raises NotFound, DigestMismatch, IndexInvalid."""
    if not 0 < descriptor.size <= MAX_TABLE_BYTES:
        raise IndexInvalid(f"it has {descriptor.size} bytes")
    with tempfile.TemporaryFile() as file:
        _fetch(place, descriptor, file)
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # what was read of it closes it


def _fetch(place: Place, descriptor: Descriptor, file: IO[bytes]) -> None:
    hasher, left = descriptor.digest.hasher(), descriptor.size
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with place.registry.open_blob(place.repository, descriptor.digest) as reader:
        while left and (count := reader.readinto(buffer[:left])):
            hasher.update(buffer[:count])
            file.write(buffer[:count])
            left -= count
    file.flush()
    if left or hasher.hexdigest() != descriptor.digest.hex:
        raise DigestMismatch("its bytes are not what the index says", where=f"{place}@{descriptor.digest}")


def _facts(ztoc: Ztoc, size: int) -> TableFacts:
    return TableFacts(len(ztoc.spans.points), max(_lengths(ztoc.spans)), size, ztoc.tool)


def _lengths(spans: Spans) -> list[int]:
    """Uncompressed bytes of each span."""
    return [end - start for start, end in map(spans.unpacked, range(len(spans.points)))]


def _of_spans(spans: Spans, table: LayerTable) -> Iterator[Finding]:
    """What the points tell by themselves."""
    lengths, target = _lengths(spans), table.span_bytes or spans.span_bytes
    largest = max(lengths)
    if spans.algorithm == GZIP and 0 < FAR_ABOVE * target < largest:
        name: CheckId = "one-block" if largest > spans.archive_end * 0.9 else "large-span"
        yield Finding(
            name,
            f"{size_text(largest)} of {size_text(spans.archive_end)} in one span, {size_text(target)} were asked for",
        )
    if spans.points[-1].position >= spans.archive_end > 0:
        yield Finding("span-beyond-end", f"at {spans.points[-1].position} of {spans.archive_end}")


def _read(place: Place, ztoc: Ztoc, layer: Descriptor, every_span: bool) -> Iterator[Finding]:
    """Spans and headers, held against the layer in the registry."""
    files = LayerFiles(ztoc.spans, blob_ranges(place, layer.digest), where=f"{place}@{layer.digest}")
    small = [number for number, length in enumerate(_lengths(ztoc.spans)) if 0 < length <= MAX_SAMPLED_BYTES]
    try:
        if every_span:
            for _ in files.pieces(0, ztoc.spans.archive_end):
                pass
        for number in () if every_span else _sample(small):
            start, end = ztoc.spans.unpacked(number)
            for _ in files.pieces(start, end - start):
                pass
        _check_entries(ztoc, files, every_span)
    except Unsupported:
        yield Finding("no-ranges")
    except NotFound:
        yield Finding("layer-gone")
    except IndexInvalid as error:
        yield Finding("index-wrong", error.what)
    if not (small or every_span) and ztoc.spans.archive_end:
        spans = count_text(len(ztoc.spans.points), "span is", "spans are")
        yield Finding("spans-unread", f"{spans} above {size_text(MAX_SAMPLED_BYTES)}")


def _check_entries(ztoc: Ztoc, files: LayerFiles, every: bool) -> None:
    """The sampled entries' headers. Raises IndexInvalid for one that says something else."""
    starts = ztoc.header_starts()
    wanted = set(range(len(starts)) if every else _sample(range(len(starts))))
    lengths = _lengths(ztoc.spans)
    positions = [point.position for point in ztoc.spans.points]
    for number, entry in enumerate(ztoc):
        if number in wanted and (every or _all_small(positions, lengths, starts[number], entry.position)):
            files.check_entry(entry, starts[number])


def _all_small(positions: Sequence[int], lengths: Sequence[int], start: int, end: int) -> bool:
    """Whether a sample may read these bytes of the tar."""
    touched = range(max(bisect_right(positions, start) - 1, 0), bisect_left(positions, end))
    return all(lengths[number] <= MAX_SAMPLED_BYTES for number in touched)


def _sample(numbers: Sequence[int]) -> list[int]:
    """The first, the last, and some in between."""
    if len(numbers) <= SAMPLE:
        return list(numbers)
    return [numbers[step * (len(numbers) - 1) // (SAMPLE - 1)] for step in range(SAMPLE)]
