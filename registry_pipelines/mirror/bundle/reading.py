"""The content of a bundle's stream from where it lies: a range of it, piece by piece, in bounded memory.

Large blobs come as parts of the shared budget, over several connections where one is slow, and go on from the byte
where a connection broke (``transfer.blob.window``). Small ones, of which an image has many, are fetched whole while
others are written, so that a distant registry's answers are not waited for one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from registry_pipelines.errors import ClosureIncomplete, NotFound
from registry_pipelines.mirror.bundle.format import BundleBlob
from registry_pipelines.mirror.bundle.stream import Segment, Stream
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, Descriptor
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.blob.memory import Part, PartMemory
from registry_pipelines.transfer.blob.window import PartWindow

SMALL_BYTES = 1024 * 1024
"""A blob up to this is fetched whole; manifests are always, whatever they have."""

AHEAD_BYTES = 16 * 1024 * 1024
"""Of small blobs that are fetched before they are needed, and as many more segments are looked at: AHEAD_SEGMENTS."""
AHEAD_SEGMENTS = 64
THREADS = 6

Origins = Mapping[Digest, Place]
"""Where each blob and manifest can be read."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of the stream. blob: that they are of, where its digest is still to be checked. part:
    memory of the budget that holds them, which the receiver lets go of."""

    content: memoryview | bytes
    blob: BundleBlob | None = None
    part: Part | None = None


def read_stream(stream: Stream, origins: Origins, memory: PartMemory, *, start: int, stop: int) -> Iterator[Piece]:
    """The bytes of a range, in order. Only small blobs are verified here, and manifests. Raises ClosureIncomplete for
    what is gone at its source, RegistryError, ContentError."""
    with Pool(THREADS, "bundle-read") as pool:
        ahead: deque[tuple[Segment, int, int, Future[bytes] | None]] = deque()
        wanted, held = stream.between(start, stop), 0
        more = True
        while more or ahead:
            while more and held < AHEAD_BYTES and len(ahead) < AHEAD_SEGMENTS:
                if (found := next(wanted, None)) is None:
                    more = False
                    break
                segment = found[0]
                small = segment.blob is not None and is_small(segment.blob)
                ahead.append((*found, pool.submit(_whole, segment.blob, origins) if small else None))
                held += segment.size if small else 0
            if not ahead:
                return
            segment, first, last, fetched = ahead.popleft()
            if fetched is not None:
                held -= segment.size
                yield Piece(fetched.result()[first:last])
            elif segment.blob is not None:
                yield from _large(segment.blob, origins, memory, first, last)
            else:
                yield Piece(segment.literal[first:last])


def is_small(blob: BundleBlob) -> bool:
    """Whether it is fetched, and verified, whole."""
    return bool(blob.media_type) or blob.size <= SMALL_BYTES


def _whole(blob: BundleBlob | None, origins: Origins) -> bytes:
    assert blob is not None  # noqa: S101 - asked of blobs alone
    place = origins[blob.digest]
    try:
        if blob.media_type:
            return place.registry.get_manifest(place.repository, blob.digest).raw
        return read_blob(place, _descriptor(blob), limit=MAX_MANIFEST_BYTES)
    except NotFound as error:
        raise _gone(blob, place) from error


def _large(blob: BundleBlob, origins: Origins, memory: PartMemory, first: int, last: int) -> Iterator[Piece]:
    place = origins[blob.digest]
    window = PartWindow(place, _descriptor(blob), memory, start=first)
    try:
        for part in window:
            yield Piece(part.view[: last - part.offset], blob, part)
            if part.stop >= last:
                return
    except NotFound as error:
        raise _gone(blob, place) from error
    finally:
        window.close()


def _descriptor(blob: BundleBlob) -> Descriptor:
    return Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size)


def _gone(blob: BundleBlob, place: Place) -> ClosureIncomplete:
    what = "manifest" if blob.media_type else "blob"
    return ClosureIncomplete(
        f"{what} {blob.digest} is gone at the source, while the bundle was made",
        where=str(place),
        do="Mirror it again; `bundle create --restart` makes a bundle of what is there now",
    )
