"""Which manifests of a repository stay, and why; which may go, and in what order. Pure: no registry is asked here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from registry_pipelines.collect.live import Live
from registry_pipelines.collect.rules import RetentionRule, matches
from registry_pipelines.inventory.survey import Survey, reachable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.stream.model import DERIVED_FORMATS


@dataclass
class Unit:
    """What is judged: one tagged manifest with its tags. reasons: why it stays; none means it may go."""

    digest: Digest
    tags: tuple[str, ...]
    created: datetime | None
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Decision:
    """What :func:`decide` says. units: all judged, newest first. live: every manifest that stays. steps: per unit
    that goes, what is deleted, in order."""

    units: Sequence[Unit]
    live: frozenset[Digest]
    steps: dict[Digest, tuple[Digest, ...]]


def decide(survey: Survey, rules: Sequence[RetentionRule], *, now: datetime, in_use: Live) -> Decision:
    """Judge a repository by what a survey of it read: what stays and why, and what goes in which order. Without a rule
    for it, everything stays. now: with time zone. in_use: what is live whatever the rules say."""
    companions = survey.companions
    units = _units(survey, companions)
    covering = [rule for rule in rules if rule.covers(survey.repository)]
    for unit in units:
        if not covering:
            unit.reasons.append("no rule names the repository")
        elif unruled := [tag for tag in unit.tags if not any(rule.speaks_of([tag]) for rule in covering)]:
            unit.reasons.append(f"no rule speaks of tag {unruled[0]}")
        _protect(unit, survey, covering, in_use)
        if unit.created is None and not unit.reasons:
            unit.reasons.append("its age is unknown")
    for rule in covering:
        _keep_by_age(units, rule, now)
    named = _named_after(survey, companions)
    live = _live_digests(survey, units, named)
    return Decision(units, frozenset(live), _steps(survey, units, named, live))


def decide_one(survey: Survey, wanted: Digest, rules: Sequence[RetentionRule], *, in_use: Live) -> Decision:
    """Judge one manifest that somebody wants gone, tagged or not: all else stays, and keeps it where it needs it. Its
    age and how many there are do not matter; tags that ``rules`` protect do. in_use: what is live.

    The only unit is the one that was asked for; its reasons name who needs it.
    """
    companions = survey.companions
    units = _units(survey, companions)
    asked = next((unit for unit in units if unit.digest == wanted), Unit(wanted, (), survey.nodes[wanted].created))
    others = [unit for unit in units if unit is not asked]
    for unit in others:
        unit.reasons.append("nobody asked for it")
    asked.reasons.clear()
    _protect(asked, survey, [rule for rule in rules if rule.covers(survey.repository)], in_use)
    named = _named_after(survey, companions)
    live = _live_digests(survey, others, named)
    if wanted in live:
        asked.reasons += _needed_by(survey, wanted, named, live)
    steps = {} if asked.reasons else _steps(survey, [asked], named, live)
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


def _units(survey: Survey, companions: Mapping[str, tuple[Digest, ...]]) -> list[Unit]:
    """Tagged manifests, newest first, unknown ages last. A digest-named tag belongs to what it names; when that is not
    there (any more, or without a tag), the tag is judged as a unit of unknown age, and stays."""
    tags: dict[Digest, list[str]] = {}
    for tag, digest in survey.tags.items():
        if not companions.get(tag):
            tags.setdefault(digest, []).append(tag)
    units = [Unit(digest, tuple(sorted(names)), survey.nodes[digest].created) for digest, names in tags.items()]
    for unit in units:
        if all(tag in companions for tag in unit.tags):
            unit.created = None
            unit.reasons.append("named after a manifest that no tag leads to")
    dated = sorted((unit for unit in units if unit.created), key=lambda unit: (unit.created, unit.digest), reverse=True)
    return [*dated, *sorted((unit for unit in units if not unit.created), key=lambda unit: unit.tags)]


def _protect(unit: Unit, survey: Survey, rules: Sequence[RetentionRule], in_use: Live) -> None:
    for tag in unit.tags:
        if any(matches(tag, rule.protect) for rule in rules):
            unit.reasons.append(f"tag {tag} is protected")
    if survey.keeps_tagged and unit.tags:
        unit.reasons.append("the tags of its repository are immutable, and the registry deletes nothing that has one")
    if stop := in_use.stopped(survey.repository):
        unit.reasons.append(stop)
    for digest in reachable([unit.digest], lambda one: survey.nodes[one].children):
        if why := in_use.why(survey.repository, digest):
            unit.reasons.append(why if digest == unit.digest else f"its child {digest.short} is in use")


def _keep_by_age(units: Sequence[Unit], rule: RetentionRule, now: datetime) -> None:
    ranked = [unit for unit in units if unit.created is not None and rule.speaks_of(unit.tags)]
    for rank, unit in enumerate(ranked, 1):
        if rank <= rule.keep_newest:
            unit.reasons.append(f"number {rank} of the newest {rule.keep_newest}")
        if unit.created is not None and now - unit.created < timedelta(days=rule.keep_days):
            unit.reasons.append(f"younger than {count_text(rule.keep_days, 'day')}")


def _named_after(survey: Survey, companions: Mapping[str, tuple[Digest, ...]]) -> dict[Digest, list[Digest]]:
    """Manifest to what its digest-named tags point to."""
    named: dict[Digest, list[Digest]] = {}
    for tag, subjects in companions.items():
        for subject in subjects:
            named.setdefault(subject, []).append(survey.tags[tag])
    return named


def _origins(survey: Survey) -> dict[Digest, list[Digest]]:
    """By a converted release (``v1-estargz``), what it was made of (``v1``): its provenance is reached through that,
    and is gone with it. By name, so that nobody has to sign for it: what is not so costs room."""
    found: dict[Digest, list[Digest]] = {}
    for tag, digest in survey.tags.items():
        for name in (tag.removesuffix(f"-{form}") for form in DERIVED_FORMATS if tag.endswith(f"-{form}")):
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


def _steps(
    survey: Survey, units: Sequence[Unit], named: Mapping[Digest, Sequence[Digest]], live: set[Digest]
) -> dict[Digest, tuple[Digest, ...]]:
    """What goes with each unit, each manifest once.

    The image goes first, so nothing that has a tag ever lacks its evidence; an index before its children (ECR refuses a
    child while its index is there); a fallback tag before the referrers it lists, so that it is not rewritten for each.
    What is listed wrongly protects what it names, and takes nothing away.
    """
    steps: dict[Digest, tuple[Digest, ...]] = {}
    taken = set(live)
    for unit in units:
        if unit.reasons:
            continue
        images = _in_order([unit.digest], lambda one: survey.nodes[one].children)
        evidence = _in_order(images, lambda one: (*survey.nodes[one].children, *survey.attached(one)))
        tagged = [one for digest in evidence for one in named.get(digest, ())]
        below = _in_order(tagged, lambda one: (*survey.nodes[one].children, *survey.attached(one)))
        order = [one for one in dict.fromkeys([*images, *tagged, *evidence, *below]) if one not in taken]
        taken.update(order)
        steps[unit.digest] = tuple(order)
    return steps


def _in_order(start: Iterable[Digest], leads_to: Callable[[Digest], Iterable[Digest]]) -> list[Digest]:
    """Breadth first: what comes before what it leads to."""
    order: dict[Digest, None] = {}
    waiting = list(dict.fromkeys(start))
    while waiting:
        order.update(dict.fromkeys(waiting))
        waiting = list(dict.fromkeys(one for digest in waiting for one in leads_to(digest) if one not in order))
    return list(order)
