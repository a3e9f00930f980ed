"""Hot packs are cut here: the pages that a recorded start reads, out of layers that were held against their diffIDs.

Layers are read as this machine itself would mount them, and nobody's index is believed: by what was found when a layer
was read whole (``LayerStore``), by the eStargz table that the image names, or whole. A blob of frames depends on its
layer and the pages alone, so that of a layer that stayed is taken from the pack before, and nothing of it is read.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from registry_pipelines.errors import ContentError, LayerInvalid, NotFound
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.contents import files_like
from registry_pipelines.stream.hot.metadata import metadata_blob, pack_metadata
from registry_pipelines.stream.hot.pack import Frame, Head, MetadataBlob, PackLayer, Part, encode_head, pack_frame
from registry_pipelines.stream.hot.packs import (
    PackNote,
    find_packs,
    frames_blob,
    publish_pack,
    read_head,
)
from registry_pipelines.stream.hot.recording import Recording, inherit
from registry_pipelines.stream.hot.touched import WINDOW_BYTES, Asked, Extent, asked_for
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.erofs import Metadata
from registry_pipelines.stream.lazy.filling import Filler
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.tables import ImageTables, image_tables
from registry_pipelines.stream.pushing import push_piece, scratch_folder
from registry_pipelines.stream.soci import Piece
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads

LEVEL = 9
"""Of zstd. It makes 5.7 % less than level 3, and is unpacked as fast; level 18 makes 12.6 % less at a tenth of
the speed (frames of seven CUDA starts)."""
FIRST_FRAME_BYTES = 128 << 10
LAST_FRAME_BYTES = 1 << 20
"""Frames grow: what is needed first is not to wait for much else."""
MAX_BYTES = 1 << 30
"""Of content of one pack."""
MOST_WASTE = 0.15
"""Of an earlier blob, what the start does not need any more; beyond that it is cut anew."""
READERS = 8
"""Frames that are made at once: most of them wait for their layer."""
IN_MEMORY = 64
"""Frames that are made before they are written."""
SILENT = Silent()


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """What cutting did for one platform."""

    image: Digest
    pack: Descriptor | None
    """Of its manifest; None: nothing of the recording is in the image, or too little."""
    changed: bool
    inherited: bool
    """Whether the recording is one of another image."""
    pages: int
    """In the recording."""
    pages_found: int
    """Of files that the image has, too."""
    pages_left_out: int
    """Too many for one pack."""
    files_dropped: int
    content_bytes: int
    stored_bytes: int
    parts: int
    parts_reused: int
    """Of layers of which nothing was read."""
    frames: int
    bytes_sent: int
    bytes_read: int
    """Of layers, from the registry; those that were fetched whole are not counted."""
    seconds: float


def make_pack(
    place: Place,
    image: Digest,
    recording: Recording,
    *,
    state: Path,
    store: LayerStore,
    signer: Signer,
    earlier: Sequence[Digest] = (),
    window: int = WINDOW_BYTES,
    max_bytes: int = MAX_BYTES,
    least_found: float = 0.0,
    engine: Engine | None = None,
    progress: Progress = SILENT,
    log: Callable[[str], object] = lambda line: None,
) -> PackResult:
    """Cut the hot pack of one platform's image, sign and attach it.

    image: the platform's manifest. recording: of its start, or of another image's; then what both have counts. state:
    folder of what is kept and of what is on its way. store: records of layers that were read; a layer without is
    fetched whole. signer: the indexer's. earlier: platform manifests in the same repository whose packs, by the same
    key, may lend frames. window: bytes of read-ahead of the mounts that will use it. max_bytes: of content; what a
    recording has beyond is left out, its end first. least_found: share of the recording's pages without which nothing
    is cut. log: is told in one line of a registry that does not answer, a disk
    that is full.

    A second run changes nothing. Raises ManifestInvalid, LayerInvalid, DigestMismatch, LocalError, DiskFull, NotFound
    and the RegistryError family; then nothing is attached.
    """
    started = time.monotonic()
    engine = engine or Engine(state=state / "transfer")
    own = engine.place(place)
    blocks = BlockStore(state / "lazy" / "blocks")
    found = image_for(own, image)
    tables = image_tables(
        own,
        found.descriptor.digest,
        found.layers,
        verifier=None,
        records=store,
        blocks=blocks,
        folder=state / "lazy",
        progress=progress,
        own_tables_first=True,
    )
    told = recording
    if recording.image != image:
        files = files_like(recording, own, tables, found.layers, records=store)
        told = inherit(recording, image, files).recording
    sizes = [table.tar_size for table in tables.layers]
    asked = asked_for(told, tables.tree, window=window, max_bytes=max_bytes, sizes=sizes)
    if asked.pages < least_found * recording.pages:
        asked.layers.clear()
    layers = tuple(PackLayer(table.digest, table.pieces.table, table.tar_size) for table in tables.layers)
    with (
        engine.opened() as opened,
        scratch_folder(state / "stream") as folder,
        Filler(own, blocks, log=log) as filler,
    ):
        uploads = Uploads(opened, own, progress)
        lent = _lent(own, (image, *earlier), signer)
        cut = _Cutter(uploads, filler, tables, folder, lent).cut(layers, asked)
        opened.cancel_abandoned([own.registry])
        result = _publish(uploads, found, recording, asked, layers, cut, tables, window, signer)
        counts = filler.counts
    read = counts.demand.bytes + counts.background.bytes
    return PackResult(
        image=image,
        pack=result[0],
        changed=result[1],
        inherited=recording.image != image,
        pages=recording.pages,
        pages_found=asked.pages,
        pages_left_out=asked.left_out,
        files_dropped=len(recording.files) - len(told.files) + asked.dropped,
        content_bytes=sum(frame.size for each in cut for frame in each.part.frames),
        stored_bytes=sum(each.part.size for each in cut),
        parts=len(cut),
        parts_reused=sum(each.reused for each in cut),
        frames=sum(len(each.part.frames) for each in cut),
        bytes_sent=sum(each.sent for each in cut) + result[2],
        bytes_read=read,
        seconds=time.monotonic() - started,
    )


def _publish(
    uploads: Uploads,
    image: NodeImage,
    recording: Recording,
    asked: Asked,
    layers: tuple[PackLayer, ...],
    cut: Sequence[_Cut],
    tables: ImageTables,
    window: int,
    signer: Signer,
) -> tuple[Descriptor | None, bool, int]:
    """The pack's manifest, whether it was attached now, and bytes sent beside the frames."""
    if not cut:
        return None, False, 0
    stored, blob = _metadata(tables)
    order = sorted((rank, part, frame) for part, each in enumerate(cut) for frame, rank in each.ranks.items())
    head = Head(
        image.descriptor.digest,
        window,
        layers,
        tuple(each.part for each in cut),
        tuple((part, frame) for _, part, frame in order),
        tables.tree.dump(),
        blob,
    )
    raw = encode_head(head)
    there = find_packs(uploads.target, image.descriptor.digest, verifier_of(signer))
    for each in there.believed[:1]:
        if each.head.digest == Digest.of(raw) and each.note.gpu >= recording.gpu:
            return each.descriptor, False, 0
    note = PackNote(
        image=image.descriptor.digest,
        head=Digest.of(raw),
        recorded=recording.image,
        pages=recording.pages,
        pages_found=asked.pages,
        content_bytes=sum(frame.size for each in cut for frame in each.part.frames),
        stored_bytes=sum(each.part.size for each in cut),
        window=window,
        command=" ".join(recording.command)[:1000].encode("utf-8", "replace").decode(),
        gpu=recording.gpu,
    )
    if blob is not None:
        push_piece(uploads, Piece(metadata_blob(blob), stored))
    frames = list({each.part.digest: frames_blob(each.part.digest, each.part.size) for each in cut}.values())
    blobs = [*frames, *([metadata_blob(blob)] if blob else [])]
    return publish_pack(uploads, image.descriptor, raw, blobs, note, signer), True, len(raw) + len(stored)


def _metadata(tables: ImageTables) -> tuple[bytes, MetadataBlob | None]:
    """The tree as EROFS; nothing where it cannot be."""
    try:
        return pack_metadata(Metadata(tables.tree, [table.tar_size for table in tables.layers]))
    except LayerInvalid:
        return b"", None


@dataclass(frozen=True)
class _Cut:
    """A blob of frames that is at the place."""

    part: Part
    ranks: dict[int, int]
    """Frames that the start needs, and when."""
    reused: bool
    sent: int


Lent = dict[PackLayer, list[Part]]


def _lent(place: Place, images: Sequence[Digest], signer: Signer) -> Lent:
    """Blobs of frames of earlier packs by the same key, by layer."""
    found: Lent = {}
    for image in dict.fromkeys(images):
        try:
            for pack in find_packs(place, image, verifier_of(signer), first=True).believed:
                head = read_head(place, pack)
                for part in head.parts:
                    found.setdefault(head.layers[part.layer], []).append(part)
        except (ContentError, NotFound):  # it lends nothing
            continue
    return found


@dataclass(frozen=True)
class _Cutter:
    """Makes the blobs of one pack."""

    uploads: Uploads
    filler: Filler
    tables: ImageTables
    folder: Path
    lent: Lent

    def cut(self, layers: Sequence[PackLayer], asked: Asked) -> list[_Cut]:
        """A blob for each layer of which something is asked for."""
        with Pool(READERS, "hot-pages") as pool:
            return [
                self._lend(number, layers[number], extents) or self._layer(number, extents, pool)
                for number, extents in sorted(asked.layers.items())
            ]

    def _lend(self, number: int, layer: PackLayer, extents: Sequence[Extent]) -> _Cut | None:
        wanted = sum(extent.stop - extent.start for extent in extents)
        for part in self.lent.get(layer, ()):
            ranks = _ranks(part, extents)
            if ranks is None or self.uploads.find(part.digest, part.size) is None:
                continue
            if sum(frame.size for frame in part.frames) <= wanted * (1 + MOST_WASTE):
                return _Cut(part._replace(layer=number), ranks, reused=True, sent=0)
        return None

    def _layer(self, number: int, extents: Sequence[Extent], pool: Pool) -> _Cut:
        table = self.tables.layers[number]
        lazy = self.filler.open(table.digest, table.pieces)
        path = self.folder / f"frames-{number}"
        groups = list(_grouped(extents))
        hasher, size, frames = hashlib.sha256(), 0, []
        with local_errors(path), path.open("wb") as file:
            for begin in range(0, len(groups), IN_MEMORY):
                for stored, frame in pool.map(partial(_frame, lazy), groups[begin : begin + IN_MEMORY]):
                    hasher.update(stored)
                    file.write(stored)
                    size += len(stored)
                    frames.append(frame)
        part = Part(number, Digest(f"sha256:{hasher.hexdigest()}"), size, tuple(frames))
        _, sent = push_piece(self.uploads, Piece(frames_blob(part.digest, size), path))
        path.unlink()
        ranks = {index: group[0].rank for index, group in enumerate(groups)}
        return _Cut(part, ranks, reused=False, sent=sent)


def _grouped(extents: Sequence[Extent]) -> Iterator[list[Extent]]:
    """Extents for one frame each, in the order of need; what a group begins with is needed first."""
    group: list[Extent] = []
    size = done = 0
    for extent in extents:
        start = extent.start
        while start < extent.stop:
            limit = min(max(done // 4, FIRST_FRAME_BYTES), LAST_FRAME_BYTES)
            end = min(extent.stop, start + limit - size)
            group.append(Extent(start, end, extent.rank))
            size += end - start
            start = end
            if size >= limit:
                yield group
                done += size
                group, size = [], 0
    if group:
        yield group


def _frame(lazy: LazyLayer, group: Sequence[Extent]) -> tuple[bytes, Frame]:
    """A frame as it is stored, and what is told of it."""
    joined: list[tuple[int, int]] = []
    for start, stop, _ in sorted(group):
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    stored, sha256 = pack_frame([lazy.read(start, stop - start) for start, stop in joined], LEVEL)
    return stored, Frame(len(stored), sha256, tuple((start, stop - start) for start, stop in joined))


def _ranks(part: Part, extents: Sequence[Extent]) -> dict[int, int] | None:
    """Which frames of a blob have what is asked for, and when it is needed; None where they lack some of it."""
    rows = sorted(
        (start, start + size, frame) for frame, each in enumerate(part.frames) for start, size in each.extents
    )
    starts = [start for start, _, _ in rows]
    ranks: dict[int, int] = {}
    for extent in extents:
        at, row = extent.start, bisect_right(starts, extent.start) - 1
        while at < extent.stop:
            if not 0 <= row < len(rows) or not rows[row][0] <= at < rows[row][1]:
                return None
            ranks[rows[row][2]] = min(ranks.get(rows[row][2], extent.rank), extent.rank)
            at, row = rows[row][1], row + 1
    return ranks


__all__ = ["PackResult", "make_pack"]
