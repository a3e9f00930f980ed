"""The one stream of a bundle: an uncompressed tar of an OCI layout, known to its last byte before the first is read.

Nothing in it depends on when, where or by whom it is made: times are 0, owners are none, and the order is the
document's. So a part that was damaged can be made again alone from the document and the source.

Sources: POSIX.1-2001 (pax interchange format; a size from 8 GiB on is a record of its own), image-spec 1.1
(image-layout.md).
"""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.mirror.bundle.format import Bundle, BundleBlob, BundleImage
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout_index import REF_NAME
from registry_pipelines.oci.manifests import Descriptor, Index, encode_json
from registry_pipelines.oci.media_types import OCI_INDEX

_RECORD = 512
"""Bytes of a tar's header, to which content is filled up too."""
_END = bytes(2 * _RECORD)
_LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True)
class Segment:
    """A piece of the stream: bytes that are known, or a blob's content."""

    offset: int
    size: int
    literal: bytes = b""
    blob: BundleBlob | None = None

    @property
    def stop(self) -> int:
        """The offset behind it."""
        return self.offset + self.size


@dataclass(frozen=True)
class Stream:
    """All of it, in order, without holes."""

    segments: Sequence[Segment]
    blobs: tuple[BundleBlob, ...]
    """What was laid out, with where each begins."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.segments[-1].stop

    def between(self, start: int, stop: int) -> Iterator[tuple[Segment, int, int]]:
        """The segments of a range, each with the first byte of it that is in the range and the one behind the last."""
        first = max(bisect_right(self.segments, start, key=lambda segment: segment.offset) - 1, 0)
        for segment in islice(self.segments, first, None):
            if segment.offset >= stop:
                return
            yield segment, max(start - segment.offset, 0), min(stop, segment.stop) - segment.offset


def lay_out(images: Iterable[BundleImage], blobs: Sequence[BundleBlob]) -> Stream:
    """The stream of these blobs, manifests among them, in their order; where they lie is decided here, so whatever
    their ``offset`` says is not asked."""
    segments: list[Segment] = []
    placed: list[BundleBlob] = []
    at = 0

    def put(segment_size: int, *, literal: bytes = b"", blob: BundleBlob | None = None) -> None:
        nonlocal at
        if segment_size:
            segments.append(Segment(at, segment_size, literal, blob))
            at += segment_size

    def literal(content: bytes) -> None:
        put(len(content), literal=content)

    index = _index(images, blobs)
    literal(_file("oci-layout", _LAYOUT_FILE) + _file("index.json", index))
    literal(b"".join(_header(f"{name}/", folder=True) for name in _folders(blobs)))
    for blob in blobs:
        literal(_header(f"blobs/{blob.digest.algorithm}/{blob.digest.hex}", blob.size))
        placed.append(msgspec.structs.replace(blob, offset=at))
        put(blob.size, blob=placed[-1])
        literal(bytes(-blob.size % _RECORD))
    literal(_END)
    return Stream(segments, tuple(placed))


def stream_of(bundle: Bundle, *, where: str = "") -> Stream:
    """The stream that a document tells of. Raises ManifestInvalid when it was laid out in another way than this build
    does it."""
    stream = lay_out(bundle.images, bundle.blobs)
    if stream.blobs != bundle.blobs or stream.size != bundle.stream_size:
        raise ManifestInvalid(
            "this build would lay the bundle out in another way, so no part of it can be made again",
            where=where,
            do="Make it again with the build that made it, or make a new bundle",
        )
    return stream


def _folders(blobs: Sequence[BundleBlob]) -> list[str]:
    return ["blobs", *sorted({f"blobs/{blob.digest.algorithm}" for blob in blobs})]


def _file(name: str, content: bytes) -> bytes:
    return _header(name, len(content)) + content + bytes(-len(content) % _RECORD)


def _header(name: str, size: int = 0, *, folder: bool = False) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o755 if folder else 0o644
    entry.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _index(images: Iterable[BundleImage], blobs: Sequence[BundleBlob]) -> bytes:
    """Every manifest: an entry for each name, as ``library/python:3.12``, and one without a name for what has none."""
    known = {blob.digest: blob for blob in blobs if blob.media_type}
    named: dict[str, Digest] = {}
    for image in images:
        for tag in image.tags:
            named.setdefault(f"{image.repository}:{tag}", image.digest)
        for tag, digest in image.digest_tags.items():
            named.setdefault(f"{image.repository}:{tag}", digest)
        if not image.tags:
            named.setdefault(f"{image.repository}@{image.digest}", image.digest)
    entries = [_entry(known[digest], {REF_NAME: name}) for name, digest in named.items()]
    with_name = set(named.values())
    entries += [_entry(blob) for digest, blob in known.items() if digest not in with_name]
    return encode_json(Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(entries)))


def _entry(blob: BundleBlob, annotations: dict[str, str] | None = None) -> Descriptor:
    return Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size, annotations=annotations)
