"""Where the parts of a blob go: an upload session that survives a kill, or one upload in a single pass."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from registry_pipelines.errors import ContentError, NotFound, Refused, RegistryPipelinesError, Unavailable, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import CarriedUploads, Place, UploadSession, UploadSessions
from registry_pipelines.transfer.blob.courier import SEGMENT_BYTES, Courier, Shipment
from registry_pipelines.transfer.blob.memory import Part
from registry_pipelines.transfer.flow.patience import Elsewhere

MAX_RESTARTS = 3
"""How often one blob is sent again from its first byte after its session was lost or its digest was refused."""

_NO_STREAMS = (307, 308, 400, 405, 411, 413, 415, 501)
"""Answers by which registries refuse HTTP's chunked coding (Azure 400, proxies 411 and 501), or send us elsewhere with
it: a part is sent a second time, a stream is not."""

_NO_CHUNKS = (400, 405, 411, 501)
"""Answers to a first chunk by which registries refuse chunks altogether."""

_SESSION_FAULTS = (404, 416)
"""Answers that speak of the session and not of the content."""

Moved = Callable[[int, int], None]
"""Called with (offset behind the bytes, bytes sent) whenever a target has taken bytes."""

JOURNAL_FILE = "transfers.sqlite"
"""The journal in a state folder, unless it has a URL of its own."""

UPLOAD_LIFE_S = 7 * 24 * 3600.0
"""Registries drop unfinished uploads after about a week (docker-registry's upload purging: 168 h)."""

ABANDONED_S = 24 * 3600.0
"""After a day without a rerun an upload is cancelled; some registries keep unfinished ones for ever (Harbor)."""


class UploadJournal(Protocol):
    """What outlives the process: open uploads, and which repository has which blobs; see ``journal``."""

    def resume(self, target: Place, descriptor: Descriptor) -> UploadSession | None:
        """Take over an upload that a dead process left; its offset is what was confirmed."""
        ...

    def record(self, target: Place, descriptor: Descriptor, session: UploadSession) -> None:
        """Keep session and offset; durable when this returns."""
        ...

    def note(self, target: Place, digest: Digest) -> Path | None:
        """Where a courier may leave the registry's answer; None when there can be no courier."""
        ...

    def forget(self, target: Place, digest: Digest) -> None:
        """The upload is committed, cancelled or gone."""
        ...

    def hold(self, target: Place, digests: Sequence[Digest], *, instead: Collection[Digest] = ()) -> None:
        """The target was read back and has these blobs; later runs may mount from it. instead: those that the
        repository remembered did not give."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A registry whose carried content may be under a bandwidth cap; it is then paid for piece by piece."""

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        ...

    def pace(self, byte_count: int) -> None:
        """Wait until so many bytes are covered."""
        ...


class Stopped(Unavailable):
    """The parts ended before the blob did, because its source failed; the source's error is the one that is told."""


class Inbox:
    """The parts on their way to one target, in order; a short queue, so that a slow target holds little memory.

    A part handed over is owned by the inbox, also when its reader died: it is drained, never blocked on."""

    def __init__(self, depth: int = 1) -> None:
        self._queue: queue.Queue[Part | bool] = queue.Queue(depth)

    def put(self, part: Part) -> None:
        """Hand a part over; waits while the target is busy."""
        self._queue.put(part)

    def end(self, *, complete: bool) -> None:
        """No more parts. complete: all were sent and the digest held."""
        self._queue.put(complete)

    def get(self) -> Part | None:
        """The next part, None at the good end. Raises Stopped at the bad one."""
        item = self._queue.get()
        if isinstance(item, Part):
            return item
        self._queue.put(item)
        if not item:
            raise Stopped("the source failed")
        return None

    def drain(self) -> None:
        """Let go of whatever still comes, up to the end."""
        while True:
            item = self._queue.get()
            if not isinstance(item, Part):
                return
            item.release()


class Sink(Protocol):
    """One target of a blob."""

    target: Place

    def open(self) -> int:
        """Get ready; the first byte that is wanted."""
        ...

    def run(self, inbox: Inbox) -> None:
        """Take all parts and commit."""
        ...

    def leave(self) -> None:
        """Keep for the next run what can be kept: the trouble will pass, or is not the upload's."""
        ...

    def give_up(self) -> None:
        """Leave nothing open at the registry."""
        ...


def refuses_chunks(error: RegistryPipelinesError, session: UploadSession) -> bool:
    """Whether a registry answered a first chunk by which it says that it takes none at all."""
    return isinstance(error, Refused | Unsupported) and error.status in _NO_CHUNKS and not session.offset


def refuses_streams(error: RegistryPipelinesError) -> bool:
    """Whether a registry answered by which it says that it takes no content of unknown length."""
    return isinstance(error, Refused | Unsupported) and error.status in _NO_STREAMS


def pace_of(sessions: UploadSessions) -> Callable[[int], None] | None:
    """What waits until carried content is paid for; None without a cap."""
    return sessions.pace if isinstance(sessions, Paced) and sessions.capped else None


class SessionSink:
    """Chunks into an upload session, each confirmed in the journal before the next is sent.

    Own offsets count, never the registry's alone: ECR's status stays at the first chunk (see ``open``).
    """

    def __init__(
        self,
        target: Place,
        sessions: UploadSessions,
        descriptor: Descriptor,
        journal: UploadJournal | None,
        courier: Courier | None,
        moved: Moved,
        whole_only: set[str],
    ) -> None:
        self.target = target
        self._whole_only = whole_only
        carried = courier is not None and courier.usable and isinstance(sessions, CarriedUploads)
        self._courier = courier if carried else None
        self._sessions, self._descriptor, self._journal, self._moved = sessions, descriptor, journal, moved
        self._session: UploadSession | None = None
        self._restarts = 0
        self._distrust_own_offset = False
        self._committed = False

    def open(self) -> int:
        """Resume the journal's upload, else begin one. Raises RegistryError."""
        if self._session is None and self._journal:
            self._session = self._journal.resume(self.target, self._descriptor)
        if self._session is not None and not self._settle(self._session):
            self.give_up()
            # An upload may be gone because its commit, which a killed process asked for, is through by now.
            stored = self.target.registry.blob_size(self.target.repository, self._descriptor.digest)
            self._committed = stored == self._descriptor.size
        if self._committed:
            return self._descriptor.size
        if self._session is None:
            self._session = self._sessions.begin_upload(self.target.repository)
            self._record()
        return self._session.offset

    def _settle(self, session: UploadSession) -> bool:
        """Agree with the registry where to go on; False when the session cannot be used any more.

        The registry may know more than we (of the request that was under way when the link broke or we were killed)
        but not less: one that says less is ECR, whose status never moves, and is tried at our offset first.
        """
        there = self._sessions.upload_offset(session)
        if there is None or there > min(session.offset + SEGMENT_BYTES, self._descriptor.size):
            return False
        if there >= session.offset or self._distrust_own_offset:
            session.offset = there
            self._record()
        return True

    def run(self, inbox: Inbox) -> None:
        """Send what the registry lacks, then commit. Raises RegistryError, DigestMismatch."""
        if self._committed:
            return
        session = self._session
        assert session is not None  # noqa: S101 - open comes first
        try:
            while self._send_next(session, inbox):
                self._record()
            self._sessions.commit_upload(session, self._descriptor.digest)
        except Stopped:
            raise
        except (NotFound, Refused, ContentError, Unsupported) as error:
            self._restart_or_raise(error)
        if self._journal:
            self._journal.forget(self.target, self._descriptor.digest)
        self._session = None

    def _send_next(self, session: UploadSession, inbox: Inbox) -> bool:
        """Send a segment through the courier, or a part from here; False at the end."""
        note = self._journal.note(self.target, self._descriptor.digest) if self._journal else None
        courier = self._courier
        if courier and note and courier.usable and self.target.registry.name not in courier.refusing:
            return self._send_segment(session, inbox, courier, note)
        part = inbox.get()
        if part is None:
            return False
        try:
            if part.stop > session.offset:
                chunk = part.view[session.offset - part.offset :]
                self._append(session, chunk)
                self._moved(part.stop, len(chunk))
        finally:
            part.release()
        return True

    def _append(self, session: UploadSession, chunk: memoryview) -> None:
        try:
            self._sessions.append_upload(session, chunk)
        except (Refused, Unsupported) as error:
            if not refuses_chunks(error, session):
                raise
            self._whole_only.add(self.target.registry.name)
            raise Elsewhere("chunks are refused", where=str(self.target)) from error

    def _send_segment(self, session: UploadSession, inbox: Inbox, courier: Courier, note: Path) -> bool:
        assert isinstance(self._sessions, CarriedUploads)  # noqa: S101 - else there is no courier
        first = inbox.get()
        if first is None:
            return False
        waiting = [first]

        def parts() -> Part | None:
            return waiting.pop() if waiting else inbox.get()

        pace = pace_of(self._sessions)
        shipment = Shipment(courier, parts, self._moved, offset=session.offset, note=note, pace=pace)
        try:
            self._sessions.append_carried(session, shipment)
        except (Refused, Unsupported) as error:
            if refuses_streams(error):
                courier.refusing.add(self.target.registry.name)
                raise Elsewhere("content of unknown length was refused", where=str(self.target)) from error
            raise
        finally:
            for part in waiting:
                part.release()
        if shipment.stopped is not None:
            self._record()
            raise shipment.stopped
        return not shipment.complete

    def _restart_or_raise(self, error: NotFound | Refused | ContentError | Unsupported) -> None:
        """A lost session, a wrong offset or a refused digest may be the session's fault: begin afresh, but not for
        ever. 416 alone first asks the registry for its offset."""
        if isinstance(error, Refused) and error.status == 416 and not self._distrust_own_offset:
            self._distrust_own_offset = True
            raise Elsewhere("the registry wants another offset", where=str(self.target)) from error
        retry = isinstance(error, ContentError) or error.status in _SESSION_FAULTS
        self.give_up()
        if not retry or self._restarts >= MAX_RESTARTS:
            raise error
        self._restarts += 1
        raise Elsewhere("the upload session was lost", where=str(self.target)) from error

    def _record(self) -> None:
        if self._journal and self._session:
            self._journal.record(self.target, self._descriptor, self._session)

    def leave(self) -> None:
        """Keep the session where a journal knows it."""
        if self._journal is None:
            self.give_up()

    def give_up(self) -> None:
        """Cancel the session; a registry that cannot be reached will expire it. A journal that cannot be reached keeps
        it, and the next run finds that it is gone. What led here matters more than either."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(RegistryPipelinesError):
                self._sessions.cancel_upload(session)
            if self._journal:
                with contextlib.suppress(RegistryPipelinesError):
                    self._journal.forget(self.target, self._descriptor.digest)


class WholeSink:
    """One upload in a single pass, for places that take no chunks (layout folders, Google Artifact Registry)."""

    def __init__(self, target: Place, descriptor: Descriptor, moved: Moved) -> None:
        self.target = target
        self._descriptor, self._moved = descriptor, moved

    def open(self) -> int:
        """Always from the first byte."""
        return 0

    def run(self, inbox: Inbox) -> None:
        """Upload while parts arrive. Raises RegistryError, DigestMismatch."""
        reader = _InboxReader(inbox, self._moved)
        try:
            self.target.registry.upload_blob(self.target.repository, self._descriptor, reader)
        finally:
            reader.close()

    def leave(self) -> None:
        """Nothing stays open."""

    def give_up(self) -> None:
        """Nothing stays open."""


class _InboxReader:
    def __init__(self, inbox: Inbox, moved: Moved) -> None:
        self._inbox, self._moved = inbox, moved
        self._part: Part | None = None
        self._at = 0

    def readinto(self, buffer: memoryview, /) -> int:
        if self._part is None:
            self._part, self._at = self._inbox.get(), 0
            if self._part is None:
                return 0
        count = min(len(buffer), len(self._part.view) - self._at)
        buffer[:count] = self._part.view[self._at : self._at + count]
        self._at += count
        self._moved(self._part.offset + self._at, count)
        if self._at == len(self._part.view):
            self.close()
        return count

    def close(self) -> None:
        if self._part is not None:
            self._part.release()
            self._part = None
