"""The logs of ``report: audit: sources`` read on from where they were read to, and kept as events by day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.audit_sources import open_source, settings_of
from registry_pipelines.chain.result import Scalar
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.times import write_time
from registry_pipelines.report.audit.model import Event, Reading
from registry_pipelines.shared.documents import Documents

if TYPE_CHECKING:  # Arrow is loaded where events are read
    from registry_pipelines.report.audit.store import AuditStore

CURSORS, DAYS = "cursors.json", "days"
"""Documents of the audit."""
FIRST_LOOK = timedelta(days=90)
"""How far back a log is read that was never read before."""
AHEAD = timedelta(hours=1)
"""An event so far in the future is of a clock that is wrong: it is kept, and said."""


@dataclass
class Read:
    """What reading one log gave. new: of the events those that were not kept before. oldest: time of the oldest that
    came. error: why it ended early."""

    source: str
    kind: str
    came: int = 0
    new: int = 0
    oldest: datetime | None = None
    reading: Reading = field(default_factory=Reading)
    error: RegistryPipelinesError | None = None

    def row(self) -> dict[str, Scalar]:
        """For a table."""
        state = self.error.what if self.error else "read" if self.reading.whole else "read in part"
        return {
            "source": self.source,
            "kind": self.kind,
            "events": self.came,
            "new": self.new,
            "of no concern": self.reading.other,
            "unread": self.reading.unread,
            "state": state,
        }


def folder_of(session: Session) -> Documents:
    """Where events are kept."""
    return session.documents.under("report/audit")


def was_read(session: Session) -> bool:
    """Whether any log was read, or events of one are kept."""
    folder = folder_of(session)
    return bool(folder.entries() or folder.entries(DAYS))


def store_of(session: Session) -> AuditStore:
    """What is kept; nothing is read yet."""
    from registry_pipelines.report.audit.store import AuditStore

    return AuditStore(folder_of(session))


def read_logs(session: Session, names: Sequence[str] = ()) -> list[Read]:
    """Read what is new in the logs (all unless named) and keep it. A log that cannot be read is told beside the others.
    Raises InputError, LocalError, StateLocked (another process reads)."""
    sources = session.config.report.audit.sources
    if not sources:
        raise InputError("no log is configured", do="Name logs in `report.audit.sources` (docs/audit.md)")
    chosen = [settings_of(session, name).name for name in names] or list(sources)
    folder = folder_of(session)
    with folder.held("audit.lock", "another process reads the logs"):
        cursors = _Cursors(folder)
        done = [_read_one(session, name, cursors) for name in chosen]
        store_of(session).forget((session.now() - session.config.report.audit.keep).date())
    return done


def _read_one(session: Session, name: str, cursors: _Cursors) -> Read:
    now = session.now()
    oldest = now - min(session.config.report.audit.keep, FIRST_LOOK)
    done = Read(name, settings_of(session, name).kind, reading=Reading(cursor=cursors.of(name)))
    failed: list[RegistryPipelinesError] = []
    try:
        source = open_source(session, name)
        events = _until_error(source.read(done.reading, since=oldest, until=now), failed)
        done.came, done.new = store_of(session).add(_in_time(events, now, done))
        cursors.keep(name, done.reading.cursor)
    except RegistryPipelinesError as error:
        failed.append(error)
    done.error = failed[0] if failed else None
    return done


def _until_error(events: Iterator[Event], failed: list[RegistryPipelinesError]) -> Iterator[Event]:
    """What came before an error is kept, with the cursor that stands for it."""
    try:
        yield from events
    except RegistryPipelinesError as error:
        failed.append(error)


def _in_time(events: Iterable[Event], now: datetime, done: Read) -> Iterator[Event]:
    for event in events:
        if done.oldest is None or event.time < done.oldest:
            done.oldest = event.time
        if event.time > now + AHEAD:
            done.reading.note(f"an event is of {write_time(event.time)}, which is still to come: a clock is wrong")
        yield event


class _Cursors:
    """How far each log was read: a small document. A damaged one begins anew, which reads again what is kept."""

    def __init__(self, folder: Documents) -> None:
        self._folder = folder
        self._all: dict[str, dict[str, str]] = {}
        found = folder.read(CURSORS)
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            if found:
                self._all = msgspec.json.decode(found.content, type=ready(dict[str, dict[str, str]]))

    def of(self, name: str) -> dict[str, str]:
        """A copy, to be changed."""
        return dict(self._all.get(name, {}))

    def keep(self, name: str, cursor: dict[str, str]) -> None:
        """Raises LocalError."""
        self._all[name] = dict(cursor)
        self._folder.write(CURSORS, msgspec.json.encode(self._all))
