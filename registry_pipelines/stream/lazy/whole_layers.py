"""Layers that are fetched whole: held against digest and diffID, recorded, and kept for all images of the node."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from registry_pipelines.errors import ContentError, DiskFull
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.decompress import Decompressor, Source
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place, Readable
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.layer_table import FoundTable, LayerTable, Unread, record_files
from registry_pipelines.stream.lazy.pieces import SpanPieces, WholeLayer
from registry_pipelines.stream.ztoc import record_spans
from registry_pipelines.threads import Pool

FETCHERS = 4
"""Layers that are fetched whole at the same time."""


class WholeLayers:
    """Fetches layers of one image."""

    def __init__(
        self, place: Place, records: LayerStore, blocks: BlockStore, waiting: Path, progress: Progress
    ) -> None:
        """waiting: the folder where a layer lies until it is verified."""
        self._place, self._records, self._blocks = place, records, blocks
        self._waiting, self._progress = waiting, progress

    def fetch(self, found: Iterable[FoundTable | Unread]) -> list[FoundTable]:
        """In their order, with those that have to be fetched.

        Raises LayerInvalid, DigestMismatch: a layer is not what the image says; LocalError, DiskFull; the RegistryError
        family."""
        with Pool(FETCHERS, "lazy-layer") as pool:
            return list(pool.map(lambda each: self._fetched(each) if isinstance(each, Unread) else each, found))

    def known(self, layer: Descriptor, diff_id: Digest, why: str) -> FoundTable | Unread:
        """A layer that cannot be read in parts: from the node where all of it is here."""
        record = self._records.get(diff_id, layer.digest)
        if record is not None:
            with self._blocks.open(layer.digest, record.archive_end) as known:
                if known.complete:
                    return self._whole(layer, record, why)
        return Unread(layer, diff_id, why, by_range=False)

    def _whole(self, layer: Descriptor, record: LayerRecord, why: str) -> FoundTable:
        pieces = WholeLayer(layer, record.archive_end, where=self._at(layer))
        return FoundTable(LayerTable(layer, pieces, why), record_files(record))

    def _fetched(self, unread: Unread) -> FoundTable:
        """Its tar is in the store afterwards, and its record."""
        layer, diff_id, why = unread.layer, unread.diff_id, unread.why
        where, task = self._at(layer), f"fetch {layer.digest.short}"
        self._progress.begin(task, total_bytes=layer.size)
        with local_errors(self._waiting), tempfile.TemporaryFile(dir=self._waiting) as file:
            with BlobStream(self._place, layer) as stream:
                counted = Counted(stream, self._progress, task)
                record = self._records.read(_Copying(counted, file), layer, diff_id, where=where)
            file.seek(0)
            self._keep(layer, record, file)
        self._progress.end(task)
        if unread.by_range:
            with suppress(ContentError):
                pieces = SpanPieces(record_spans(record), table=None, where=where)
                return FoundTable(LayerTable(layer, pieces, why), record_files(record))
        return self._whole(layer, record, why)

    def _keep(self, layer: Descriptor, record: LayerRecord, file: Readable) -> None:
        """Put the tar of a verified layer into the store. What a full disk does not take is fetched when it is read."""
        decompressor = Decompressor(Source(file, None), where=self._at(layer))
        buffer = memoryview(bytearray(BUFFER_BYTES))
        position, end = 0, record.archive_end
        with suppress(DiskFull), self._blocks.open(layer.digest, end) as lazy:
            while position < end and (count := decompressor.readinto(buffer)):
                content = buffer[: min(count, end - position)]
                lazy.put(position, content)
                lazy.mark(position, position + len(content))
                position += len(content)

    def _at(self, layer: Descriptor) -> str:
        return f"{self._place}@{layer.digest}"


class _Copying:
    """What is read goes into a file, too."""

    def __init__(self, stream: Readable, file: IO[bytes]) -> None:
        self._stream, self._file = stream, file

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        count = self._stream.readinto(buffer)
        self._file.write(buffer[:count])
        return count


__all__ = ["FETCHERS", "WholeLayers"]
