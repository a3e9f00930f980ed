"""What is judged: each image of a repository as one unit. Pure: no registry is asked here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from registry_pipelines.inventory.survey import Survey, companion_of
from registry_pipelines.oci.digest import Digest

Kind = Literal["image", "untagged", "orphan"]


@dataclass
class Unit:
    """One manifest with its tags. kind: ``image`` has a tag; ``untagged`` has none, and no index lists it; ``orphan``
    is evidence of something that is gone. reasons: why it stays; none means it may go. rule, why: which, and why
    it goes."""

    digest: Digest
    tags: tuple[str, ...]
    created: datetime | None
    reasons: list[str] = field(default_factory=list)
    kind: Kind = "image"
    rule: str = ""
    why: str = ""

    def keep(self, reason: str, rule: str = "") -> None:
        """A reason to stay; rule: whose it is."""
        self.reasons.append(reason)
        self.rule = self.rule or rule


def units_of(survey: Survey, companions: Mapping[str, tuple[Digest, ...]]) -> list[Unit]:
    """All units: the newest first, unknown ages last, then those without a tag in the same order. A digest-named tag
    belongs to what it names; where that is not there, the tag is an orphan."""
    tags: dict[Digest, list[str]] = {}
    for tag, digest in survey.tags.items():
        if not companions.get(tag):
            tags.setdefault(digest, []).append(tag)
    nodes = survey.nodes
    units = [Unit(digest, tuple(sorted(names)), nodes[digest].age_from) for digest, names in tags.items()]
    for unit in units:
        if companions and all(tag in companions for tag in unit.tags):
            unit.kind = "orphan"
            if any(companion_of(tag) in survey.unreadable for tag in unit.tags):
                unit.keep("what it is about cannot be read")
    return [*_ordered(units), *_ordered(_alone(survey, tags))]


def _ordered(units: Collection[Unit]) -> list[Unit]:
    dated = sorted((unit for unit in units if unit.created), key=lambda unit: (unit.created, unit.digest), reverse=True)
    return [*dated, *sorted((unit for unit in units if not unit.created), key=lambda unit: (unit.tags, unit.digest))]


def _alone(survey: Survey, judged: Collection[Digest]) -> list[Unit]:
    """Manifests without a tag that nothing here leads to: seen where a registry lists them, or by a tag named after
    them."""
    untagged = survey.nodes.keys() - judged
    if not untagged:
        return []
    led = set(survey.tags.values())
    for node in survey.nodes.values():
        led.update(node.children)
        led.update(node.referrers)
    found = []
    for digest in untagged - led:
        subject = survey.nodes[digest].subject
        if subject is None or subject not in survey.nodes:
            kind: Kind = "untagged" if subject is None else "orphan"
            found.append(Unit(digest, (), survey.nodes[digest].age_from, kind=kind))
    return found
