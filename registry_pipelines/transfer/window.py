"""Read one blob as ordered parts, over one connection or several, in bounded memory.

Cloud registries limit each connection (S3 and Google's storage give 20 to 90 MB/s), so one big layer is fetched as
parallel ranges. Parts are handed on in order, because uploads and digests are sequential.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from registry_pipelines.errors import ContentError, NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.interface import BUFFER_BYTES, BlobReader, Place
from registry_pipelines.transfer.memory import PART_BYTES, Part, PartMemory
from registry_pipelines.transfer.patience import Patience

PARALLEL_FROM_BYTES = 4 * PART_BYTES
"""Smaller blobs are read over one connection: a second would be done before the window matters."""

CONNECTIONS = 6
"""Connections for one big blob. More would not fit the memory budget beside the parts that are being sent."""


class PartWindow:
    """The parts of a blob from ``start`` on, fetched ahead. Iterate once; then, or on error, :meth:`close`.

    connections: 1 streams a single GET. Failures that may pass are tried again from the byte that is missing; the
    patience is spent only while no byte arrives. Raises NotFound, Unavailable, ContentError (longer or shorter than
    the descriptor says).
    """

    def __init__(
        self,
        source: Place,
        descriptor: Descriptor,
        memory: PartMemory,
        *,
        start: int = 0,
        connections: int = CONNECTIONS,
        patience: Callable[[], Patience] = Patience,
    ) -> None:
        self._source, self._descriptor, self._memory = source, descriptor, memory
        self._patience = patience
        self._next_fetch = self._next_hand = start
        self._ready: dict[int, Part] = {}
        self._error: BaseException | None = None
        self._closed = False
        self._order = threading.Lock()
        self._change = threading.Condition()
        if descriptor.size - start < PARALLEL_FROM_BYTES:
            connections = 1
        self._fetchers = [
            threading.Thread(target=self._fetch, args=(connections == 1,), name="fetch", daemon=True)
            for _ in range(connections)
        ]
        for fetcher in self._fetchers:
            fetcher.start()

    def __iter__(self) -> Iterator[Part]:
        while self._next_hand < self._descriptor.size:
            with self._change:
                self._change.wait_for(lambda: self._next_hand in self._ready or self._error)
                part = self._ready.pop(self._next_hand, None)
            if part is None:
                assert self._error is not None  # noqa: S101 - wait_for returned for this reason
                raise self._error
            self._next_hand = part.stop
            yield part

    def close(self) -> None:
        """Stop fetching and free every part not handed on. Waits for reads under way."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for fetcher in self._fetchers:
            fetcher.join()
        for part in self._ready.values():
            part.release()
        self._ready.clear()

    def _fetch(self, single: bool) -> None:
        reader: BlobReader | None = None
        try:
            while (part := self._claim()) is not None:
                try:
                    reader = self._fill(part, reader, single)
                except BaseException:
                    part.release()
                    raise
                with self._change:
                    self._ready[part.offset] = part
                    self._change.notify_all()
        except BaseException as error:
            with self._change:
                self._error = self._error or error
                self._change.notify_all()
        finally:
            if reader is not None:
                reader.close()

    def _claim(self) -> Part | None:
        """The next range, with memory for it. Taken in order, so the earliest missing part always has its memory."""
        with self._order:
            if self._closed or self._error or self._next_fetch >= self._descriptor.size:
                return None
            offset = self._next_fetch
            size = min(PART_BYTES, self._descriptor.size - offset)
            part = Part(self._memory, offset, self._memory.take(size))
            if self._closed:
                part.release()
                return None
            self._next_fetch += size
            return part

    def _fill(self, part: Part, reader: BlobReader | None, single: bool) -> BlobReader | None:
        filled, patience = 0, self._patience()
        while filled < len(part.view):
            try:
                if reader is None:
                    reader = self._open(part.offset + filled, None if single else part.stop)
                count = reader.readinto(part.view[filled : filled + BUFFER_BYTES])
                if count == 0:
                    raise Unavailable("the blob ended early", where=self._where())
                filled += count
                patience.progress()
            except RegistryPipelinesError as error:
                if reader is not None:
                    reader.close()
                    reader = None
                if self._closed or not patience.wait(error):
                    raise
        if single and part.stop < self._descriptor.size:
            return reader
        if reader is not None:
            reader.close()
        return None

    def _open(self, start: int, stop: int | None) -> BlobReader:
        registry, repository = self._source.registry, self._source.repository
        try:
            reader = registry.open_blob(repository, self._descriptor.digest, start=start, stop=stop)
        except NotFound as error:
            raise NotFound(
                f"blob {self._descriptor.digest} is gone at the source",
                where=str(self._source),
                do="It was deleted while it was copied, or its manifest was pushed without it; push the image again",
                status=error.status,
                code=error.code,
            ) from error
        if reader.size != self._descriptor.size:
            reader.close()
            raise ContentError(
                f"the source has {reader.size} bytes, the manifest says {self._descriptor.size}", where=self._where()
            )
        return self._skip(reader, start)

    def _skip(self, reader: BlobReader, start: int) -> BlobReader:
        """A registry without ranges starts at 0: read up to where we want to be."""
        scratch = memoryview(bytearray(BUFFER_BYTES)) if reader.start < start else None
        at = reader.start
        while scratch is not None and at < start:
            count = reader.readinto(scratch[: start - at])
            if count == 0:
                reader.close()
                raise Unavailable("the blob ended early", where=self._where())
            at += count
        return reader

    def _where(self) -> str:
        return f"{self._source}@{self._descriptor.digest}"
