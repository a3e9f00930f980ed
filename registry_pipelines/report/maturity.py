"""How good the practice is, in four tiers, of an image and of a registry: each criterion with what it was read from.

Nobody fills in a questionnaire: an answer is ``yes`` only where evidence or a setting was read that says so. What was
not read is ``unknown``, and counts for no tier. Plain data and arithmetic; ``chain.maturity`` reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from registry_pipelines.progress import count_text

Answer = Literal["yes", "no", "unknown"]

TIERS: Mapping[int, str] = {
    1: "private access and lifecycle",
    2: "slim images and scanning",
    3: "caches, immutable tags, signing, monitoring",
    4: "streaming",
}
"""Each tier needs the ones below it."""

CRITERIA: Mapping[str, int] = {
    "private": 1,
    "lifecycle": 1,
    "slim": 2,
    "scanned": 2,
    "judged": 2,
    "immutable": 3,
    "signed": 3,
    "provenance": 3,
    "cached": 3,
    "monitored": 3,
    "streams": 4,
    "packed": 4,
    "measured": 4,
}
"""Each criterion and its tier, in the order in which they are worth doing.

``private``: nobody reads without an account. ``lifecycle``: a rule lets go of what is old. ``slim``: few bytes that
need not be there. ``scanned``: a signed report of late. ``judged``: a signed verdict by a policy that permits no
critical finding. ``immutable``: tags of versions cannot move. ``signed``, ``provenance``: by keys that are believed.
``cached``: nodes and builds have a copy near them. ``monitored``: somebody is told, and logs are read. ``streams``:
images start before they are fetched whole; ``packed``: with what the start reads in one piece; ``measured``: and that
was measured."""

OF_REGISTRY = ("private", "lifecycle", "immutable", "cached", "monitored")
"""What is asked of a registry itself; the others of a registry are those of its images together."""

MOST_WASTE = 0.1
"""Share of stored bytes that need not be there, above which an image is not slim."""
REPORT_DAYS = 7
"""A scan that is older says little: most advisories of a week are new."""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    name: str
    answer: Answer
    why: str
    """What was found, in a sentence without a full stop."""
    read_from: str
    """What was asked: a setting of the cloud, a field of the configuration, signed evidence."""
    evidence: str = ""
    """Digest of that evidence; empty for a setting."""
    do: str = ""
    """The command, or what to write, that leads to ``yes``; empty where it is."""

    @property
    def tier(self) -> int:
        """Of :data:`TIERS`."""
        return CRITERIA[self.name]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """An image or a registry with its answers, in the order of :data:`CRITERIA`."""

    kind: Literal["image", "registry"]
    name: str
    release: str = ""
    """The release whose evidence was read; empty for a registry, and for an image without one."""
    criteria: tuple[Criterion, ...]

    @property
    def tier(self) -> int:
        """The highest tier that is reached, with all below it; 0 for none."""
        reached = 0
        for tier in TIERS:
            if not all(each.answer == "yes" for each in self.criteria if each.tier == tier):
                break
            reached = tier
        return reached

    @property
    def next_step(self) -> Criterion | None:
        """The first criterion that keeps it from the next tier; None at the top."""
        open_ = (each for each in self.criteria if each.tier == self.tier + 1 and each.answer != "yes")
        return next(open_, None)

    def rows(self) -> list[dict[str, str | int]]:
        """The answers as a table."""
        return [
            {
                "tier": each.tier,
                "criterion": each.name,
                "answer": each.answer,
                "why": each.why,
                "read_from": each.read_from,
                "evidence": each.evidence,
                "do": each.do,
            }
            for each in self.criteria
        ]


class Maturity(msgspec.Struct, frozen=True, kw_only=True):
    """All of a configuration."""

    made_at: str
    subjects: tuple[Subject, ...]
    """Registries, then images, as the configuration has them."""
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, str | int]]:
        """Each subject in a line: how far it is, and what comes next."""
        return [_row(each) for each in self.subjects]

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        subjects = [
            {"kind": each.kind, "name": each.name, "release": each.release, "tier": each.tier, "criteria": each.rows()}
            for each in self.subjects
        ]
        return {"made_at": self.made_at, "subjects": subjects, "notes": list(self.notes)}


def _row(subject: Subject) -> dict[str, str | int]:
    following = subject.next_step
    counted = {answer: sum(each.answer == answer for each in subject.criteria) for answer in ("yes", "no", "unknown")}
    return {
        "subject": f"{subject.kind} {subject.name}",
        "tier": subject.tier,
        "practice": TIERS.get(subject.tier, "none yet"),
        **counted,
        "next": f"{following.name}: {following.why}" if following else "",
        "do": following.do if following else "",
    }


def in_order(criteria: Iterable[Criterion]) -> tuple[Criterion, ...]:
    """As a subject has them."""
    order = list(CRITERIA)
    return tuple(sorted(criteria, key=lambda each: order.index(each.name)))


def together(name: str, images: Sequence[Subject], registry: str) -> Criterion:
    """A criterion of a registry by that of its images: yes where it is of all, no where one says no, else unknown."""
    answers = {each.name: one for each in images for one in each.criteria if one.name == name}
    bad = [image for image, one in answers.items() if one.answer == "no"]
    open_ = [image for image, one in answers.items() if one.answer == "unknown"]
    read_from = f"its images of the configuration: {', '.join(answers) or 'none'}"
    if not answers:
        return Criterion(
            name=name, answer="unknown", why=f"no image of the configuration is in {registry}", read_from=read_from
        )
    if bad or open_:
        first = answers[(bad or open_)[0]]
        good = len(answers) - len(bad) - len(open_)
        why = f"{good} of {count_text(len(answers), 'image')}; not {', '.join([*bad, *open_])}"
        return Criterion(name=name, answer="no" if bad else "unknown", why=why, read_from=read_from, do=first.do)
    return Criterion(name=name, answer="yes", why=f"all of its images ({len(answers)})", read_from=read_from)
