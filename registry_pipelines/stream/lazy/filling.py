"""Fetches what readers of lazy layers wait for, and the rest in the background.

One filler has the layers of one mounted image. A reader's wait ends: with its bytes, or with an error when the registry
gives none for as long as ``patience_s``.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.errors import (
    ContentError,
    DiskFull,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.tar import BLOCK_BYTES
from registry_pipelines.progress import size_text
from registry_pipelines.registry.protocol import Place, Readable, Repeating
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.jobs import NOTHING, Ahead, Fetched, Filled, Job, Parts, Runs, assembled
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.transfer.flow.patience import Patience

if TYPE_CHECKING:
    from registry_pipelines.stream.lazy.pieces import Pieces

WORKERS = 4
"""Requests at once. One of them is kept for readers."""
PATIENCE_S = 60.0
"""How long a reader waits for a registry that gives nothing."""
JOINED_BYTES = 16 << 20
"""Neighbouring pieces that are wanted come in one request, up to so many bytes."""
UNKEPT_BYTES = 32 << 20
"""Of what the disk could not keep, in memory: neighbouring reads want it, too. A larger piece cannot be served then."""
SYNC_EVERY_S = 30.0
"""What came since is fetched again after a crash of the machine."""
MEASURE_EVERY_BYTES = 256 << 20
"""Of blobs: so much may come before the store looks at its limit."""
REST_S = 30.0
"""How long the background leaves a registry alone that gave nothing, and a disk that is full."""
LOOK_EVERY_S = 5.0
"""How often the background looks whether it may go on: after a rest, or where another process filled a layer."""
CLOSE_S = 5.0
"""How long threads that read from a registry are waited for at the end."""


class FillCounts(msgspec.Struct):
    """What a filler did. demand: for readers that wait."""

    demand: Fetched = msgspec.field(default_factory=Fetched)
    background: Fetched = msgspec.field(default_factory=Fetched)
    pack: Fetched = msgspec.field(default_factory=Fetched)
    """Frames of a hot pack."""
    stalls: int = 0
    """Reads that had to wait for the registry."""
    stall_s: float = 0.0
    """Seconds that they waited, all together."""
    failures: int = 0
    """Reads that ended with an error."""
    waiting: int = 0
    """Reads that wait now."""


class Filler:
    """See the module. Close it: its threads end, and what came is synced. Make it behind any fork."""

    def __init__(
        self,
        place: Place,
        store: BlockStore,
        *,
        log: Callable[[str], object],
        workers: int = WORKERS,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """log: is told in one line what a person must know: a registry that gives nothing, wrong bytes, a full disk."""
        registry = place.registry
        if isinstance(registry, Repeating):  # one that hangs costs a minute, not five
            registry = registry.leaving_stalls()
        self.place = Place(registry, place.repository)
        self.counts = FillCounts()
        self._store, self._log, self._patience_s = store, log, patience_s
        self._layers: list[Filled] = []
        self._demand: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._demand_running = self._background_running = 0
        self._background, self._most_in_background = False, max(1, workers - 1)
        self._unkept: OrderedDict[tuple[Filled, int], Job] = OrderedDict()
        self._told_full, self._rest_until = False, 0.0
        """The background rests until then, in monotonic seconds."""
        self._synced_at, self._measured_at, self._syncing = time.monotonic(), 0, threading.Lock()
        self._workers, self._threads = workers, list[threading.Thread]()

    def __enter__(self) -> Filler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, digest: Digest, pieces: Pieces, *, table: Digest | None = None) -> LazyLayer:
        """A layer that fetches what is read of it; it is closed with the filler. digest: of its blob. table: see
        :meth:`BlockStore.open`; that of the pieces unless told.

        Raises what :meth:`BlockStore.open` does.
        """
        lazy = self._store.open(digest, pieces.tar_size, table=table or pieces.table)
        return self._add(Filled(digest, pieces, lazy))

    def open_late(self, digest: Digest, size: int, find: Callable[[], Pieces], *, table: Digest) -> LazyLayer:
        """The same, where what comes ahead (:meth:`expect`) has what is read first: how the layer is read is found when
        something else of it is. size: of what the pieces make. find: see :meth:`Filled.find`."""
        return self._add(Filled(digest, find, self._store.open(digest, size, table=table)))

    def expect(self, layer: int, ahead: Ahead) -> None:
        """Bytes of a layer, by its number as it was opened, are on their way; readers wait for those."""
        self._layers[layer].ahead = ahead

    def _add(self, layer: Filled) -> LazyLayer:
        lazy = layer.lazy
        lazy.fill = partial(self._have, layer)
        with self._changed:
            self._layers.append(layer)
            while len(self._threads) < self._workers:  # not before: a pull waits to hear that nothing can be served
                name = f"filler_{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
                self._threads[-1].start()
        return lazy

    def start_background(self, after: Callable[[], object] | None = None) -> None:
        """Fetch from now on what nobody waits for, too, as long as nobody waits. after: is waited for first."""
        if after is not None or not all(layer.is_found for layer in self._layers):
            threading.Thread(target=self._begin_later, args=(after,), name="filler_late", daemon=True).start()
            return
        with self._changed:
            self._background = True
            self._changed.notify_all()

    def _begin_later(self, after: Callable[[], object] | None) -> None:
        if after is not None:
            after()
        for layer in list(self._layers):
            patience = Patience(self._patience_s, sleep=self._sleep)
            while not self._closed.is_set() and not layer.is_found:
                try:
                    layer.find()
                except RegistryPipelinesError as error:
                    if not patience.wait(error):
                        self._log(f"what is not read of a layer is not fetched: {error}")
                        break
        with self._changed:
            self._background = True
            self._changed.notify_all()

    def has_room(self, size: int) -> bool:
        """Whether the store keeps its limit, and the disk has twice as much as that."""
        self._store.make_room()
        return not self._store.is_full and self._store.free_bytes() > 2 * size

    @property
    def filled_bytes(self) -> int:
        """Of the tars of all layers, those that are on this node."""
        return sum(layer.lazy.filled_bytes for layer in list(self._layers))

    @property
    def total_bytes(self) -> int:
        """Of the tars of all layers."""
        return sum(layer.lazy.size for layer in list(self._layers))

    def close(self) -> None:
        """End the threads; who waits gets an error. Safe to call twice."""
        with self._changed:
            self._closed.set()
            waiting = [job for layer in self._layers for job in list(layer.jobs.values())]
            for job in waiting:
                if not job.runner:
                    job.end(self._unavailable(job.layer, "the mount ends"))
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return  # it may still write; the end of the process closes the files
        for layer in self._layers:
            layer.lazy.close()

    def _have(self, layer: Filled, start: int, stop: int) -> memoryview | None:
        """See ``blocks.Fill``."""
        began = time.monotonic()
        with self._changed:
            self.counts.waiting += 1
        try:
            jobs = self._jobs(layer, start, stop)
            for job in jobs:
                self._wait_for(job)
                if job.error:
                    raise copy.copy(job.error) from job.error
            return None if layer.lazy.holds(start, stop) else assembled(layer, jobs, start, stop)
        except RegistryPipelinesError:
            with self._changed:
                self.counts.failures += 1
            raise
        finally:
            with self._changed:
                self.counts.stalls += 1
                self.counts.waiting -= 1
                self.counts.stall_s += time.monotonic() - began

    def _jobs(self, layer: Filled, start: int, stop: int) -> list[Job]:
        """For all that is missing and does not come ahead; what does has come, or failed."""
        if layer.ahead is None:
            layer.find()
            return self._ask(layer, start, stop)
        coming, gaps = layer.ahead.wanted(start, stop)
        jobs: list[Job] = []
        for gap in gaps:
            if not layer.lazy.holds(*gap):
                layer.find()
                jobs += self._ask(layer, *gap)
        if coming:
            layer.ahead.wait(coming, self._patience_s)
        if not layer.lazy.holds(start, stop) and (coming or not jobs):
            layer.find()
            jobs += (job for job in self._ask(layer, start, stop) if job not in jobs)
        return jobs

    def _wait_for(self, job: Job) -> None:
        """Until it is done, or no byte of it came for too long."""
        left_s = self._patience_s
        while not job.done.wait(left_s):
            moved_at = job.parts.moved_at if job.parts else 0.0
            left_s = moved_at + self._patience_s - time.monotonic()
            if left_s <= 0:
                error = self._unavailable(job.layer, f"the registry gave nothing for {self._patience_s:g} s")
                self._log(f"a layer cannot be read: {error}")
                raise error

    def _ask(self, layer: Filled, start: int, stop: int) -> list[Job]:
        """Jobs for all pieces that have what is missing."""
        jobs = []
        with self._changed:
            for piece in layer.pieces.between(start, stop):
                if layer.lazy.holds(*layer.clipped(piece, start, stop)):
                    continue
                job = self._unkept.get((layer, piece)) or layer.jobs.get(piece)
                if job is None:
                    if self._closed.is_set():
                        raise self._unavailable(layer, "the mount ends")
                    job = layer.jobs[piece] = Job(layer, piece)
                if not job.demanded and not job.runner and not job.done.is_set():
                    self._demand.append(job)
                job.demanded = True
                jobs.append(job)
            self._changed.notify_all()
        return jobs

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            jobs, demand = taken
            if jobs:
                self._fetch(deque(jobs), demand=demand)
                with self._changed:
                    if demand:
                        self._demand_running -= 1
                    else:
                        self._background_running -= 1
                    self._changed.notify_all()
            self._look_after()

    def _take(self) -> tuple[list[Job], bool] | None:
        """Pieces for one request, and whether a reader waits for them; waits for some. No pieces now and
        then, to look after the store; None at the end."""
        with self._changed:
            while not self._closed.is_set():
                if self._is_asked():
                    self._demand_running += 1
                    return self._joined(self._demand.popleft()), True
                if self._may_fill() and (jobs := self._next_in_background()):
                    self._background_running += 1
                    return jobs, False
                if not self._changed.wait(LOOK_EVERY_S if self._background else SYNC_EVERY_S):
                    return [], False
        return None

    def _is_asked(self) -> bool:
        """Whether a reader waits for something that nobody fetches yet."""
        while self._demand and (self._demand[0].runner or self._demand[0].done.is_set()):
            self._demand.popleft()
        return bool(self._demand)

    def _joined(self, first: Job) -> list[Job]:
        """The neighbours that somebody waits for, too."""
        jobs, pieces = [first], first.layer.pieces
        start = pieces.stored(first.piece)[0]
        while (job := first.layer.jobs.get(jobs[-1].piece + 1)) and job.demanded and not job.runner:
            if pieces.stored(job.piece)[1] - start > JOINED_BYTES:
                break
            jobs.append(job)
        for job in jobs:
            job.runner = threading.get_ident()
        return jobs

    def _may_fill(self) -> bool:
        return (
            self._background
            and not self._demand_running
            and self._background_running < self._most_in_background
            and not self._rests()
        )

    def _rests(self) -> bool:
        return time.monotonic() < self._rest_until

    def _next_in_background(self) -> list[Job]:
        """A run of pieces that nobody asked for yet."""
        for layer in self._layers:
            jobs: list[Job] = []
            if not layer.lazy.fill_alone():
                continue
            while (piece := layer.next_missing()) is not None:
                start = layer.pieces.stored(jobs[0].piece if jobs else piece)[0]
                follows = not jobs or piece == jobs[-1].piece + 1
                if not follows or (jobs and layer.pieces.stored(piece)[1] - start > JOINED_BYTES):
                    layer.again.appendleft(piece)
                    break
                layer.jobs[piece] = job = Job(layer, piece)
                jobs.append(job)
            if jobs:
                return jobs
        return []

    def _fetch(self, jobs: deque[Job], *, demand: bool) -> None:
        """Fetch pieces that follow each other; each job ends, or is left for later."""
        patience = Patience(self._patience_s, sleep=self._sleep)
        while jobs:
            try:
                self._request(jobs, patience, demand=demand)
            except ContentError as error:
                self._failed(jobs.popleft(), error=error)
            except RegistryPipelinesError as error:
                if not self._closed.is_set() and patience.wait(error):
                    continue
                self._give_up(jobs, error)
            except Exception as error:  # readers would wait for a thread that is gone
                self._give_up(jobs, RegistryPipelinesError(f"unexpected: {error!r}", where=str(jobs[0].layer.digest)))

    def _sleep(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def _request(self, jobs: deque[Job], patience: Patience, *, demand: bool) -> None:
        """One request; the pieces that came are taken from the jobs."""
        layer, count = jobs[0].layer, self.counts.demand if demand else self.counts.background
        start, stop = layer.pieces.stored(jobs[0].piece)[0], layer.pieces.stored(jobs[-1].piece)[1]
        with self._changed:
            count.requests += stop > start
        with self._opened(layer, start, stop) as reader:
            parts = Parts(reader, start)
            while jobs:
                job = jobs[0]
                with self._changed:
                    others = job.runner not in (0, threading.get_ident())
                    if not demand and (others or job.done.is_set() or self._is_asked() or self._rests()):
                        self._leave(jobs)
                        return
                    job.runner = threading.get_ident()
                job.parts = parts
                try:
                    parts.begin(*layer.pieces.stored(job.piece))
                    with local_errors(layer.lazy.folder):
                        self._keep(job, parts)
                finally:
                    with self._changed:
                        count.bytes += parts.taken()
                patience.progress()
                with self._changed:
                    jobs.popleft().end()

    @contextmanager
    def _opened(self, layer: Filled, start: int, stop: int) -> Iterator[Readable]:
        if start == stop:
            yield NOTHING
        elif layer.pieces.by_range:
            with blob_ranges(self.place, layer.digest)(start, stop) as reader:
                yield reader
        else:
            with self.place.registry.open_blob(self.place.repository, layer.digest) as reader:
                yield reader

    def _leave(self, jobs: deque[Job]) -> None:
        """What was to come in the background comes later, or by whom readers asked for it meanwhile."""
        for job in jobs:
            if job.runner == threading.get_ident() and not job.done.is_set():
                job.runner = 0
                if job.demanded:
                    self._demand.append(job)
            if not job.demanded:
                job.layer.again.append(job.piece)
                job.end()
        jobs.clear()

    def _give_up(self, jobs: deque[Job], error: RegistryPipelinesError) -> None:
        """Whoever waits for what this thread fetches gets the error; the background comes back to the rest."""
        mine = [job for job in jobs if job.demanded and job.runner == threading.get_ident()]
        self._failed(*mine, error=error)
        with self._changed:
            self._leave(jobs)
            self._rest_until = time.monotonic() + REST_S

    def _failed(self, *jobs: Job, error: RegistryPipelinesError) -> None:
        if not self._closed.is_set():  # first: who gets the error may look there for more of it
            self._log(f"a layer cannot be read: {error}")
        with self._changed:
            for job in jobs:
                job.end(error)

    def _keep(self, job: Job, reader: Readable) -> None:
        """Write the content of a piece, and tell of it; what the disk cannot keep stays in the job."""
        lazy, written, full = job.layer.lazy, Runs(), None
        for position, content in job.layer.pieces.content(job.piece, reader, lazy.folder):
            if full is None and (full := self._kept(partial(lazy.put, position, content), len(content))) is None:
                written.add(position, position + len(content))
                continue
            job.unkept.append((position, content))
            if sum(len(each) for _, each in job.unkept) > UNKEPT_BYTES:
                raise full
        for run in written.runs:
            full = full or self._kept(partial(lazy.mark, *run), BLOCK_BYTES)
        if full is not None:
            job.unkept += [(start, bytes(lazy.raw(start, stop))) for start, stop in written.runs]
            self._hold(job, full)

    def _kept(self, write: Callable[[], object], size: int) -> DiskFull | None:
        """Write; where the disk is full, layers that nobody has open make room. What happened where there was none."""
        while True:
            try:
                write()
            except DiskFull as error:
                if not self._store.make_room(size):
                    return error
            else:
                return None

    def _hold(self, job: Job, full: DiskFull) -> None:
        """Have what the disk could not keep in memory for a while."""
        with self._changed:
            first, self._told_full = not self._told_full, True
            self._rest_until = time.monotonic() + REST_S
            if not job.demanded:
                job.layer.again.append(job.piece)
            self._unkept[job.layer, job.piece] = job
            while sum(len(part) for each in self._unkept.values() for _, part in each.unkept) > UNKEPT_BYTES:
                self._unkept.popitem(last=False)
        if first:
            self._log(f"what is read is not kept, and is fetched again when it is read again: {full}")

    def _look_after(self) -> None:
        """Now and then: what came survives a crash, and the store keeps its limit."""
        if not self._syncing.acquire(blocking=False):
            return
        try:
            fetched = self.counts.demand.bytes + self.counts.background.bytes
            if fetched - self._measured_at >= MEASURE_EVERY_BYTES:
                self._measured_at = fetched
                self._measure()
            if time.monotonic() - self._synced_at >= SYNC_EVERY_S:
                self._synced_at = time.monotonic()
                for layer in list(self._layers):
                    self._sync(layer)
        finally:
            self._syncing.release()

    def _sync(self, layer: Filled) -> None:
        try:
            layer.lazy.sync()
        except (RegistryPipelinesError, OSError) as error:
            self._log(f"the disk did not take what came of layer {layer.digest}, which is fetched again: {error}")

    def _measure(self) -> None:
        """Where layers that are open take more than the store may have, only what somebody waits for comes."""
        self._store.make_room()
        if self._background and self._store.is_full:
            with self._changed:
                self._background = False
            self._log(f"the store is full ({size_text(self._store.max_bytes)}): nothing is fetched before it is read")

    def _unavailable(self, layer: Filled, why: str) -> Unavailable:
        return Unavailable(why, where=f"{self.place}@{layer.digest}")


__all__ = ["Fetched", "FillCounts", "Filler"]
