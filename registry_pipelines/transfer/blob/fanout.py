"""Move one blob from its source to several targets: it is read once, hashed on the way, and sent to all of them.

A blob of one part is verified in memory before its first byte leaves. A larger one is committed only after its digest
held; when its first bytes were sent by an earlier process, the registry's own check at the commit is the proof
(distribution-spec 1.1, "Pushing a blob in chunks": the closing PUT carries the digest).

All targets that are well take part in one read. A target that fails falls behind: the others are done without it, and
it is tried again alone, with reads of its own, as long as there is patience.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import DigestMismatch, LocalError, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.protocol import Place, UploadSessions
from registry_pipelines.transfer.blob.memory import PART_BYTES, Part
from registry_pipelines.transfer.blob.mounting import mount
from registry_pipelines.transfer.blob.sinks import Inbox, Moved, SessionSink, Sink, Stopped, WholeSink
from registry_pipelines.transfer.blob.spool import SpoolSink
from registry_pipelines.transfer.blob.tools import BlobTools, takes_chunks
from registry_pipelines.transfer.blob.window import PartWindow
from registry_pipelines.transfer.flow.streams import Load

if TYPE_CHECKING:  # without a shared state there are none
    from registry_pipelines.transfer.blob.turns import Turn

LAG_S = 10.0
"""When one target has a small blob, or its share of a large one, for so long before another, this one is only waited
for, and the thread's place is another's. Less would let the fast of two healthy targets run ahead of the memory."""


def load_of(source: Place, descriptor: Descriptor, targets: Sequence[Place]) -> Load | None:
    """How a large blob loads the links on its way, for the schedule, which admits few of them at once. None for a small
    one: of these as many as possible go at once, since they wait for round trips and hardly for bytes."""
    if descriptor.size <= PART_BYTES:
        return None
    return Load((source.registry.name, frozenset(target.registry.name for target in targets)), descriptor.size)


def move_blob(
    source: Place,
    descriptor: Descriptor,
    targets: Sequence[Place],
    tools: BlobTools,
    moved: Callable[[int, int], None],
    settled: Callable[[int, RegistryPipelinesError | None], None] = lambda *_: None,
    resumed: Callable[[int, int], None] = lambda *_: None,
) -> list[RegistryPipelinesError | None]:
    """Bring a blob to all targets; one GET (or one set of ranges) for all that are well.

    moved: called with (position of the target, bytes) as targets take bytes; never more than the blob's size in all,
    also when bytes had to be sent again. resumed: called with (position of the target, bytes) where a target has the
    blob's beginning from an earlier run; these are not moved. settled: called with (position of the target, its
    outcome), once for each and as soon as that is known; all of them in any thread. Returns one outcome per target:
    None where it has the blob, else why not; one that fails stops no other. source and targets: see
    :func:`~registry_pipelines.transfer.flow.health.left_to_us`.
    """
    blob = _Blob(source, descriptor, tools)
    lanes = [_Lane(at, target, tools, moved, resumed, settled) for at, target in enumerate(targets)]
    try:
        later = blob.take_turns(lanes)
        first = [lane for lane in lanes if lane not in later and not lane.settled]
        first = [lane for lane in first if tools.health.ready(lane.target, "content")]
        if first:
            blob.send(first)
        behind = [lane for lane in lanes if not lane.settled]
        _each(behind, lambda lane: blob.wait_turn(lane) if lane in later else blob.catch_up(lane), tools, at_once=True)
    finally:
        for lane in lanes:
            lane.end_turn(arrived=False)
    return [lane.outcome for lane in lanes]


class _Lane:
    """One target of a blob through all attempts. error: why the last one failed; outcome: once it is settled."""

    def __init__(
        self,
        position: int,
        target: Place,
        tools: BlobTools,
        moved: Callable[[int, int], None],
        resumed: Callable[[int, int], None],
        report: Callable[[int, RegistryPipelinesError | None], None],
    ) -> None:
        self.target, self.patience = target, tools.patience()
        self.sink: Sink | None = None
        self.turn: Turn | None = None
        self.inbox = Inbox()
        self.error: RegistryPipelinesError | None = None
        self.crash: BaseException | None = None
        self.outcome: RegistryPipelinesError | None = None
        self.settled = False
        self.reached = 0
        self._position, self._moved, self._report, self._health = position, moved, report, tools.health
        self._resumed = resumed
        self._turns = tools.turns
        self._mark = 0
        self._has_begun = False

    def reach(self, stop: int, _byte_count: int) -> None:
        """The target took bytes up to an offset. Progress never goes backwards: bytes sent again do not count again.
        Raises StateLocked where another worker took this one for dead and sends it now."""
        if self.turn and self.turn.lost:
            self.turn.lease.check()
        self._health.worked(self.target, "content")
        if stop > self._mark:
            self._moved(self._position, stop - self._mark)
            self._mark = stop

    def has(self, stop: int) -> None:
        """The target said how much of the blob it has: before this run sent anything that is an earlier run's, later
        what a request brought whose answer was lost."""
        if not self._has_begun and stop:
            self._resumed(self._position, stop)
            self._mark = stop
        self._has_begun = True
        self.reach(stop, 0)

    def settle(self, outcome: RegistryPipelinesError | None) -> None:
        """It has the blob, or will not get it."""
        self.outcome, self.settled = outcome, True
        self.end_turn(arrived=outcome is None)
        self._report(self._position, outcome)
        sink, self.sink = self.sink, None  # it knows us: a circle would keep the memory of parts
        if outcome is None or sink is None:
            return
        if outcome.temporary or isinstance(outcome, LocalError):
            sink.leave()
        else:
            sink.give_up()

    def end_turn(self, *, arrived: bool) -> None:
        """Others may send it now, or find it."""
        turn, self.turn = self.turn, None
        if turn and self._turns:
            self._turns.done(turn, self.target.repository if arrived else "")

    def fail(self, error: RegistryPipelinesError) -> None:
        """An attempt ended so; the end of the lane where another would end the same."""
        self.error = error
        if not error.temporary and not self.settled:
            self.settle(error)

    def run(self, act: Callable[[_Lane], None]) -> None:
        """Run a step; its error is the lane's."""
        try:
            act(self)
        except RegistryPipelinesError as error:
            self.fail(error)
        except BaseException as error:
            self.crash, self.error = error, Unavailable("the upload crashed", where=str(self.target))


def _each(lanes: Sequence[_Lane], act: Callable[[_Lane], None], tools: BlobTools, *, at_once: bool = False) -> None:
    """Run an act for each lane; a single one here. at_once: waiting for the others is known to be long."""
    if len(lanes) == 1:
        act(lanes[0])
    else:
        _join(_start(lanes, act), tools, lag_s=0.0 if at_once else LAG_S)
    for lane in lanes:
        if lane.crash is not None:
            raise lane.crash


@dataclass
class _Started:
    """Threads of lanes; ended: counts those that are done."""

    threads: list[threading.Thread] = field(default_factory=list)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


def _start(lanes: Sequence[_Lane], act: Callable[[_Lane], None]) -> _Started:
    """Daemon threads, as a pool's would keep an interrupted process until their patience ends."""
    started = _Started()

    def run(lane: _Lane) -> None:
        try:
            act(lane)
        finally:
            started.ended.release()

    for lane in lanes:
        thread = threading.Thread(target=run, args=(lane,), name="send", daemon=True)
        thread.start()
        started.threads.append(thread)
    return started


def _join(started: _Started, tools: BlobTools, *, lag_s: float) -> None:
    """Wait for the threads; once those that are left lag behind the first, another works in our place meanwhile."""
    if not started.threads:
        return
    started.ended.acquire()
    until, left = time.monotonic() + lag_s, len(started.threads) - 1
    while left and started.ended.acquire(timeout=max(0.0, until - time.monotonic())):
        left -= 1
    with tools.aside() if left else contextlib.nullcontext():
        for thread in started.threads:
            thread.join()


class _Settled(Exception):
    """The lane's end, and no word about its target: the source may have failed."""


class _Blob:
    """A blob on its way to some of its targets, once or several times."""

    def __init__(self, source: Place, descriptor: Descriptor, tools: BlobTools) -> None:
        self._source, self._descriptor, self._tools = source, descriptor, tools
        self._began = 0.0

    def catch_up(self, lane: _Lane) -> None:
        """Try again for one target that fell behind, until it is settled."""

        def send() -> None:
            lane.error = None
            self.send([lane])
            if lane.settled and lane.outcome is not None:
                raise _Settled
            if lane.error is not None:
                raise lane.error

        try:
            self._tools.health.persist(lane.target, "content", send, patience=lane.patience, failed=lane.error)
        except _Settled:
            return
        except RegistryPipelinesError as error:
            lane.settle(error)

    def take_turns(self, lanes: Sequence[_Lane]) -> list[_Lane]:
        """Those whose turn it is not, because another worker sends the blob to their registry. Others may be settled
        then: it came there since this copy was planned."""
        if self._tools.turns is None:
            return []
        later: list[_Lane] = []
        by_registry: dict[str, list[_Lane]] = {}
        for lane in lanes:
            by_registry.setdefault(lane.target.registry.name, []).append(lane)
        for name, ours in by_registry.items():
            try:
                turn = self._tools.turns.take(name, self._descriptor.digest, len(ours))
            except RegistryPipelinesError as error:
                for lane in ours:
                    lane.settle(error)
                continue
            for lane in ours:
                lane.turn = turn
            if turn is None:
                later += ours
            elif turn.arrived_in:
                _each(ours, lambda lane: lane.run(self._find), self._tools)
        return later

    def wait_turn(self, lane: _Lane) -> None:
        """For one target: once the other worker is through or dead it is looked for there, else sent."""
        if self._tools.turns is None:
            raise AssertionError("nobody is waited for")
        try:
            with self._tools.aside():
                lane.turn = self._tools.turns.wait(lane.target.registry.name, self._descriptor.digest)
            self._find(lane)
        except RegistryPipelinesError as error:
            lane.settle(error)
        if not lane.settled:
            self.catch_up(lane)

    def _find(self, lane: _Lane) -> None:
        """Settle the lane where another worker brought the blob to its registry lately."""
        arrived_in = lane.turn.arrived_in if lane.turn else ""
        if not arrived_in:
            return
        target, digest, size = lane.target, self._descriptor.digest, self._descriptor.size
        look = partial(target.registry.blob_size, target.repository, digest)
        there = self._tools.health.persist(target, "mount", look) == size
        if not there and arrived_in != target.repository:
            there = mount(target, digest, size, arrived_in, self._tools.health)
        if there:
            lane.has(size)
            lane.settle(None)

    def send(self, lanes: Sequence[_Lane]) -> None:
        """One read for these targets. Afterwards each is settled, or has an error that may pass. The source's errors
        are final: it was given its time."""
        try:
            self._began = self._tools.health.admit(self._source, "read")
            if self._descriptor.size <= PART_BYTES:
                self._send_small(lanes)
            else:
                self._send_large(lanes)
        except RegistryPipelinesError as error:
            for lane in lanes:
                if not lane.settled:
                    lane.settle(error)

    def _window(self, lanes: Sequence[_Lane], *, start: int = 0, connections: int = 1) -> PartWindow:
        return PartWindow(
            self._source,
            self._descriptor,
            self._tools.memory,
            start=start,
            connections=connections,
            patience=self._tools.health.reading(self._source, self._began),
            group=frozenset(lane.target.registry.name for lane in lanes),  # whose slowness holds the parts in memory
        )

    def _send_small(self, lanes: Sequence[_Lane]) -> None:
        part = self._read_verified(lanes)
        content = part.view if part else memoryview(b"")

        def upload(lane: _Lane) -> None:
            lane.target.registry.upload_blob(lane.target.repository, self._descriptor, BytesSource(content))
            lane.reach(self._descriptor.size, self._descriptor.size)
            lane.settle(None)

        try:
            _each(lanes, lambda lane: lane.run(upload), self._tools)
        finally:
            if part:
                part.release()

    def _read_verified(self, lanes: Sequence[_Lane]) -> Part | None:
        window, part = self._window(lanes), None
        try:
            for part in window:
                self._check(self._descriptor.digest.hasher(), part)
            return part
        except DigestMismatch:
            if part:
                part.release()
            raise
        finally:
            window.close()

    def _check(self, hasher: Any, part: Part) -> None:
        hasher.update(part.view)
        if part.stop < self._descriptor.size:
            return
        actual = hasher.hexdigest()
        if actual != self._descriptor.digest.hex:
            raise DigestMismatch(
                f"the source's blob {self._descriptor.digest} hashes to {actual}",
                where=str(self._source),
                do="It is damaged there; push the image again. Nothing of it was stored at a target",
            )

    def _send_large(self, lanes: Sequence[_Lane]) -> None:
        offsets: dict[_Lane, int] = {}
        _each(lanes, lambda lane: lane.run(lambda lane: offsets.__setitem__(lane, self._open(lane))), self._tools)
        ready = [lane for lane in lanes if lane in offsets]
        if not ready:
            return
        started = _start(ready, _take)
        failure = None
        try:
            self._feed(ready, min(offsets.values()))
        except RegistryPipelinesError as error:
            failure = error
        except BaseException:
            for lane in ready:
                lane.inbox.end(complete=False)
            raise
        for lane in ready:
            lane.inbox.end(complete=failure is None)
        _join(started, self._tools, lag_s=LAG_S)
        for lane in ready:
            if lane.crash is not None:
                raise lane.crash
            if failure is not None and isinstance(lane.error, Stopped):
                lane.settle(failure)

    def _open(self, lane: _Lane) -> int:
        target = lane.target
        lane.inbox = Inbox()
        if isinstance(lane.sink, SessionSink) and target.registry.name in self._tools.whole_only:
            lane.sink.give_up()
            lane.sink = None
        if lane.sink is None:
            try:
                lane.sink = _sink(target, self._descriptor, self._tools, lane.reach)
            except RegistryPipelinesError as error:
                lane.settle(error)
                raise
        offset = lane.sink.open()
        if offset > lane.reached:
            lane.reached = offset
            lane.patience.progress()
        if not isinstance(lane.sink, SpoolSink):  # of which nothing is at the target yet
            lane.has(offset)
        return offset

    def _feed(self, lanes: Sequence[_Lane], start: int) -> None:
        hasher = self._descriptor.digest.hasher() if start == 0 else None
        window = self._window(lanes, start=start, connections=self._tools.connections)
        try:
            for part in window:
                try:
                    if hasher is not None:
                        self._check(hasher, part)
                    alive = [lane for lane in lanes if lane.error is None]
                    if not alive:
                        return
                    part.share(len(alive))
                    for lane in alive:
                        lane.inbox.put(part)
                finally:
                    part.release()
        finally:
            window.close()


def _take(lane: _Lane) -> None:
    """Give what arrives to the target, in a thread of its own."""

    def run(lane: _Lane) -> None:
        assert lane.sink is not None  # noqa: S101 - opened before
        lane.sink.run(lane.inbox)
        lane.settle(None)

    try:
        lane.run(run)
    finally:
        lane.inbox.drain()


def _sink(target: Place, descriptor: Descriptor, tools: BlobTools, moved: Moved) -> Sink:
    """The registry's way: a session where it has them and takes chunks, else one pass."""
    registry = target.registry
    if not isinstance(registry, UploadSessions):
        return WholeSink(target, descriptor, moved)
    if takes_chunks(target, tools):
        return SessionSink(target, registry, descriptor, tools.journal, tools.courier, moved, tools.whole_only)
    if tools.spool is not None:
        return SpoolSink(target, descriptor, tools.spool, moved)
    return WholeSink(target, descriptor, moved)
