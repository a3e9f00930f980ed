"""Which manifests of a repository stay, and why; which may go, and in what order. Pure: no registry is asked here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry_pipelines.collect.live import Live
from registry_pipelines.collect.reasons import (
    Ruled,
    is_of_the_future,
    keep_by_rule,
    keep_needed,
    keep_unruled,
    say_incomplete,
)
from registry_pipelines.collect.rules import RetentionRule, label
from registry_pipelines.collect.steps import sequence
from registry_pipelines.collect.units import Unit, units_of
from registry_pipelines.inventory.survey import Survey, reachable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.model import MADE_FORMS


@dataclass(frozen=True)
class Decision:
    """What :func:`decide` says. units: all judged, newest first, but that what needs another one goes before it. live:
    every manifest that stays. steps: per unit that goes, what is deleted, in order; units go in this order too."""

    units: Sequence[Unit]
    live: frozenset[Digest]
    steps: dict[Digest, tuple[Digest, ...]]


def decide(survey: Survey, rules: Sequence[RetentionRule], *, now: datetime, in_use: Live) -> Decision:
    """As :func:`decide_ruled`, for rules without a policy. Without a rule for a repository, everything stays."""
    ruled = [Ruled(rule, label(rule, number)) for number, rule in enumerate(rules, 1)]
    return decide_ruled(survey, ruled, now=now, in_use=in_use)


def decide_ruled(
    survey: Survey, rules: Sequence[Ruled], *, now: datetime, in_use: Live, only: Collection[Digest] | None = None
) -> Decision:
    """Judge a repository by what a survey of it read: what stays and why, and what goes in which order. now: with time
    zone. in_use: what is live whatever the rules say. only: what may go at all, where somebody approved that."""
    companions = survey.companions
    units = units_of(survey, companions)
    covering = [each for each in rules if each.rule.covers(survey.repository)]
    plain = [each.rule for each in covering]
    stop = in_use.stopped(survey.repository)
    for unit in units:
        keep_unruled(unit, covering)
        keep_needed(unit, survey, plain, in_use, stop)
        if unit.created is None and not unit.reasons and unit.kind == "image":
            unit.keep("its age is unknown")
        elif unit.kind == "image" and is_of_the_future(unit, now):
            unit.keep("its time lies in the future")
    for each in covering:
        keep_by_rule(units, survey, each, now)
    for unit in units:
        if only is not None and unit.digest not in only and not unit.reasons:
            unit.keep("it is not in the approved plan")
    named = _named_after(survey, companions)
    live = _live_digests(survey, units, named)
    say_incomplete(units, survey)
    placed, steps = sequence(survey, units, named, live)
    return Decision(placed, frozenset(live), steps)


def decide_one(survey: Survey, wanted: Digest, rules: Sequence[RetentionRule], *, in_use: Live) -> Decision:
    """Judge one manifest that somebody wants gone, tagged or not: all else stays, and keeps it where it needs it. Its
    age and how many there are do not matter; tags that ``rules`` protect do. in_use: what is live.

    The only unit is the one that was asked for; its reasons name who needs it.
    """
    companions = survey.companions
    units = units_of(survey, companions)
    asked = next((unit for unit in units if unit.digest == wanted), Unit(wanted, (), survey.nodes[wanted].created))
    others = [unit for unit in units if unit is not asked]
    for unit in others:
        unit.reasons.append("nobody asked for it")
    asked.reasons.clear()
    covering = [rule for rule in rules if rule.covers(survey.repository)]
    keep_needed(asked, survey, covering, in_use, in_use.stopped(survey.repository))
    named = _named_after(survey, companions)
    live = _live_digests(survey, others, named)
    if wanted in live:
        asked.reasons += _needed_by(survey, wanted, named, live)
    _, steps = sequence(survey, [asked], named, live)
    return Decision([asked], frozenset(live), steps)


def _needed_by(
    survey: Survey, wanted: Digest, named: Mapping[Digest, Sequence[Digest]], live: Collection[Digest]
) -> list[str]:
    """What stays and leads straight to a manifest, one sentence each."""
    sentences, origins = [], _origins(survey)
    for digest, node in survey.nodes.items():
        if digest not in live or digest == wanted:
            continue
        name = ", ".join(sorted(tag for tag, tagged in survey.tags.items() if tagged == digest)) or digest
        if wanted in node.children:
            sentences.append(f"the index {name} lists it")
        if wanted in node.referrers or wanted in named.get(digest, ()):
            sentences.append(f"it belongs to {name}, as its evidence")
        if node.subject == wanted:
            sentences.append(f"{name} refers to it, and has a tag of its own")
        if wanted in origins.get(digest, ()):
            sentences.append(f"{name} was made of it, and has its provenance")
    return sentences


def _named_after(survey: Survey, companions: Mapping[str, tuple[Digest, ...]]) -> dict[Digest, list[Digest]]:
    """Manifest to what its digest-named tags point to."""
    named: dict[Digest, list[Digest]] = {}
    for tag, subjects in sorted(companions.items()):
        for subject in subjects:
            named.setdefault(subject, []).append(survey.tags[tag])
    return named


def _origins(survey: Survey) -> dict[Digest, list[Digest]]:
    """By a derived release (``v1-estargz``, ``v1-rechunked``), what it was made of (``v1``): its provenance is reached
    through that, and is gone with it. By name, so that nobody has to sign for it: what is not so costs room."""
    found: dict[Digest, list[Digest]] = {}
    for tag, digest in survey.tags.items():
        for name in (tag.removesuffix(f"-{form}") for form in MADE_FORMS if tag.endswith(f"-{form}")):
            if survey.tags.get(name, digest) != digest:
                found.setdefault(digest, []).append(survey.tags[name])
    return found


def _live_digests(survey: Survey, units: Sequence[Unit], named: Mapping[Digest, Sequence[Digest]]) -> set[Digest]:
    """Everything that what stays needs, to a fixed point: children, referrers, digest-named tags, what a kept referrer
    refers to, and what a kept release was made of. A unit reached this way stays too, and then needs its own."""
    origins = _origins(survey)

    def needs(digest: Digest) -> Iterable[Digest]:
        node = survey.nodes[digest]
        subject = [node.subject] if node.subject is not None and node.subject in survey.nodes else []
        return (*node.children, *node.referrers, *named.get(digest, ()), *subject, *origins.get(digest, ()))

    live = reachable((unit.digest for unit in units if unit.reasons), needs)
    for unit in units:
        if unit.digest in live and not unit.reasons:
            unit.reasons.append("needed by something that stays")
    return live
