"""Read one blob as ordered parts, over one connection or several, in bounded memory.

Cloud registries limit each connection (S3 and Google's storage give 20 to 90 MB/s), so one big layer is fetched as
parallel ranges. Parts are handed on in order, because uploads and digests are sequential.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator

from registry_pipelines.errors import ContentError, NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import BUFFER_BYTES, BlobReader, Place
from registry_pipelines.transfer.blob.growth import HUNGER_S, Growth
from registry_pipelines.transfer.blob.memory import PART_BYTES, Part, PartMemory
from registry_pipelines.transfer.flow.patience import Patience

CONNECTIONS = 6
"""Connections for one big blob at most. More would not fit the memory budget beside the parts that are being sent."""


class PartWindow:
    """The parts of a blob from ``start`` on, fetched ahead. Iterate once; then, or on error, :meth:`close`.

    Begins as one streaming GET; connections are added while the receiver is kept waiting, up to ``connections``.
    Failures that may pass are tried again from the byte that is missing; the patience is spent only while no byte
    arrives. group: see PartMemory.take. Raises NotFound, Unavailable, ContentError (longer or shorter than the
    descriptor says).
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
        group: Hashable = None,
    ) -> None:
        self._source, self._descriptor, self._memory, self._group = source, descriptor, memory, group
        self._patience = patience
        self._next_fetch = self._next_hand = start
        self._ready: dict[int, Part] = {}
        self._error: BaseException | None = None
        self._closed = False
        self._order = threading.Lock()
        self._change = threading.Condition()
        self._growth = Growth(connections)
        if connections > 1:
            self._mind_ranges()
        self._fetchers: dict[int, threading.Thread] = {}
        self._reading = 0
        self._add_fetchers()

    def _add_fetchers(self) -> None:
        for number in range(self._growth.wanted):
            if number not in self._fetchers:
                fetcher = threading.Thread(target=self._fetch, args=(number,), name="fetch", daemon=True)
                self._fetchers[number] = fetcher
                fetcher.start()

    def __iter__(self) -> Iterator[Part]:
        while self._next_hand < self._descriptor.size:
            part = self._wait_for_next()
            if part is None:
                assert self._error is not None  # noqa: S101 - nothing else ends the wait
                raise self._error
            self._next_hand = part.stop
            yield part

    def _wait_for_next(self) -> Part | None:
        with self._change:
            while self._next_hand not in self._ready and self._error is None:
                began, fed = time.monotonic(), self._reading == len(self._fetchers)
                self._change.wait(HUNGER_S)
                self._growth.waited(time.monotonic() - began if fed else 0.0, room=self._may_grow())
                self._add_fetchers()
            return self._ready.pop(self._next_hand, None)

    def _may_grow(self) -> bool:
        """Only with memory for it, and never for the last parts: what is left must feed a further connection."""
        left = self._descriptor.size - self._next_fetch
        return left > len(self._fetchers) * PART_BYTES and self._memory.spare_bytes >= PART_BYTES

    def close(self) -> None:
        """Stop fetching and free every part not handed on. Waits for reads under way."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            fetchers = list(self._fetchers.values())
        for fetcher in fetchers:
            fetcher.join()
        for part in self._ready.values():
            part.release()
        self._ready.clear()

    def _fetch(self, number: int) -> None:
        stream = _Stream(self)
        try:
            while number < self._growth.wanted and (part := self._claim()) is not None:
                with self._change:
                    self._reading += 1
                try:
                    self._fill(part, stream)
                except BaseException:
                    part.release()
                    raise
                with self._change:
                    self._reading -= 1
                    self._ready[part.offset] = part
                    self._change.notify_all()
        except BaseException as error:
            with self._change:
                self._error = self._error or error
                self._change.notify_all()
        finally:
            stream.close()
            with self._change:
                self._fetchers.pop(number)

    def _claim(self) -> Part | None:
        """The next range, with memory for it. Taken in order, so the earliest missing part always has its memory."""
        with self._order:
            if self._closed or self._error or self._next_fetch >= self._descriptor.size:
                return None
            offset = self._next_fetch
            size = min(PART_BYTES, self._descriptor.size - offset)
            part = self._memory.take(offset, size, large=self._descriptor.size > PART_BYTES, group=self._group)
            if self._closed:
                part.release()
                return None
            self._next_fetch += size
            return part

    def _fill(self, part: Part, stream: _Stream) -> None:
        filled, patience = 0, self._patience()
        while filled < len(part.view):
            try:
                reader = stream.at(part.offset + filled, part.stop)
                count = reader.readinto(part.view[filled : filled + BUFFER_BYTES])
                if count == 0:
                    raise Unavailable("the blob ended early", where=self._where())
                filled += count
                stream.position += count
                with self._change:
                    self._growth.received(count)
                patience.progress()
                if reader.size is None and part.offset + filled == self._descriptor.size:
                    self._check_end(reader)
            except RegistryPipelinesError as error:
                stream.close()
                if self._closed or not patience.wait(error):
                    raise

    def open(self, start: int, stop: int | None) -> BlobReader:
        """A reader of the range, checked against the descriptor."""
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
        if reader.size not in (self._descriptor.size, None):
            reader.close()
            raise ContentError(
                f"the source has {reader.size} bytes, the manifest says {self._descriptor.size}", where=self._where()
            )
        if start or stop is not None:
            self._mind_ranges()
        return reader

    def _check_end(self, reader: BlobReader) -> None:
        """Of a blob whose length the source did not tell: that it ends where the manifest says."""
        if reader.readinto(memoryview(bytearray(1))):
            raise ContentError(
                f"the source has more than the {self._descriptor.size} bytes the manifest says", where=self._where()
            )

    def _mind_ranges(self) -> None:
        """A source that answers a range with the whole blob sends it from byte 0 for each further connection."""
        if self._source.registry.capabilities(self._source.repository).range_reads is False:
            with self._change:
                self._growth.stay_alone()

    @property
    def alone(self) -> bool:
        """Whether one connection serves the whole blob."""
        return self._growth.wanted == 1

    def _where(self) -> str:
        return f"{self._source}@{self._descriptor.digest}"


class _Stream:
    """One connection: open-ended while it is the only one, a range per part as soon as there are others."""

    def __init__(self, window: PartWindow) -> None:
        self._window = window
        self._reader: BlobReader | None = None
        self._stop: int | None = None
        self.position = 0

    def at(self, position: int, stop: int) -> BlobReader:
        """A reader that goes on at a position; opened anew unless it is there already and has more to give."""
        if self._reader is None or self.position != position or position == self._stop:
            self.close()
            self._stop = None if self._window.alone else stop
            self._reader = self._window.open(position, self._stop)
            self.position = position
        return self._reader

    def close(self) -> None:
        """Free the connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
