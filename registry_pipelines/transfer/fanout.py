"""Move one blob from its source to several targets: it is read once, hashed on the way, and sent to all of them.

A blob of one part is verified in memory before its first byte leaves. A larger one is committed only after its digest
held; when its first bytes were sent by an earlier process, the registry's own check at the commit is the proof
(distribution-spec 1.1, "Pushing a blob in chunks": the closing PUT carries the digest).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.errors import DigestMismatch, LocalError, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import BytesSource
from registry_pipelines.registry.interface import Place, UploadSessions
from registry_pipelines.transfer.courier import Courier
from registry_pipelines.transfer.memory import PART_BYTES, Part, PartMemory
from registry_pipelines.transfer.patience import Patience
from registry_pipelines.transfer.rules import KNOWN, Rule, rule_for
from registry_pipelines.transfer.sinks import Inbox, Moved, SessionSink, Sink, Stopped, UploadJournal, WholeSink
from registry_pipelines.transfer.spool import SpoolSink
from registry_pipelines.transfer.window import CONNECTIONS, PartWindow


@dataclass
class Means:
    """What transfers share within a process."""

    memory: PartMemory = field(default_factory=PartMemory)
    journal: UploadJournal | None = None
    courier: Courier | None = None
    """Sends parts so that a kill does not tear them; without one they are sent from here."""
    connections: int = CONNECTIONS
    """Connections for one big blob."""
    patience: Callable[[], Patience] = Patience
    spool: Path | None = None
    """Folder for blobs on their way to registries that take them only whole; without one they are streamed."""
    rules: Sequence[Rule] = KNOWN
    whole_only: set[str] = field(default_factory=set)
    """Registries that were found to refuse chunks."""
    takes_chunks: dict[str, bool] = field(default_factory=dict)
    """What registries said of themselves; asking costs a request for each repository."""


Outcome = RegistryPipelinesError | None
"""None: the target has the blob."""


def move_blob(
    source: Place, descriptor: Descriptor, targets: Sequence[Place], means: Means, moved: Callable[[int, int], None]
) -> list[Outcome]:
    """Bring a blob to all targets; one GET (or one set of ranges) however many there are.

    moved: called with (position of the target, bytes) as targets take bytes; never more than the blob's size in all,
    also when bytes had to be sent again. Returns one outcome per target; a target that fails does not stop the others.
    """
    marks = [_HighWater(at, moved) for at in range(len(targets))]
    move = _move_small if descriptor.size <= PART_BYTES else _move_large
    return move(source, descriptor, targets, means, [mark.reach for mark in marks])


class _HighWater:
    """Progress never goes backwards: bytes sent again are not counted again."""

    def __init__(self, position: int, moved: Callable[[int, int], None]) -> None:
        self._position, self._moved, self._mark = position, moved, 0

    def reach(self, stop: int, byte_count: int) -> None:
        if stop > self._mark:
            self._moved(self._position, stop - self._mark)
            self._mark = stop


def _move_small(
    source: Place, descriptor: Descriptor, targets: Sequence[Place], means: Means, marks: Sequence[Moved]
) -> list[Outcome]:
    try:
        part = _read_verified(source, descriptor, targets, means)
    except RegistryPipelinesError as error:
        return [error] * len(targets)
    view = part.view if part else memoryview(b"")
    try:
        return _upload_to_all(targets, descriptor, view, means, marks)
    finally:
        if part:
            part.release()


def _read_verified(source: Place, descriptor: Descriptor, targets: Sequence[Place], means: Means) -> Part | None:
    window = PartWindow(source, descriptor, means.memory, connections=1, patience=means.patience, group=_group(targets))
    part = None
    try:
        for part in window:
            _check(source, descriptor, descriptor.digest.hasher(), part)
        return part
    except DigestMismatch:
        if part:
            part.release()
        raise
    finally:
        window.close()


def _group(targets: Sequence[Place]) -> frozenset[str]:
    """Whose slowness holds the parts in memory."""
    return frozenset(target.registry.name for target in targets)


def _check(source: Place, descriptor: Descriptor, hasher: Any, part: Part) -> None:
    hasher.update(part.view)
    if part.stop < descriptor.size:
        return
    found = hasher.hexdigest()
    if found != descriptor.digest.hex:
        raise DigestMismatch(
            f"the source's blob {descriptor.digest} hashes to {found}",
            where=str(source),
            do="It is damaged there; push the image again. Nothing of it was stored at a target",
        )


def _upload_to_all(
    targets: Sequence[Place], descriptor: Descriptor, view: memoryview, means: Means, marks: Sequence[Moved]
) -> list[Outcome]:
    """At once, because the blob is in memory that others wait for until the last target has it. Daemon threads, as a
    pool's would keep an interrupted process until their patience ends."""
    outcomes: list[Outcome] = [None] * len(targets)

    def send(at: int) -> None:
        try:
            outcomes[at] = _upload(targets[at], descriptor, view, means, marks[at])
        except BaseException as error:
            outcomes[at] = Unavailable("the upload crashed", where=str(targets[at]))
            crashes.append(error)

    crashes: list[BaseException] = []
    others = [threading.Thread(target=send, args=(at,), name="send", daemon=True) for at in range(1, len(targets))]
    for thread in others:
        thread.start()
    send(0)
    for thread in others:
        thread.join()
    if crashes:
        raise crashes[0]
    return outcomes


def _upload(target: Place, descriptor: Descriptor, view: memoryview, means: Means, mark: Moved) -> Outcome:
    patience = means.patience()
    while True:
        try:
            target.registry.upload_blob(target.repository, descriptor, BytesSource(view))
            mark(descriptor.size, descriptor.size)
            return None
        except RegistryPipelinesError as error:
            if not patience.wait(error):
                return error


@dataclass
class _Lane:
    """One target of a large blob through all attempts."""

    position: int
    sink: Sink
    patience: Patience
    inbox: Inbox = field(default_factory=Inbox)
    error: RegistryPipelinesError | None = None
    crash: BaseException | None = None
    done: bool = False
    reached: int = 0


def _move_large(
    source: Place, descriptor: Descriptor, targets: Sequence[Place], means: Means, marks: Sequence[Moved]
) -> list[Outcome]:
    lanes = []
    outcomes: list[Outcome] = [None] * len(targets)
    for at, target in enumerate(targets):
        try:
            lanes.append(_Lane(at, _sink(target, descriptor, means, marks[at]), means.patience()))
        except RegistryPipelinesError as error:
            outcomes[at] = error
    waiting = lanes
    while waiting:
        _attempt(source, descriptor, waiting, means, marks)
        waiting = [lane for lane in waiting if not lane.done and _again(lane)]
        for lane in waiting:
            target = lane.sink.target
            if target.registry.name in means.whole_only and isinstance(lane.sink, SessionSink):
                lane.sink.give_up()
                lane.sink = _sink(target, descriptor, means, marks[lane.position])
    for lane in lanes:
        outcomes[lane.position] = None if lane.done else lane.error
    return outcomes


def _sink(target: Place, descriptor: Descriptor, means: Means, moved: Moved) -> Sink:
    """The registry's way: a session where it has them and takes chunks, else one pass."""
    registry = target.registry
    if not isinstance(registry, UploadSessions):
        return WholeSink(target, descriptor, moved)
    chunks = rule_for(registry.name, means.rules).chunks and registry.name not in means.whole_only
    if chunks and registry.name not in means.takes_chunks:
        means.takes_chunks[registry.name] = registry.capabilities(target.repository).chunked_upload is not False
    if chunks and means.takes_chunks[registry.name]:
        return SessionSink(target, registry, descriptor, means.journal, means.courier, moved, means.whole_only)
    if means.spool is not None:
        return SpoolSink(target, descriptor, means.spool, moved)
    return WholeSink(target, descriptor, moved)


def _again(lane: _Lane) -> bool:
    assert lane.error is not None  # noqa: S101 - a lane is done or has an error
    if lane.patience.wait(lane.error):
        return True
    if lane.error.temporary or isinstance(lane.error, LocalError):
        lane.sink.leave()
    else:
        lane.sink.give_up()
    return False


def _attempt(
    source: Place, descriptor: Descriptor, lanes: Sequence[_Lane], means: Means, marks: Sequence[Moved]
) -> None:
    ready = [(lane, offset) for lane in lanes if (offset := _open(lane, marks)) is not None]
    if not ready:
        return
    start = min(offset for _, offset in ready)
    threads = [threading.Thread(target=_run, args=(lane,), name="send", daemon=True) for lane, _ in ready]
    for thread in threads:
        thread.start()
    try:
        _feed(source, descriptor, [lane for lane, _ in ready], means, start)
        failure = None
    except RegistryPipelinesError as error:
        failure = error
    except BaseException:
        for lane, _ in ready:
            lane.inbox.end(complete=False)
        raise
    for lane, _ in ready:
        lane.inbox.end(complete=failure is None)
    for thread in threads:
        thread.join()
    for lane, _ in ready:
        if lane.crash is not None:
            raise lane.crash
        if failure is not None and isinstance(lane.error, Stopped):
            lane.error = failure


def _open(lane: _Lane, marks: Sequence[Moved]) -> int | None:
    lane.error, lane.inbox = None, Inbox()
    try:
        offset = lane.sink.open()
    except RegistryPipelinesError as error:
        lane.error = error
        return None
    if offset > lane.reached:
        lane.reached = offset
        lane.patience.progress()
        marks[lane.position](offset, 0)
    return offset


def _feed(source: Place, descriptor: Descriptor, lanes: Sequence[_Lane], means: Means, start: int) -> None:
    hasher = descriptor.digest.hasher() if start == 0 else None
    window = PartWindow(
        source,
        descriptor,
        means.memory,
        start=start,
        connections=means.connections,
        patience=means.patience,
        group=_group([lane.sink.target for lane in lanes]),
    )
    try:
        for part in window:
            try:
                if hasher is not None:
                    _check(source, descriptor, hasher, part)
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


def _run(lane: _Lane) -> None:
    try:
        lane.sink.run(lane.inbox)
        lane.done = True
    except RegistryPipelinesError as error:
        lane.error = error
    except BaseException as error:
        lane.crash, lane.error = error, Unavailable("the upload crashed", where=str(lane.sink.target))
    finally:
        lane.inbox.drain()
