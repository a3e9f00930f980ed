"""What must stay in a registry, whoever plans or applies: one value that ``chain.live.live_digests`` makes.

Plain data, so that a plan, its application and tests take the same. Digests are live in every repository of the
registry (a workload says what runs, and a tag may have moved since), or in one repository alone (a push of an hour
ago). A *stop* is what could not be known: a source of ``usage`` that is stale or does not answer stops what it
could have spoken of, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from registry_pipelines.collect.rules import matches
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text

SHOWN = 10
"""Uses that are named in a note; all are counted."""


class Pushes(Protocol):
    """Who knows when tags came."""

    def recent(self, repository: str, tags: Mapping[str, Digest]) -> Mapping[Digest, str]:
        """Of the digests that tags of a repository name those that came lately, each with when. Raises RegistryError:
        what is not known is never old."""
        ...


class NoPushes:
    """Nobody looks when tags came."""

    def recent(self, repository: str, tags: Mapping[str, Digest]) -> Mapping[Digest, str]:
        """None."""
        return {}


class Crossings(Protocol):
    """Who knows what has still to go on from a registry."""

    def awaited(self, repository: str, tags: Mapping[str, Digest], going: Container[Digest]) -> Mapping[Digest, str]:
        """Of the digests that would go those that are not yet where a sync or a mirror brings them, each with where to.
        tags: all of the repository. Raises RegistryError: a place that does not answer has nothing yet."""
        ...


class NothingCrosses:
    """Nothing goes on from there."""

    def awaited(self, repository: str, tags: Mapping[str, Digest], going: Container[Digest]) -> Mapping[Digest, str]:
        """None."""
        return {}


class Named(NamedTuple):
    """A use by digest, of a repository by this registry's own name. tag: beside the digest, empty for none."""

    digest: Digest
    tag: str
    source: str
    why: str


class Front(NamedTuple):
    """How far an image's releases came: what its first channel names. is_release: whether a tag is one of its releases.
    why: for people, ``what staging of app names``."""

    digest: Digest
    is_release: Callable[[str], bool]
    why: str


@dataclass(frozen=True)
class Stop:
    """What could not be known, so that nothing goes. source: who should have said it. why: one sentence without the
    source's name. repositories: patterns of those it could have spoken of, as the registry has them. unknown: what."""

    source: str
    why: str
    repositories: tuple[str, ...] = ("*",)
    unknown: str = "who runs what"

    def __str__(self) -> str:
        where = "" if "*" in self.repositories else f" (of {', '.join(self.repositories)})"
        return f"{self.unknown} is not known: {self.source}: {self.why}; nothing goes until it is{where}"


@dataclass(frozen=True)
class Live:
    """What stays in one registry.

    digests: in every repository, each with why, in a sentence. contents: ids of images (digests of their configs), for
    runtimes that tell no other. at: repository to digests, for what is live in that one alone. named: repository to
    what is said to run from it. busy: repository to what is being pushed there: nothing without a tag goes meanwhile,
    for what names it may be on its way. fronts: repository to how far the releases of its image came: newer ones may
    still be promoted. stops: what could not be known. notes: for people. pushes: who is asked when
    the tags came that a look at a repository found. crossings: who is asked whether what would go is where it is to be
    brought.
    """

    digests: Mapping[Digest, str] = field(default_factory=dict)
    contents: Mapping[Digest, str] = field(default_factory=dict)
    at: Mapping[str, Mapping[Digest, str]] = field(default_factory=dict)
    named: Mapping[str, Sequence[Named]] = field(default_factory=dict)
    busy: Mapping[str, str] = field(default_factory=dict)
    fronts: Mapping[str, Front] = field(default_factory=dict)
    stops: tuple[Stop, ...] = ()
    notes: tuple[str, ...] = ()
    pushes: Pushes = field(default_factory=NoPushes)
    crossings: Crossings = field(default_factory=NothingCrosses)

    @classmethod
    def of(cls, in_use: Live | Mapping[Digest, str] | Collection[Digest | str]) -> Live:
        """From digests alone, or these with who needs them. Raises DigestInvalid: a tag is none."""
        if isinstance(in_use, Live):
            return in_use
        reasons = in_use if isinstance(in_use, Mapping) else dict.fromkeys(in_use, "in use")
        return cls({Digest.parse(one): why for one, why in reasons.items()})

    @property
    def anything(self) -> bool:
        """Whether anything at all is live, beside what came lately and was not looked for yet."""
        return bool(self.digests or self.contents or self.at)

    def why(self, repository: str, digest: Digest) -> str:
        """Why a manifest stays in a repository; empty where nothing here keeps it. Stops are asked apart."""
        return self.at.get(repository, {}).get(digest, "") or self.digests.get(digest, "")

    def why_content(self, blobs: Iterable[Digest]) -> str:
        """Why an image stays that has these blobs, its config among them; empty where none of them is needed."""
        if not self.contents:
            return ""
        return next((why for blob in blobs if (why := self.contents.get(blob))), "")

    def stopped(self, repository: str) -> str:
        """What has to be known before anything of a repository may go; empty when all is."""
        return "; ".join(str(stop) for stop in self.stops if matches(repository, stop.repositories))

    def seen(self, repository: str, tags: Mapping[str, Digest]) -> Live:
        """This, with what a look at a repository's tags shows: what came lately, and what they name now where something
        was started by tag and runs by another digest (a child of it, or what the tag named before): it is what starts
        next. Raises as :meth:`Pushes.recent`."""
        found = dict(self.pushes.recent(repository, tags))
        for use in self.named.get(repository, ()):
            now = tags.get(use.tag)
            if now is not None and now != use.digest:
                found.setdefault(now, use.why)
        return self._with(repository, found)

    def awaited(self, repository: str, tags: Mapping[str, Digest], going: Container[Digest]) -> Live:
        """This, with what would go and has still to be brought elsewhere. Raises as :meth:`Crossings.awaited`."""
        return self._with(repository, self.crossings.awaited(repository, tags, going))

    def _with(self, repository: str, found: Mapping[Digest, str]) -> Live:
        if not found:
            return self
        return replace(self, at={**self.at, repository: {**found, **self.at.get(repository, {})}})

    def unknown(self, known: Mapping[str, Container[Digest]]) -> list[str]:
        """Notes about digests that are said to run from repositories and are not there: of another registry, or never
        pushed. They hide nothing. known: of each repository that was read, the manifests in it."""
        strange = {
            f"{use.source} names {repository}@{use.digest.short} ({use.why})": None
            for repository, uses in self.named.items()
            for use in uses
            if repository in known and use.digest not in known[repository]
        }
        if not strange:
            return []
        shown, more = list(strange)[:SHOWN], len(strange) - SHOWN
        left = f"; and {more} more" if more > 0 else ""
        return [f"{count_text(len(strange), 'use')} of digests that are not there: {'; '.join(shown)}{left}"]
