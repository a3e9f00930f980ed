"""Hold an eStargz layer against its own table of contents: by a few files of it, or whole.

A table that says other things than the tar shows a container other files than those that were scanned; the snapshotter
does not look. So where all is asked for, the layer is read once and both are compared entry by entry.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from registry_pipelines.errors import ContentError, DigestInvalid, NotFound, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.estargz_files import find_files, read_file
from registry_pipelines.stream.estargz_toc import Toc, read_toc
from registry_pipelines.stream.estargz_verify import verify_layer
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.table_checks import SAMPLE, Finding

MAX_SAMPLED_BYTES = 32 << 20
"""Of a file that is read as a sample; larger ones only where all is asked for."""


@dataclass(frozen=True)
class TocFacts:
    """What a table says of its layer."""

    toc_bytes: int
    """Of its JSON."""
    chunks: int
    largest_chunk: int
    """Uncompressed bytes that are read for one file at least."""


def check_toc(
    place: Place, layer: Descriptor, diff_id: Digest | None, *, every_span: bool = False
) -> tuple[list[Finding], TocFacts | None]:
    """What is wrong with a layer that ends as eStargz and has the annotation, and its facts where they can be read.

    diff_id: of the image's config; None where it does not tell. every_span: read the layer whole. Raises RegistryError
    where the registry does not answer.
    """
    where, ranges = f"{place}@{layer.digest}", blob_ranges(place, layer.digest)
    try:
        expected = Digest.parse((layer.annotations or {}).get(TOC_ANNOTATION, ""))
        with read_toc(ranges, layer.size, expected=expected, where=where) as toc:
            facts, names = _surveyed(toc)
            if every_span:
                return _whole(place, layer, diff_id, toc), facts
            for file in find_files(toc, names).values():
                read_file(ranges, file, limit=MAX_SAMPLED_BYTES, where=where)
            return [], facts
    except DigestInvalid as error:
        return [Finding("estargz-wrong", f"its annotation is no digest: {error.what}")], None
    except NotFound:
        return [Finding("layer-gone")], None
    except Unsupported:
        return [Finding("no-ranges")], None
    except ContentError as error:
        return [Finding("estargz-wrong", error.what)], None


def _surveyed(toc: Toc) -> tuple[TocFacts, list[str]]:
    """Its facts, and names of files for a sample: the first, the last, and some in between."""
    chunks = largest = file_bytes = count = 0
    first: list[str] = []
    later: deque[str] = deque(maxlen=SAMPLE)
    last = ""
    for row in toc:
        file_bytes = row.size if row.type == "reg" else file_bytes
        if row.has_content:
            chunks += 1
            largest = max(largest, row.chunk_size or file_bytes - row.chunk_offset)
        if row.type == "reg" and 0 < row.size <= MAX_SAMPLED_BYTES:
            count, last = count + 1, row.name
            if len(first) < SAMPLE:
                first.append(row.name)
            elif count & (count - 1) == 0:  # 8, 16, 32, ...: spread over a table whose length is not known
                later.append(row.name)
    return TocFacts(toc.size, chunks, largest), [*first, *later, *([last] if last else [])]


def _whole(place: Place, layer: Descriptor, diff_id: Digest | None, toc: Toc) -> list[Finding]:
    with place.registry.open_blob(place.repository, layer.digest) as reader:
        found = verify_layer(reader, toc)
    pairs = (("layer", layer.digest, found.digest), ("uncompressed layer", diff_id, found.diff_id))
    return [
        Finding("estargz-wrong", f"the {what} hashes to {actual}, expected {expected}")
        for what, expected, actual in pairs
        if expected is not None and expected != actual
    ]
