"""Where a release is, read from the registries: everywhere it must be, or, not let go, nowhere but at its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_pipelines.chain.result import WAITS, held_text
from registry_pipelines.errors import PromotionDenied
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.chain import Chain


@dataclass(frozen=True)
class Outcome:
    """What the registries show about a release."""

    release: Release
    ships: bool
    """Whether signed evidence at the source says that it was promoted and is still allowed."""
    reasons: tuple[str, ...]
    """Why it does not ship, or what was accepted so that it ships."""
    present_at: tuple[str, ...]
    absent_from: tuple[str, ...]
    problems: tuple[str, ...]
    """Where the registries contradict the verdict: missing at a place, or present where it does not ship."""
    waits: bool = False
    """Whether it is allowed, and nobody has let it go."""
    held: str = ""
    """Of one that is allowed: what its policy wants before it is promoted, ``recording`` or ``measurement``."""

    def sentence(self) -> str:
        """The same in one sentence, for people."""
        if self.ships:
            return f"{self.release.image}:{self.release.tag} ships; it is at {', '.join(self.present_at)}"
        why = f"is {WAITS}" if self.waits else f"is allowed, {held_text(self.held)}" if self.held else "is denied"
        return f"{self.release.image}:{self.release.tag} {why}; it is not at {', '.join(self.absent_from)}"

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "release": self.release.key,
            "ships": self.ships,
            "waits": self.waits,
            "held": self.held,
            "reasons": list(self.reasons),
            "present_at": list(self.present_at),
            "absent_from": list(self.absent_from),
            "problems": list(self.problems),
        }


def outcomes(chain: Chain, release: Release) -> Outcome:
    """Read the verdict at the source, and look for the release by digest and by tag at every target and mirror stop.

    Raises RegistryError when a registry does not answer: that is never taken for absence.
    """
    try:
        reasons = chain.require_promoted(release)
        ships, waits, held = True, False, ""
    except PromotionDenied as error:
        reasons, ships = error.reasons, False
        [status] = chain.release_statuses([release])
        held = status.held
        waits = status.ruling == "allow" and not held
    present: list[str] = []
    absent: list[str] = []
    problems: list[str] = []
    due = [*chain.targets_of(release), *_mirrors_of(chain, release)] if ships else []
    for name, end, place in _required_places(chain, release):
        arrived = _is_at(place, release)
        (present if arrived else absent).append(name)
        if arrived != (end in due):
            problems.append(f"{release.image}:{release.tag} is {'at' if arrived else 'missing at'} {name}")
    if ships:
        for target in chain.targets_of(release):
            problems += [f"{target}: {each}" for each in chain.compare_replica(release, target).differences]
    return Outcome(release, ships, tuple(reasons), tuple(present), tuple(absent), tuple(problems), waits, held)


def _mirrors_of(chain: Chain, release: Release) -> list[str]:
    """Mirrors take what came to the last channel."""
    order = chain.config.images[release.image].order
    return chain.mirrors(release.image) if order[-1].name in chain.channels_reached(release) else []


def _required_places(chain: Chain, release: Release) -> Iterator[tuple[str, str, Place]]:
    """Everywhere that a release of the image may come to be: how that is called, which target or mirror, and where."""
    for target in chain.targets(release.image):
        yield target, target, chain.target_place(release.image, target)
    for mirror in chain.mirrors(release.image):
        for place in chain.mirror_places(release.image, mirror):
            yield f"{mirror} ({place})", mirror, place


def _is_at(place: Place, release: Release) -> bool:
    """By digest or under its version tag: either would let somebody pull it."""
    return any(digest_at(place, reference) == release.digest for reference in (release.digest, release.tag))
