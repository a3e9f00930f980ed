"""Layers that this machine has whole from a mount: files are taken from there, each held against the sha256 that was
found when the layer was read and verified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.layer_table import record_files
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.pull.entries import EntryWriter
from registry_pipelines.stream.pull.unpacking import ENTRIES, FILES, Wanted, content_name
from registry_pipelines.stream.toc import FileMetadata


class StoredLayers:
    """What this machine keeps of layers; for many threads."""

    def __init__(self, records: LayerStore, blocks: BlockStore) -> None:
        self._records, self._blocks = records, blocks

    def files(self, layers: Sequence[tuple[Descriptor, Digest]]) -> list[Iterator[FileMetadata]] | None:
        """The entries of all layers; None where one was never read here."""
        found = [self._records.get(diff_id, layer.digest) for layer, diff_id in layers]
        records = [each for each in found if each]
        return [record_files(each) for each in records] if len(records) == len(found) else None

    def copy(
        self,
        layer: Descriptor,
        diff_id: Digest,
        folder: Path,
        *,
        wanted: Wanted,
        written: Callable[[int], object],
    ) -> bool:
        """Put a layer's files into its folder as ``unpack_layer`` does; False: it is not here whole, or not as it
        was read; the folder may have some of it then. Raises DiskFull, LocalError; what ``written`` raises."""
        record = self._records.get(diff_id, layer.digest)
        if record is None:
            return False
        with self._blocks.open(layer.digest, record.archive_end) as lazy:
            return lazy.complete and _copied(lazy, record, folder, wanted, written)


def _copied(
    lazy: LazyLayer, record: LayerRecord, folder: Path, wanted: Wanted, written: Callable[[int], object]
) -> bool:
    """Whether all of it was right."""
    files = folder / FILES
    with local_errors(folder):
        files.mkdir(mode=0o700)
    writer = EntryWriter(folder / ENTRIES)
    try:
        for raw, entry in zip(record.entries(), record_files(record), strict=True):
            writer.add(entry)
            if not entry.size or not wanted(entry.position):
                continue
            content = lazy.view(entry.position, entry.size)
            if hashlib.sha256(content).digest() != raw.sha256:
                return False
            with local_errors(files):
                (files / content_name(entry.position)).write_bytes(content)
            written(entry.size)
        writer.finish()
    finally:
        writer.close()
    return True


__all__ = ["StoredLayers"]
