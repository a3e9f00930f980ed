"""An image's SOCI index: which of its layers get a table, the tables, and the document that names them.

Each layer is read once, from the registry as a stream, unless the store has what an earlier reading found. Nothing is
pushed here.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.errors import IndexInvalid, LayerInvalid, ManifestInvalid
from registry_pipelines.oci.behind import in_turns
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.left_out import ZSTD, Skipped, passed_over
from registry_pipelines.stream.model import DEFAULT_MIN_LAYER_SIZE, DEFAULT_SPAN_SIZE
from registry_pipelines.stream.mountable import clean_path, mountable_files, ztoc_files
from registry_pipelines.stream.soci_index import CONFIG, ZTOC_TYPE, prefetch_list, soci_index, table_line
from registry_pipelines.stream.ztoc import Spans, record_spans, write_ztoc
from registry_pipelines.threads import Pool

WORKERS = 4
"""Layers read at once, at most one a core: inflating and hashing release the interpreter lock."""

MAX_LINKS = 4
"""Hard links to hard links that are followed."""


@dataclass(frozen=True)
class Piece:
    """A blob that belongs to the index and has to be pushed before it."""

    descriptor: Descriptor
    """As the index names it."""
    content: bytes | Path
    """Ztocs lie in files of the folder that was given; lists of spans, and the config, are bytes."""
    spans: int = 0
    """Of a ztoc: in how many pieces a node can fetch the layer."""


@dataclass(frozen=True)
class SociIndex:
    """What was made of an image; nothing is pushed yet."""

    document: ManifestBytes | None
    """The index manifest; None when no layer is left to be indexed."""
    pieces: tuple[Piece, ...]
    """Its config, then what its layers name; each digest once."""
    skipped: tuple[Skipped, ...]
    """Layers that it leaves out."""
    not_found: tuple[str, ...] = ()
    """Paths that were to be fetched first and are in no layer that is indexed."""


def index_layers(
    place: Place,
    manifest: Manifest,
    diff_ids: Sequence[Digest],
    *,
    store: LayerStore,
    folder: Path,
    subject: Descriptor | None = None,
    span_bytes: int = DEFAULT_SPAN_SIZE,
    min_layer_bytes: int = DEFAULT_MIN_LAYER_SIZE,
    prefetch: Sequence[str] = (),
    progress: Progress | None = None,
) -> SociIndex:
    """Make the SOCI index of one platform's image.

    manifest, diff_ids: of the image, and of its config. store: what is known of layers, read or written. folder: gets
    a file for each ztoc. subject: the manifest, for an index of version 1; without it the index is of version 2.
    min_layer_bytes: compressed bytes below which a layer gets no table. prefetch: paths of files that a node fetches
    before they are asked for; of a hard link, the file it names.

    A layer that no ztoc can be made of is left out and named. Raises ManifestInvalid: layers and diff_ids do not
    match; LayerInvalid, DigestMismatch: a layer is damaged; the RegistryError family, DiskFull, LocalError.
    """
    if len(diff_ids) != len(manifest.layers):
        raise ManifestInvalid(
            f"the manifest has {count_text(len(manifest.layers), 'layer')}, "
            f"its config {count_text(len(diff_ids), 'diff_id')}",
            where=str(place),
        )
    maker = _Maker(place, store, folder, int(span_bytes), progress or Silent())
    layers = {layer.digest: (layer, diff_id) for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)}
    found: dict[Digest, _Table | Skipped] = {}
    for layer, _ in layers.values():
        if skipped := passed_over(layer, min_layer_bytes):
            found[layer.digest] = skipped
    left = in_turns(store.folder, [pair for digest, pair in layers.items() if digest not in found])
    with Pool(min(WORKERS, os.cpu_count() or 1), "soci-layer") as pool:
        found |= {layer.digest: each for (layer, _), each in zip(left, pool.map(maker.table, left), strict=True)}
    return _gathered(manifest, found, tuple(prefetch), subject)


@dataclass(frozen=True)
class _Table:
    """A layer that has a ztoc."""

    piece: Piece
    record: LayerRecord
    spans: Spans


@dataclass(frozen=True)
class _Maker:
    """Makes the tables of one image's layers, each in a thread."""

    place: Place
    store: LayerStore
    folder: Path
    span_bytes: int
    progress: Progress

    def table(self, pair: tuple[Descriptor, Digest]) -> _Table | Skipped:
        layer, diff_id = pair
        record = self._record(layer, diff_id)
        if record.compression == "zstd":
            return Skipped(layer, "zstd", ZSTD)
        target = self.folder / f"{layer.digest.hex}-{self.span_bytes}.ztoc"
        try:
            spans = record_spans(record)
            digest, size = write_ztoc(target, mountable_files(record), spans)
        except (LayerInvalid, IndexInvalid) as error:
            target.unlink(missing_ok=True)
            return Skipped(layer, "refused", error.what)
        line = table_line(Descriptor(media_type=ZTOC_TYPE, digest=digest, size=size), layer, span_bytes=self.span_bytes)
        return _Table(Piece(line, target, len(spans.points)), record, spans)

    def _record(self, layer: Descriptor, diff_id: Digest) -> LayerRecord:
        if known := self._known(layer, diff_id):
            return known
        with self.store.turn(diff_id, layer.digest):
            return self._known(layer, diff_id) or self._read(layer, diff_id)

    def _known(self, layer: Descriptor, diff_id: Digest) -> LayerRecord | None:
        record = self.store.get(diff_id, layer.digest, span_bytes=self.span_bytes)
        if record is not None:
            self.progress.end(f"index {layer.digest.short}", note="known")
        return record

    def _read(self, layer: Descriptor, diff_id: Digest) -> LayerRecord:
        task = f"index {layer.digest.short}"
        self.progress.begin(task, total_bytes=layer.size)
        with BlobStream(self.place, layer) as reader:
            stream, where = Counted(reader, self.progress, task), f"{self.place}@{layer.digest}"
            record = self.store.read(stream, layer, diff_id, where=where, span_bytes=self.span_bytes)
        self.progress.end(task)
        return record


def _gathered(
    manifest: Manifest, found: dict[Digest, _Table | Skipped], prefetch: tuple[str, ...], subject: Descriptor | None
) -> SociIndex:
    skipped = tuple(each for each in found.values() if isinstance(each, Skipped))
    tables = [(layer, each) for layer in manifest.layers if isinstance(each := found[layer.digest], _Table)]
    if not tables:
        return SociIndex(None, (), skipped, prefetch)
    lists, not_found = _prefetch_lists(tables, prefetch)
    lines = [each.piece.descriptor for _, each in tables]
    document = soci_index(lines, [each.descriptor for each in lists], subject=subject)
    config = Piece(document.content().config, CONFIG)  # type: ignore[union-attr]
    pieces = (config, *(each.piece for _, each in tables), *lists)
    return SociIndex(document, tuple({each.descriptor.digest: each for each in pieces}.values()), skipped, not_found)


def _prefetch_lists(
    tables: Sequence[tuple[Descriptor, _Table]], paths: tuple[str, ...]
) -> tuple[list[Piece], tuple[str, ...]]:
    """For each layer the spans of files that are wanted first, in the order of the layers; and paths of no layer. A
    file counts where the topmost layer has it."""
    left = {clean_path(path.encode()): path for path in paths}
    runs: dict[Digest, list[tuple[int, int]]] = {}
    for layer, table in reversed(tables if left else ()):
        positions = [point.position for point in table.spans.points]
        for name, (start, size) in find_files(table.record, left).items():
            del left[name]
            run = bisect_right(positions, start) - 1, bisect_right(positions, start + size) - 1
            runs.setdefault(layer.digest, []).append(run)
    lists = [Piece(line, raw) for digest in runs for raw, line in (prefetch_list(runs[digest], digest),)]
    return lists[::-1], tuple(left.values())


def find_files(record: LayerRecord, names: Container[bytes]) -> dict[bytes, tuple[int, int]]:
    """Where the payload of files begins, and how many bytes it has, by cleaned name; of a hard link that of its
    target, of a name that is there twice the last one's. Names that the layer has not as files are left out."""
    found, links = _files_and_links(record, names)
    for _ in range(MAX_LINKS):
        if not links:
            break
        targets, further = _files_and_links(record, set(links.values()))
        found |= {name: targets[target] for name, target in links.items() if target in targets}
        links = {name: further[target] for name, target in links.items() if target in further}
    return found


def _files_and_links(
    record: LayerRecord, names: Container[bytes]
) -> tuple[dict[bytes, tuple[int, int]], dict[bytes, bytes]]:
    files: dict[bytes, tuple[int, int]] = {}
    links: dict[bytes, bytes] = {}
    for each in ztoc_files(record):
        name = clean_path(each.name)
        if name in names:
            files.pop(name, None)
            links.pop(name, None)
            if each.kind == b"reg":
                files[name] = each.position, each.size
            elif each.kind == b"hardlink":
                links[name] = clean_path(each.link)
    return files, links


__all__ = ["Piece", "SociIndex", "find_files", "index_layers"]
