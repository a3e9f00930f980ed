"""What queues of events told (``chain.events``), kept as lines until an audit reads them: a message of a queue is read
by one sensor alone, and is gone then.

EventBridge and the topic ``gcr`` do not say who did it; CloudTrail and Google's audit logs do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from registry_pipelines.events import model as told
from registry_pipelines.events.kept_lines import lines_of
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.times import read_time
from registry_pipelines.report.audit.model import Action, Event, Names, Reading, Service, plain
from registry_pipelines.shared.documents import Documents

STEM = "audit"


def audit_event(event: told.Event, *, names: Names, now: datetime) -> Event | None:
    """What a message tells of who did what; None for scans, caches that failed and other kinds."""
    about: tuple[Action, Service]
    if isinstance(event, told.Pushed):
        about = ("push", "cache" if event.upstream else "")
    elif isinstance(event, told.Replicated):
        about = ("push", "replication")
    elif isinstance(event, told.Deleted):
        about = ("delete", "")
    elif isinstance(event, told.Archived | told.Restored):
        about = ("settings", "")
    else:
        return None
    if isinstance(event, told.Replicated) and not event.ok:
        return None
    facts = (event.at, event.registry, event.repository, event.digest, event.tag, type(event).__name__)
    return Event(
        time=read_time(event.at) or now,
        action=about[0],
        service=about[1],
        registry=names(event.registry),
        repository=plain(event.repository),
        digest=plain(str(event.digest)),
        tag=plain(event.tag),
        source="",
        id=plain(event.id) or hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()[:32],
        operation=type(event).__name__,
    )


def keep_heard(folder: Documents, events: Iterable[told.Event], *, names: Names) -> None:
    """Keep what messages told for the next audit. Raises LocalError, DiskFull."""
    now = datetime.now(UTC)
    found = [each for event in events if (each := audit_event(event, names=names, now=now)) is not None]
    if found:
        lines_of(folder, STEM).add(b"".join(msgspec.json.encode(each) + b"\n" for each in found))


class HeardEvents:
    """What the sensor of one registry's events kept. folder: where."""

    def __init__(self, name: str, folder: Documents) -> None:
        self.where, self._name, self._lines = folder.where, name, lines_of(folder, STEM)

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """See LogSource."""
        for line in self._lines.new(reading):
            try:
                event = msgspec.json.decode(line, type=ready(Event))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                reading.cannot(f"a kept event cannot be read: {plain(str(error))[:200]}")
                continue
            if event.time >= since:
                yield msgspec.structs.replace(event, source=self._name)


__all__ = ["HeardEvents", "audit_event", "keep_heard"]
