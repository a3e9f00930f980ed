"""What events told last about scans, replications and caches, for whoever looks: one small file per registry.

The newest word about a thing counts, whatever order the messages come in and however often: so a file made of shuffled
and doubled messages is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.events.model import Event, PullThroughFailed, Pushed, Replicated, Scanned
from registry_pipelines.oci.decoding import ready
from registry_pipelines.shared.documents import Documents, change

MAX_KEPT = 2000
"""Of the newest; a fact has about 300 bytes."""
MAX_FILE_BYTES = 8 * 1024 * 1024

Topic = Literal["scan", "replication", "cache"]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """The newest word about one thing. at: RFC 3339, UTC. ok: whether it went well."""

    topic: Topic
    registry: str
    repository: str
    digest: str
    tag: str = ""
    source: str = ""
    """Region that a replica comes from, registry that a cache asks, or the scanner."""
    at: str
    ok: bool
    said: str

    @property
    def key(self) -> tuple[str, ...]:
        """What it is about."""
        named = self.tag if self.topic == "cache" or not self.digest else self.digest
        return self.topic, self.registry, self.repository, named, self.source

    @property
    def rank(self) -> tuple[str, bool, str]:
        """Of several words about one thing the greatest counts: the newest, then the worse."""
        return self.at, not self.ok, self.said


def fact_of(event: Event) -> Fact | None:
    """What an event says of the world outside of pushes; None for those that say nothing."""
    if isinstance(event, Replicated):
        said = "arrived" if event.ok else "the registry's own replication failed"
        return _fact("replication", event, source=event.source, ok=event.ok, said=said)
    if isinstance(event, Scanned):
        counts = ", ".join(f"{count} {name.lower()}" for name, count in sorted(event.counts.items()))
        said = f"{event.status}{f': {counts}' if counts else ''}"
        return _fact("scan", event, source=event.scanner, ok=event.state == "complete", said=said)
    if isinstance(event, PullThroughFailed):
        said = f"{event.code}: {event.reason}".strip(": ") or "the upstream did not answer"
        return _fact("cache", event, source=event.upstream, ok=False, said=said)
    if isinstance(event, Pushed) and event.upstream:
        return _fact("cache", event, source=event.upstream, ok=True, said="cached")
    return None


def _fact(
    topic: Topic, event: Scanned | Replicated | PullThroughFailed | Pushed, *, source: str, ok: bool, said: str
) -> Fact:
    return Fact(
        topic=topic,
        registry=event.registry,
        repository=event.repository,
        digest=event.digest,
        tag=event.tag,
        source=source,
        at=event.at,
        ok=ok,
        said=said,
    )


def merged(before: Iterable[Fact], new: Iterable[Fact]) -> list[Fact]:
    """The newest word about each thing, the newest first; independent of the order of both."""
    kept: dict[tuple[str, ...], Fact] = {}
    for fact in (*before, *new):
        known = kept.get(fact.key)
        if known is None or fact.rank > known.rank:
            kept[fact.key] = fact
    newest = sorted(kept.values(), key=lambda fact: (fact.rank, fact.key), reverse=True)
    return newest[:MAX_KEPT]


TOLD = "told.json"
"""In the folder of a registry's events."""


def read_told(folder: Documents) -> list[Fact]:
    """What is kept; a file that cannot be read begins anew. Raises LocalError."""
    found = folder.read(TOLD, most=MAX_FILE_BYTES)
    return _facts(found.content) if found else []


def _facts(raw: bytes) -> list[Fact]:
    try:
        return msgspec.json.decode(raw, type=ready(list[Fact]))
    except (msgspec.MsgspecError, UnicodeDecodeError, ManifestInvalid):
        return []


def tell(folder: Documents, facts: Iterable[Fact]) -> list[Fact]:
    """Add to what is kept, and give what was not told before. Raises LocalError."""
    facts, new = list(facts), list[Fact]()
    if not facts:
        return new

    def added(raw: bytes | None) -> bytes | None:
        nonlocal new
        before = _facts(raw) if raw is not None else []
        after, known = merged(before, facts), set(before)
        new = [fact for fact in after if fact not in known]
        return raw if after == before else msgspec.json.encode(after)

    change(folder, TOLD, added, most=MAX_FILE_BYTES)
    return new
