"""Which registries have an image whole, and so which of them can stand in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from registry_pipelines.errors import (
    ClosureIncomplete,
    ContentError,
    NotFound,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.verify import Mismatch, examine

AT_ONCE = 4
"""Images that are looked for at once; each comparison has threads of its own."""

MAX_NAMED = 3
MAX_DEPTH = 4
"""Indexes in indexes; nodes open two."""

Kind = Literal["there", "missing", "incomplete", "unknown"]


@dataclass(frozen=True)
class Wanted:
    """An image that must be at several registries. image: its name for people. why: what makes it wanted, as
    ``prod`` or ``in use: ...``. tag: that workloads may name it by; empty for none. places: by registry."""

    image: str
    digest: Digest
    why: str
    places: Mapping[str, Place]
    tag: str = ""


@dataclass(frozen=True)
class Standing:
    """How an image is at one registry. why: what is missing, or why nobody knows. unproved: evidence that another
    registry has and this one has not. tag: what the image's tag names there, where that is something else; ``-`` for
    nothing."""

    kind: Kind
    why: str = ""
    unproved: int = 0
    tag: str = ""

    @property
    def serves(self) -> bool:
        """Whether a node gets it there, whole."""
        return self.kind == "there"


@dataclass(frozen=True)
class Found:
    """An image, and how it is at each registry, in the order in which nodes ask them."""

    wanted: Wanted
    at: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def serving(self) -> list[str]:
        """Registries that have it whole, in order: the first is who nodes get it from, the second who stands in."""
        return [name for name, standing in self.at.items() if standing.serves]

    def told(self, name: str) -> str:
        """How it is at one registry, in a word or a few."""
        standing = self.at[name]
        return f"{standing.kind}: {standing.why}" if standing.why else standing.kind


def look_for(wanted: Sequence[Wanted], order: Sequence[str], down: Mapping[str, str]) -> list[Found]:
    """Ask every registry that can serve for every image. order: of registries, as nodes ask them. down: those that are
    not asked. One that answers no more is not asked again: else each image would wait for it, by minutes. Raises
    nothing that a registry said: that is an image's standing there."""
    silent = dict.fromkeys(down, "it is down")
    with Pool(AT_ONCE, "failover") as pool:
        return list(pool.map(lambda each: _look_for(each, order, silent), wanted))


def _look_for(wanted: Wanted, order: Sequence[str], silent: dict[str, str]) -> Found:
    at: dict[str, Standing] = {}
    source: Place | None = None
    for name in order:
        place = wanted.places[name]
        if name in silent:
            at[name] = Standing("unknown", silent[name])
            continue
        try:
            at[name] = _standing(wanted, place, source or place)
        except Unavailable as error:
            silent.setdefault(name, "it answered no more")
            at[name] = Standing("unknown", error.what)
        if at[name].serves and source is None:
            source = place
    return Found(wanted, at)


def _standing(wanted: Wanted, place: Place, source: Place) -> Standing:
    """source: where it is whole; the place itself as long as no other was. Raises Unavailable."""
    try:
        if digest_at(place, wanted.digest) is None:
            return Standing("missing")
        found = [each for each in examine(source, place, wanted.digest).differences if each.expected]
        fetched = _fetched(source, wanted.digest) if found else set()
        tag = _other(place, wanted) if wanted.tag else ""
    except (NotFound, ClosureIncomplete, ContentError) as error:
        return Standing("incomplete", error.what)
    except Unavailable:
        raise
    except RegistryPipelinesError as error:
        return Standing("unknown", error.what)
    lacking = [each for each in found if each.subject in fetched]
    if lacking:
        return Standing("incomplete", _named(lacking), tag=tag)
    return Standing("there", unproved=len(found), tag=tag)


def _fetched(place: Place, digest: Digest, depth: int = 1) -> set[str]:
    """What a node fetches of an image, whatever its platform; the rest of an image's closure is evidence about it."""
    content = place.registry.get_manifest(place.repository, digest).content()
    if not isinstance(content, Index):
        return {digest, content.config.digest, *(each.digest for each in content.layers)}
    below = [each.digest for each in content.manifests] if depth < MAX_DEPTH else []
    return {digest, *(part for each in below for part in _fetched(place, each, depth + 1))}


def _other(place: Place, wanted: Wanted) -> str:
    there = digest_at(place, wanted.tag)
    return "" if there == wanted.digest else there or "-"


def _named(lacking: Sequence[Mismatch]) -> str:
    named = ", ".join(f"{each.kind} {Digest.parse(each.subject).short}" for each in lacking[:MAX_NAMED])
    return f"it lacks {count_text(len(lacking), 'part')} of it: {named}"
