"""Events held against what is signed: channels that moved without a promotion, images that went without a plan, and
pushes by strangers.

Pure: who knows the evidence (``chain.audit_evidence``) answers the questions of :class:`Evidence`. What cannot be known
is an alert, too: a registry that does not answer excuses nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal, Protocol

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.registry.set_aside import is_quarantine, origin_of
from registry_pipelines.report.audit.model import Event

AlertKind = Literal["channel-move", "delete", "stranger"]
SKEW = timedelta(minutes=1)
"""Between the clock of whoever signs and that of a registry's log."""
TOGETHER = timedelta(minutes=15)
"""Two logs that tell of one deed do so within this time."""
NAMED_AFTER = timedelta(hours=1)
"""So long a log that says who may lag behind one that does not: CloudTrail comes within 15 minutes, mostly."""
MOST_ALERTS = 10_000
"""Of one look. More are counted: whoever has as many reads the first ones."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that nothing signed explains. id: the same in every look. said: what happened; do: what to do about it.
    event: the log entry's id, source: in which log. acknowledged: by whom and why, empty while it stands open."""

    id: str
    kind: AlertKind
    time: datetime
    who: str
    registry: str
    repository: str
    digest: str = ""
    tag: str = ""
    source: str
    event: str
    said: str
    do: str
    acknowledged: str = ""


class Evidence(Protocol):
    """What alerts are judged by. Errors of registries may be raised by all methods; they become alerts."""

    def channel(self, event: Event) -> tuple[str, bool] | None:
        """Of a push of a tag that is a channel there: the image, and whether that is its source; else None."""
        ...

    def promotions(self, image: str, channel: str, digest: str) -> Sequence[datetime]:
        """When believed records put a channel on a digest. Empty for none."""
        ...

    def explained(self, event: Event) -> str:
        """What let an image go: a plan; empty where nothing did."""
        ...

    def says_who(self, registry: str) -> bool:
        """Whether there is a log of a registry that names callers."""
        ...


@dataclass
class Judgement:
    """alerts: oldest first, those acknowledged too. explained: by log entry, what explains a deletion. looked: events
    that were judged. pending: pushes of which no log says yet who did them. more: alerts that were not kept.
    problems: evidence that cannot be believed."""

    alerts: list[Alert] = field(default_factory=list)
    explained: dict[str, str] = field(default_factory=dict)
    looked: int = 0
    pending: int = 0
    more: int = 0
    problems: list[str] = field(default_factory=list)


class Judge:
    """Judges events in the order of time. pushers: see ``settings.AuditSettings``. named: of deeds that a log without
    names told, when others told of them (:func:`deeds`)."""

    def __init__(
        self,
        evidence: Evidence,
        pushers: Mapping[str, Sequence[str]],
        *,
        now: datetime,
        named: Mapping[tuple[str, ...], Sequence[datetime]],
    ) -> None:
        self._evidence, self._pushers, self._now, self._named = evidence, pushers, now, named
        self._channels: dict[tuple[str, str, str], tuple[str, datetime | None]] = {}
        self.judgement = Judgement()

    def remember(self, event: Event) -> None:
        """Keep what a channel named before the time that is judged."""
        if event.tag and event.digest and self._evidence.channel(event) is not None:
            key = event.registry, event.repository, event.tag
            if self._channels.get(key, ("", None))[0] != event.digest:
                self._channels[key] = event.digest, event.time

    def look(self, event: Event) -> None:
        """Judge one event."""
        if event.refused or event.action not in ("push", "delete"):
            return
        if not _says_who(event) and self._told_elsewhere(event):
            return
        self.judgement.looked += 1
        if event.action == "delete":
            if not event.service:
                self._deletion(event)
            return
        self._move(event)
        if not event.service:
            self._stranger(event)

    def _told_elsewhere(self, event: Event) -> bool:
        times = (time for key in _asked_keys(event) for time in self._named.get(key, ()))
        return any(abs(time - event.time) <= TOGETHER for time in times)

    def _deletion(self, event: Event) -> None:
        try:
            why = self._evidence.explained(event)
        except RegistryPipelinesError as error:
            self._alert("delete", event, f"{event.image} went, and plans cannot be read: {error.what}", error.do)
            return
        if why:
            self.judgement.explained[event.id] = why
            return
        whole = not (event.digest or event.tag)
        what = f"{event.image} with all of its images" if whole else event.image
        self._alert(
            "delete",
            event,
            f"{_who(event)} deleted {what}, and no signed plan says so",
            "Ask whoever did it; bring the image back from a backup (`recover restore`) or a replica if it is needed",
        )

    def _move(self, event: Event) -> None:
        if not event.tag:
            return
        found = self._evidence.channel(event)
        if found is None:
            return
        image, at_source = found
        key = event.registry, event.repository, event.tag
        before, moved = self._channels.get(key, ("", None))
        if event.digest and event.digest == before:
            return
        self._channels[key] = event.digest, event.time
        where = f"the channel {event.tag} of {image} was moved at {event.registry}"
        do = f"Put it back: `registry-pipelines promote {image}:VERSION` moves {event.tag} to a release that may go"
        if not event.digest:
            self._alert("channel-move", event, f"{where}, and the log does not say to what", do)
            return
        try:
            times = self._evidence.promotions(image, event.tag, event.digest)
        except RegistryPipelinesError as error:
            self._alert("channel-move", event, f"{where}, and its records cannot be read: {error.what}", error.do or do)
            return
        in_time = [each for each in times if each <= event.time + SKEW]
        if not in_time:
            self._alert("channel-move", event, f"{where} to {event.digest} by {_who(event)} without a promotion", do)
        elif at_source and moved is not None and max(in_time) < moved - SKEW:
            said = f"{where} back to {event.digest} by {_who(event)} without a promotion since it left it"
            self._alert("channel-move", event, said, do)

    def _stranger(self, event: Event) -> None:
        if not self._pushers:
            return
        own_name = origin_of(event.repository) if is_quarantine(event.repository) else event.repository
        names = own_name, f"{event.registry}/{own_name}"
        own = [who for pattern, who in self._pushers.items() if any(fnmatchcase(name, pattern) for name in names)]
        if not event.who:
            if not self._evidence.says_who(event.registry):
                return
            if self._now - event.time < NAMED_AFTER:
                self.judgement.pending += 1
                return
            said = f"{event.image} was pushed, and no log says by whom"
            self._alert("stranger", event, said, "Look whether the log that names callers is whole (docs/audit.md)")
            return
        if any(fnmatchcase(event.who, pattern) for patterns in own for pattern in patterns):
            return
        known = "is none of its pushers" if own else "and nobody is named for that repository"
        self._alert(
            "stranger",
            event,
            f"{event.who} pushed {event.image}, {known}",
            "Ask whoever that is; take the rights away, or name them in `report.audit.pushers`",
        )

    def _alert(self, kind: AlertKind, event: Event, said: str, do: str) -> None:
        if len(self.judgement.alerts) >= MOST_ALERTS:
            self.judgement.more += 1
            return
        self.judgement.alerts.append(
            Alert(
                id=alert_id(kind, event),
                kind=kind,
                time=event.time,
                who=event.who,
                registry=event.registry,
                repository=event.repository,
                digest=event.digest,
                tag=event.tag,
                source=event.source,
                event=event.id,
                said=said,
                do=do,
            )
        )


def deeds(anonymous: Iterable[Event], named: Iterable[Event]) -> dict[tuple[str, ...], list[datetime]]:
    """Of the deeds that a log without names told, when a log with names told of the same."""
    wanted = {key for event in anonymous for key in _asked_keys(event)}
    found: dict[tuple[str, ...], list[datetime]] = defaultdict(list)
    if wanted:
        for event in named:
            for key in _told_keys(event) if _says_who(event) else ():
                if key in wanted:
                    found[key].append(event.time)
    return dict(found)


def alert_id(kind: AlertKind, event: Event) -> str:
    """The same for the same log entry, in every look and on every machine."""
    facts = (kind, event.registry, event.repository, event.digest, event.tag, event.id)
    return f"{kind}-{hashlib.sha256(chr(0).join(facts).encode()).hexdigest()[:12]}"


def _asked_keys(event: Event) -> list[tuple[str, ...]]:
    """What a log with names may call the same deed: the digest; the tag only where one of both has no digest, for a tag
    may be moved twice in a minute."""
    common: tuple[str, ...] = (event.action, event.registry, event.repository)
    if event.digest:
        return [(*common, event.digest), *([(*common, event.tag, "")] if event.tag else [])]
    return [(*common, event.tag)] if event.tag else []


def _told_keys(event: Event) -> list[tuple[str, ...]]:
    """See :func:`_asked_keys`; of a tag without a digest that, too."""
    common: tuple[str, ...] = (event.action, event.registry, event.repository)
    keys = [(*common, each) for each in (event.digest, event.tag) if each]
    return keys if event.digest or not event.tag else [*keys, (*common, event.tag, "")]


def _says_who(event: Event) -> bool:
    return bool(event.who or event.service)


def _who(event: Event) -> str:
    return event.who or "somebody"


__all__ = ["Alert", "AlertKind", "Evidence", "Judge", "Judgement", "alert_id", "deeds"]
