"""What registries tell by themselves, as the images of a configuration are concerned by it.

Nothing is believed of an event but that it is time to ask: a push names a tag, which the registry is then asked for. So
events that are doubled, late, out of order or made up lead to what a look at everything would have found.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config, EcrRegistry, GarRegistry
from registry_pipelines.errors import InputError
from registry_pipelines.events.aside import keep_aside
from registry_pipelines.events.model import (
    OF_IMAGES,
    Archived,
    Deleted,
    Event,
    Pushed,
    Replicated,
    Restored,
    Scanned,
)
from registry_pipelines.events.told import Fact, fact_of, read_told, tell
from registry_pipelines.progress import count_text
from registry_pipelines.shared.documents import Documents

AHEAD = timedelta(hours=1)
"""Of a message's clock before ours. The newest word counts: one from far ahead would outlast all that follow."""
STRANGE = 10
"""So many messages at once that nobody can read, and no other, are those of another program's queue. They are dropped
by nobody then: a queue that is named by mistake loses nothing."""

if TYPE_CHECKING:
    from registry_pipelines.events.source import EventSource, Received


@dataclass
class Heard:
    """What messages told, by image of the configuration.

    tags: what was pushed, by tag. gone: digests that were deleted or archived. whole: images to be looked at whole,
    since no tag is told. scanned: digests of which a scan has ended. receipts: of the messages, each with the images
    that it concerns. facts: the new word on scans, replications and caches, each with the images that it concerns; what
    was told before is not among them. notes: what a person should know, one sentence each.
    """

    messages: int = 0
    tags: dict[str, set[str]] = field(default_factory=dict)
    gone: dict[str, set[str]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    scanned: dict[str, set[str]] = field(default_factory=dict)
    receipts: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    facts: list[tuple[Fact, tuple[str, ...]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[str]:
        """Those whose registry is to be asked, sorted."""
        return sorted({*self.tags, *self.gone, *self.whole})

    def receipts_without(self, images: Collection[str]) -> list[str]:
        """Of the messages that concern none of these images: of those that nothing is left to do about."""
        return [receipt for receipt, concerned in self.receipts if concerned.isdisjoint(images)]


def settings_of(session: Session, registry: str) -> EcrRegistry | GarRegistry:
    """A registry that has events. Raises InputError."""
    settings = session.config.registries.get(registry)
    if not isinstance(settings, EcrRegistry | GarRegistry) or settings.events is None:
        raise InputError(
            f"the registry {registry!r} has no `events`",
            do="Name its queue: registries.NAME.events (docs/events.md)",
        )
    return settings


def told_registries(config: Config) -> list[str]:
    """Registries that tell of their pushes, as the configuration names their queues."""
    return [
        name
        for name, each in config.registries.items()
        if isinstance(each, EcrRegistry | GarRegistry) and each.events is not None
    ]


def source_of(session: Session, registry: str) -> EventSource:
    """The queue of a registry; nothing is asked yet. Raises InputError for a registry without one."""
    settings = settings_of(session, registry)
    if isinstance(settings, EcrRegistry):
        from registry_pipelines.events.sqs import SqsSource

        assert settings.events is not None  # noqa: S101  for mypy; see settings_of
        return SqsSource(session.places.aws(settings).access, settings.events.sqs)
    from registry_pipelines.events.pubsub import PubSubSource

    assert settings.events is not None  # noqa: S101
    return PubSubSource(session.places.google(settings).access, settings.events.pubsub)


def folder_of(session: Session, registry: str) -> Documents:
    """Where what events told of a registry is kept."""
    return session.documents.under(f"events/{registry}")


def told(session: Session, registry: str) -> list[Fact]:
    """See ``Chain.told``. Raises InputError for a registry without events, LocalError."""
    settings_of(session, registry)
    return read_told(folder_of(session, registry))


def hear(session: Session, registry: str, *, most: int, hold_s: int) -> Heard:
    """See ``Chain.hear``. What cannot be read is on disk before anybody may acknowledge it."""
    messages = source_of(session, registry).receive(most, hold_s=hold_s)
    heard = Heard(messages=len(messages))
    if not messages:
        return heard
    moment = datetime.now(UTC)
    now, latest = (each.strftime("%Y-%m-%dT%H:%M:%SZ") for each in (moment, moment + AHEAD))
    folder = folder_of(session, registry)
    if len(messages) >= STRANGE and not any(message.event for message in messages):
        heard.notes += keep_aside(folder.under("aside"), messages[:1], at=now)
        heard.notes.append(
            f"of {count_text(len(messages), 'message')} none can be read: is it another's queue? They stay in it"
        )
        return heard
    heard.notes += keep_aside(folder.under("aside"), messages, at=now)
    if any(
        each.kind == "events" and each.registry == registry for each in session.config.report.audit.sources.values()
    ):
        from registry_pipelines.chain.audit_sources import names_of  # few configurations have an audit
        from registry_pipelines.events.heard import keep_heard

        keep_heard(folder, [each.event for each in messages if each.event is not None], names=names_of(session))
    hosts, images = hosts_of(settings_of(session, registry)), _images_by_repository(session, registry)
    strangers = 0
    for message in messages:
        strangers += _take(heard, message, hosts, images)
    if strangers:
        heard.notes.append(f"{count_text(strangers, 'message')} about other registries")
    coming = [fact for fact, _ in heard.facts if fact.at > latest]
    if coming:
        heard.notes.append(f"{count_text(len(coming), 'message')} about what is still to come, not taken")
        heard.facts = [(fact, named) for fact, named in heard.facts if fact.at <= latest]
    new = tell(folder, [fact for fact, _ in heard.facts])
    heard.facts = [(fact, named) for fact, named in dict(heard.facts).items() if fact in new]
    return heard


def hosts_of(settings: EcrRegistry | GarRegistry) -> frozenset[str]:
    """Names that a registry's own events have for it, whatever it is reached by."""
    if isinstance(settings, EcrRegistry):
        from registry_pipelines.registry.ecr.hosts import EcrHost

        return frozenset({EcrHost(settings.account, settings.region).name})
    return frozenset({f"{settings.location}-docker.pkg.dev", settings.host})


@dataclass(frozen=True)
class _Images:
    """Images by repository: of those whose releases appear in this registry, and of those that are copied to it."""

    sources: dict[str, list[str]]
    copies: dict[str, list[str]]


def _images_by_repository(session: Session, registry: str) -> _Images:
    config, found = session.config, _Images({}, {})
    for name, image in config.images.items():
        if image.registry == registry:
            found.sources.setdefault(image.repository, []).append(name)
        for target in (config.targets[each] for each in image.targets):
            if target.registry == registry:
                found.copies.setdefault(config.repository_at(image, target), []).append(name)
    return found


def _take(heard: Heard, message: Received, hosts: Collection[str], images: _Images) -> bool:
    """Add a message; whether it is about another registry."""
    event = message.event
    if event is None or not isinstance(event, OF_IMAGES) or event.registry not in hosts:
        heard.receipts.append((message.receipt, frozenset()))
        return event is not None and event.registry not in ("", *hosts)
    named = images.sources.get(event.repository, [])
    if fact := fact_of(event):
        heard.facts.append((fact, (*named, *images.copies.get(event.repository, []))))
    for name in named:
        _hint(heard, name, event)
    heard.receipts.append((message.receipt, frozenset(named)))
    return False


def _hint(heard: Heard, name: str, event: Event) -> None:
    if isinstance(event, Pushed | Replicated) and event.tag:
        heard.tags.setdefault(name, set()).add(event.tag)
    elif isinstance(event, Deleted | Archived) and event.digest:
        heard.gone.setdefault(name, set()).add(event.digest)
    elif isinstance(event, Restored):
        heard.whole.add(name)
    elif isinstance(event, Scanned) and event.digest and event.state != "other":
        heard.scanned.setdefault(name, set()).add(event.digest)
