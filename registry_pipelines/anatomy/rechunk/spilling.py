"""The contents that new layers want, taken out of the old ones: each old layer is read once from front to back, or in
parts where little of it is wanted. Large files are compressed on the way, by all cores; what comes out lies in a file
without a name, so that not even a kill leaves it. Its size is that of the image compressed, at most.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from zlib_ng import zlib_ng

from registry_pipelines.anatomy.rechunk.bytecode import source_hash
from registry_pipelines.anatomy.rechunk.joining import Packed, pack
from registry_pipelines.anatomy.rechunk.planning import LARGE_FILE_BYTES, SEGMENT_BYTES
from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.spans import LayerFiles
from registry_pipelines.stream.ztoc import record_spans
from registry_pipelines.threads import Pool

READ_BYTES = 1 << 20
PART_OF_LAYER = 4
"""A layer is read in parts where less than one byte in so many is wanted of it: a request for each span costs more
than the bytes that are passed over."""

MAX_HELD_BYTES = SEGMENT_BYTES
"""Of small files that wait for a large one before them to be compressed: else each would stop the reading so long."""

MAX_SOURCE_BYTES = 16 << 20
"""Of a Python source that is hashed; a module of a longer one gets no hash."""


@dataclass(slots=True)
class Wanted:
    """What is wanted of one file of an old layer."""

    size: int
    kept: bool = False
    """Its content goes into a new layer."""
    whole: bool = False
    """Not compressed by itself, whatever its size: its head is changed first."""
    magics: frozenset[bytes] = frozenset()
    """It is a source, and modules with these magic numbers want its hash."""


class Spilled(NamedTuple):
    """Where a file lies. size, crc: of what it unpacks to."""

    offset: int
    stored: int
    size: int
    crc: int
    packed: bool


class Spill:
    """Contents by layer and position, and hashes of sources. A context manager; read by many threads."""

    def __init__(self, folder: Path, workers: int) -> None:
        """folder: where the file is made. Raises DiskFull, LocalError."""
        self._folder, self._workers = folder, workers
        self._files: dict[int, dict[int, Spilled | int]] = {}
        self._pending = bytearray()
        self._hashes: dict[tuple[int, int, bytes], bytes] = {}
        self._end = 0
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a buffer would hide the error of a full disk until it is closed.
            self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115 - closed below

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find(self, layer: int, position: int, size: int) -> Spilled:
        """Where a file of ``size`` bytes lies that was taken."""
        found = self._files[layer][position]
        return Spilled(found, size, size, 0, packed=False) if isinstance(found, int) else found

    def hashed(self, layer: int, position: int, magic: bytes) -> bytes:
        """The hash of a source; empty where it is too long."""
        return self._hashes.get((layer, position, magic), b"")

    def read(self, spilled: Spilled) -> Iterator[bytes]:
        """What is stored of a file. Raises LocalError."""
        offset, end = spilled.offset, spilled.offset + spilled.stored
        while offset < end:
            with local_errors(self._folder):
                piece = os.pread(self._file.fileno(), min(READ_BYTES, end - offset), offset)
            if not piece:
                raise LayerInvalid("the file with what old layers held is cut off", where=str(self._folder))
            yield piece
            offset += len(piece)

    def take_layer(
        self,
        number: int,
        place: Place,
        layer: Descriptor,
        diff_id: Digest,
        record: LayerRecord,
        wanted: Mapping[int, Wanted],
        progress: Progress,
    ) -> None:
        """Take what is wanted of a layer, by position in its tar.

        Raises LayerInvalid, IndexInvalid, DigestMismatch: it is damaged; RegistryError; DiskFull, LocalError.
        """
        task = f"read {layer.digest.short}"
        with Pool(self._workers, "compress") as pool:
            taking = _Taking(self, number, pool)
            if _reads_in_parts(record, wanted):
                files = LayerFiles(
                    record_spans(record), blob_ranges(place, layer.digest), where=f"{place}@{layer.digest}"
                )
                progress.begin(task, total_bytes=sum(each.size for each in wanted.values()))
                for position, each in sorted(wanted.items()):
                    taking.file(position, each, files.pieces(position, each.size))
                    progress.advance(task, each.size)
            else:
                progress.begin(task, total_bytes=layer.size)
                with BlobStream(place, layer) as stream, Pool(1, "hash") as beside:
                    walk = open_layer(
                        Counted(stream, progress, task),
                        layer.media_type,
                        where=f"{place}@{layer.digest}",
                        expected=layer,
                        diff_id=diff_id,
                        beside=beside,
                        any_names=True,
                    )
                    for entry in walk:
                        if entry.kind == "file" and entry.size and (found := wanted.get(entry.position)):
                            taking.file(entry.position, found, entry.pieces())
                    walk.finish()
            taking.finish()
        progress.end(task)

    def append(self, data: bytes | bytearray) -> int:
        """Write behind what is there; where it begins."""
        start = self._end
        self._end += len(data)
        self._pending += data
        if len(self._pending) >= READ_BYTES:
            self.flush()
        return start

    def flush(self) -> None:
        """Write what waits: small files come by the thousand. Raises DiskFull, LocalError."""
        written = 0
        with local_errors(self._folder):
            while written < len(self._pending):
                written += self._file.write(bytes(self._pending[written : written + READ_BYTES]))
        self._pending.clear()

    def keep(self, layer: int, position: int, spilled: Spilled | int) -> None:
        """A file is there; as a number, where it begins as it is."""
        self._files.setdefault(layer, {})[position] = spilled

    def keep_hash(self, layer: int, position: int, magic: bytes, hashed: bytes) -> None:
        """A source is hashed."""
        self._hashes[layer, position, magic] = hashed


class _Taking:
    """Takes files of one layer into the spill, in order; segments of them are compressed by a pool."""

    def __init__(self, spill: Spill, number: int, pool: Pool) -> None:
        self._spill, self._number, self._pool = spill, number, pool
        self._waiting: deque[tuple[int, bool, Future[Packed] | bytes]] = deque()
        """Segments that are compressed, and small files as they are; what is written of a large file lies together."""
        self._packing = self._held = 0
        self._most = 2 * spill._workers
        self._begun: Spilled | None = None

    def file(self, position: int, wanted: Wanted, pieces: Iterator[memoryview] | Iterator[bytes]) -> None:
        """Take a file."""
        hashes = bool(wanted.magics) and wanted.size <= MAX_SOURCE_BYTES
        if hashes or wanted.whole or wanted.size < LARGE_FILE_BYTES:
            content = b"".join(pieces)
            for magic in wanted.magics if hashes else ():
                self._spill.keep_hash(self._number, position, magic, source_hash(magic, content))
            if wanted.kept and (wanted.whole or wanted.size < LARGE_FILE_BYTES):
                self._waiting.append((position, True, content))
                self._held += len(content)
                self._settle(self._most)
                return
            pieces = iter((content,))
        if wanted.kept:
            self._pack(position, pieces)
        else:
            for _ in pieces:
                pass

    def _pack(self, position: int, pieces: Iterator[memoryview] | Iterator[bytes]) -> None:
        segment, before = bytearray(), b""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                part = view[: SEGMENT_BYTES - len(segment)]
                segment += part
                view = view[len(part) :]
                if len(segment) == SEGMENT_BYTES:
                    self._submit(position, segment, before, last=False)
                    segment, before = bytearray(), bytes(segment[-(32 << 10) :])
        self._submit(position, segment, before, last=True)

    def _submit(self, position: int, segment: bytearray, before: bytes, *, last: bool) -> None:
        self._settle(self._most - 1)
        self._waiting.append((position, last, self._pool.submit(pack, segment, before)))
        self._packing += 1

    def _settle(self, most: int) -> None:
        """Write what was compressed and what waits for it, until so many segments are under way."""
        while self._waiting:
            position, last, what = self._waiting[0]
            if isinstance(what, bytes):
                self._held -= len(what)
                self._spill.keep(self._number, position, self._spill.append(what))
                self._waiting.popleft()
                continue
            if self._packing <= most and self._held <= MAX_HELD_BYTES:
                break
            packed = what.result()
            self._waiting.popleft()
            self._packing -= 1
            start = self._spill.append(packed.data)
            begun = self._begun or Spilled(start, 0, 0, 0, packed=True)
            self._begun = begun._replace(
                stored=begun.stored + len(packed.data),
                size=begun.size + packed.size,
                crc=zlib_ng.crc32_combine(begun.crc, packed.crc, packed.size),
            )
            if last:
                self._spill.keep(self._number, position, self._begun)
                self._begun = None

    def finish(self) -> None:
        """Until all is written."""
        self._settle(0)
        self._spill.flush()


def _reads_in_parts(record: LayerRecord, wanted: Mapping[int, Wanted]) -> bool:
    """Whether asking for parts moves less than reading all of it."""
    size = sum(each.size for each in wanted.values())
    return bool(record.span_digests) and not record.padding_bytes and PART_OF_LAYER * size < record.tar_size


__all__ = ["Spill", "Spilled", "Wanted"]
