"""One event of a registry's log, whichever registry and whichever log.

Nothing here loads Arrow: the server of a registry writes such events, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, Protocol

import msgspec

Action = Literal["push", "delete", "pull", "layer", "settings", "login"]
"""push: a manifest was written, or a tag set. delete: an image or a tag went. pull: a manifest was read by somebody.
layer: a blob was given out. settings: a registry, a repository, a policy or a rule was changed. login: a token was
asked for."""
ACTIONS: tuple[Action, ...] = ("push", "delete", "pull", "layer", "settings", "login")

Service = Literal["", "lifecycle", "replication", "cache", "scan"]
"""What of the cloud's own did it, by a rule that somebody set: not a caller. Empty: a caller did."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MOST_TEXT = 1000
"""Characters of any field: a log is written by whoever calls a registry."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did, or tried to.

    time: UTC, by the log's own clock. who: ARN, e-mail address or user name, as the log has it; empty where the log
    does not say (EventBridge), ``anonymous`` where nobody logged in. registry: its name in the configuration, or its
    host. repository: without the host. digest, tag: empty where the log has none. source: which log, by its name in the
    configuration. id: of the log's own entry, with a place behind it where one entry tells of several images: the same
    event has the same id, however often and by whichever way it comes. operation: as the log calls it, ``PutImage``.
    refused: why it was not done, the registry's own code; empty for what was done. service: what of the cloud's own
    acted. address, agent: where it came from. detail: of a change of settings, what was set. size: bytes; -1 unknown.
    """

    time: datetime
    who: str = ""
    action: Action
    registry: str
    repository: str = ""
    digest: str = ""
    tag: str = ""
    source: str
    id: str
    operation: str = ""
    refused: str = ""
    service: Service = ""
    address: str = ""
    agent: str = ""
    detail: str = ""
    size: int = -1

    @property
    def micros(self) -> int:
        """Microseconds since 1970."""
        return (self.time - EPOCH) // _MICROSECOND

    @property
    def image(self) -> str:
        """``registry/repository:tag@digest``, as far as it is known."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


Names = Callable[[str], str]
"""What the configuration calls a host; the host itself where it has none."""

MOST_NOTES = 5
"""Of one kind, sentences about entries that cannot be read; the rest are counted."""


@dataclass
class Reading:
    """What reading a log tells beside its events. cursor: how far it was read, plain words that the source alone
    understands; kept once all that it yielded is on disk. unread: entries that could not be read. other: entries of no
    concern: reads of settings, uploads that are no image yet, other services. notes: sentences for people. whole: False
    where the log has more than was read: the next run goes on there."""

    cursor: dict[str, str] = field(default_factory=dict)
    unread: int = 0
    other: int = 0
    notes: list[str] = field(default_factory=list)
    whole: bool = True

    def cannot(self, sentence: str, count: int = 1) -> None:
        """Something of the log cannot be read."""
        self.unread += count
        self.note(sentence)

    def note(self, sentence: str) -> None:
        """Keep a sentence, once; of many the first."""
        if sentence not in self.notes and len(self.notes) < MOST_NOTES:
            self.notes.append(sentence)


class LogSource(Protocol):
    """One log. Nothing is asked before the first event is."""

    where: str
    """The log, for messages."""

    def read(self, reading: Reading, *, since: datetime, until: datetime) -> Iterator[Event]:
        """Events that are new by ``reading.cursor``, in any order and some perhaps twice, and no older than ``since``.
        until: now. The cursor moves while it goes on: after whatever was yielded, what it says is right. Raises the
        RegistryError family, InputError, LocalError, ToolMissing."""
        ...


def moment(micros: int) -> datetime:
    """The time of so many microseconds since 1970."""
    return EPOCH + micros * _MICROSECOND


def utc(moment: datetime) -> datetime:
    """A time of a log in UTC; one without a zone is that. Raises ValueError for a year that no log is of: sums and
    other zones of it cannot be told."""
    if not 1970 < moment.year < 9000:
        raise ValueError(f"an event of the year {moment.year}")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def plain(text: object) -> str:
    """A field of a log as one line without control characters, cut."""
    return _plain(text) if isinstance(text, str) else ""


@lru_cache(maxsize=32_768)  # callers, repositories and clients stand in a log a thousand times
def _plain(text: str) -> str:
    if len(text) > MOST_TEXT:
        text = text[:MOST_TEXT]
    return text if text.isprintable() else " ".join("".join(c if c.isprintable() else " " for c in text).split())


__all__ = ["ACTIONS", "Action", "EPOCH", "Event", "LogSource", "Names", "Reading", "Service", "moment", "plain", "utc"]
