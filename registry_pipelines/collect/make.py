"""Make the plan of a registry: survey its repositories, decide each, and weigh the bytes over all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from registry_pipelines.collect.decide import Decision, decide, decide_one, decide_ruled
from registry_pipelines.collect.lists import Lists
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.plan import Entry, RepositoryPlan, RetentionPlan, Total
from registry_pipelines.collect.policies import inventory_of, judge, read_policies
from registry_pipelines.collect.rules import GLOB_CHARACTERS, RetentionRule, rules_digest
from registry_pipelines.collect.unmatched import TagPatterns, unmatched
from registry_pipelines.collect.weigh import KEPT, Held, Weights, totals, weigh
from registry_pipelines.errors import ContentError, InputError, NotFound, RegistryError, Unsupported
from registry_pipelines.inventory.survey import Survey, survey
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.registry.hidden import hidden_tags
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.set_aside import is_quarantine, is_set_aside

if TYPE_CHECKING:  # tables are heavy, and only who has one brings it
    from registry_pipelines.inventory.value import Inventory


def plan_retention(
    registry: Registry,
    rules: Sequence[RetentionRule],
    *,
    now: datetime,
    in_use: Live | Collection[Digest | str] | Mapping[Digest, str],
    listed: Inventory | None = None,
) -> RetentionPlan:
    """Plan what to delete: in each repository a rule names, whatever no rule keeps and nothing kept needs.

    now: with time zone. in_use: all that is live, or digests of images that run or are otherwise needed (index or
    platform manifest), or these with who needs them; give digests, since a running image's tag may have moved. Kept are
    also: index children, referrers, fallback and cosign tags of what is kept, tags under ``protect``, images of unknown
    age. A repository where anything is unclear is refused as a whole, with the reason. listed: the registry's own list
    of its images, which knows those without a tag and when each was pushed; policies are asked about it. Raises
    InputError, LifecycleInvalid (a policy), RegistryError (the list of repositories).
    """
    if now.tzinfo is None:
        raise InputError("`now` has no time zone")
    used, policies, lists = Live.of(in_use), read_policies(rules), Lists(listed)
    names, notes, has_catalogue = _repositories(registry, rules)
    notes += unmatched(rules, names)
    surveys: list[Survey] = []
    refused: list[RepositoryPlan] = []
    for name in names:
        covered = any(rule.covers(name) for rule in rules)
        try:
            mine = [rule for rule in rules if rule.covers(name)]
            found, used = survey_repository(Place(registry, name), mine, now, used, notes, lists)
            surveys.append(found)
        except (RegistryError, ContentError) as error:
            if isinstance(error, NotFound) and (not covered or (has_catalogue and error.code == "NAME_UNKNOWN")):
                continue  # gone, or what docker-registry says of a repository without tags
            if covered:
                refused.append(RepositoryPlan(name, {}, refused=str(error)))
            notes.append(f"{name} could not be read; layers it shares may be counted as freed")
    patterns = TagPatterns(rules)
    for each in surveys:
        patterns.see(each.repository, each.tags)
    notes += patterns.unmatched()
    if policies and listed is None:
        notes.append("policies were asked with the images' own times, for the registry tells none of pushes")
        listed = inventory_of(registry.name, surveys, now)
    ruled = judge(rules, policies, listed, now)
    judged = [
        (surveyed, decide_ruled(surveyed, ruled.of(surveyed.repository), now=now, in_use=used)) for surveyed in surveys
    ]
    planned, sums = _weighed(judged, rules)
    together = sorted([*planned, *refused], key=lambda one: one.repository)
    return RetentionPlan(
        registry.name,
        write_time(now),
        tuple(together),
        (*notes, *used.notes, *used.unknown({each.repository: each.nodes for each in surveys})),
        tuple(map(str, used.stops)),
        rules=str(rules_digest(rules)),
        totals=sums,
    )


def plan_deletion(
    place: Place, digest: Digest, rules: Sequence[RetentionRule], *, now: datetime, in_use: Live | Mapping[Digest, str]
) -> RetentionPlan:
    """Plan to delete one manifest that somebody named, with its tags and the evidence that refers to it: a plan of one
    entry, which has reasons where an index, a subject, a channel or a tag that a rule protects still needs it.

    now: with time zone. rules: those of the registry; only what they ``protect`` counts. in_use: what is live, or
    digest to who uses it, for people. Raises RegistryError, ContentError when anything about the repository is unclear.
    """
    notes = ["other repositories were not read; layers that they share are counted as freed"]
    surveyed = _with_hidden(place, survey(place, roots=[digest]), notes, roots=[digest])
    decision = decide_one(surveyed, digest, rules, in_use=Live.of(in_use))
    [freed] = _weigh([(surveyed, decision)]).freed
    repository = repository_plan(surveyed, decision, freed)
    return RetentionPlan(place.registry.name, write_time(now), (repository,), tuple(notes))


def survey_repository(
    place: Place, rules: Sequence[RetentionRule], now: datetime, in_use: Live, notes: list[str], lists: Lists
) -> tuple[Survey, Live]:
    """What is there, and what is live with what came lately. Where something could go, the registry is asked first for
    tags that it does not list: what they name would go for want of a tag, or under a tag that is protected."""
    perhaps = lists.untagged(place.repository)
    listed = lists.dated(survey(place, perhaps=perhaps))
    if not rules:
        return listed, in_use
    going = _may_go(listed, rules, now, in_use)
    whole = lists.dated(_with_hidden(place, listed, notes, perhaps=perhaps)) if going else listed
    # Once, with all of them: a tag that one look has and the next has not would seem to come anew each time.
    known = in_use.seen(place.repository, whole.tags)
    return whole, known.awaited(place.repository, whole.tags, going) if going else known


def _may_go(listed: Survey, rules: Sequence[RetentionRule], now: datetime, in_use: Live) -> set[Digest]:
    """What could go by a first look. Policies are asked about all repositories at once, later: by them anything may."""
    if any(rule.policy is not None for rule in rules):
        return set(listed.nodes)
    steps = decide(listed, rules, now=now, in_use=in_use).steps
    return {one for each in steps.values() for one in each}


def _with_hidden(
    place: Place,
    listed: Survey,
    notes: list[str],
    roots: Sequence[Digest] = (),
    perhaps: Sequence[Digest] = (),
) -> Survey:
    """The survey, with the tags that the registry has and did not list."""
    hidden = hidden_tags(place, listed.tags)
    if hidden.asked:
        also_there = (
            f"; {len(hidden.tags)} are there all the same: {', '.join(hidden.tags[:10])}" if hidden.tags else ""
        )
        notes.append(
            f"{place.repository}: it was asked {count_text(hidden.asked, 'time')} whether it has tags that its list "
            f"leaves out{also_there or ': none'}"
        )
    return survey(place, hidden.tags, roots, perhaps) if hidden.tags else listed


def said_aside(count: int) -> str:
    """What is said of repositories of the quarantine."""
    return (
        f"left out: {count_text(count, 'repository', 'repositories')} of what was set aside before; "
        "layers shared with that are freed when its time is over"
    )


def _repositories(registry: Registry, rules: Sequence[RetentionRule]) -> tuple[list[str], list[str], bool]:
    """All repositories, since any may share layers; without a catalogue those the rules name in full. What the numbers
    do not include. Whether the registry listed them."""
    notes = ["manifests that no tag, index or referrer leads to are not seen; the registry collects them itself"]
    try:
        names = sorted(registry.repositories())
        if aside := [name for name in names if is_quarantine(name)]:
            notes.append(said_aside(len(aside)))
        return [name for name in names if not is_set_aside(name)], notes, True
    except Unsupported as error:
        patterns = [pattern for rule in rules for pattern in rule.repositories]
        if any(GLOB_CHARACTERS.intersection(pattern) for pattern in patterns):
            raise InputError(
                "the registry does not list its repositories, so patterns cannot be resolved",
                where=registry.name,
                do="Name the repositories of this registry's retention rules in full",
            ) from error
        notes.append("the registry does not list its repositories; layers shared with others are counted as freed")
        return sorted(set(patterns)), notes, False


def _weighed(
    judged: Sequence[tuple[Survey, Decision]], rules: Sequence[RetentionRule]
) -> tuple[list[RepositoryPlan], tuple[Total, ...]]:
    """Count bytes over all repositories: a blob is freed once, and only if nothing keeps it."""
    weights = _weigh(judged)
    plans = [repository_plan(*each, freed) for each, freed in zip(judged, weights.freed, strict=True)]
    covered = [any(rule.covers(planned.repository) for rule in rules) for planned in plans]
    return [planned for planned, ours in zip(plans, covered, strict=True) if ours], totals(plans, weights)


def _weigh(judged: Sequence[tuple[Survey, Decision]]) -> Weights:
    """What each entry of each repository frees, and what each repository holds."""
    helds: list[Held] = []
    for surveyed, decision in judged:
        held = Held(len(decision.units))
        goes_with = {one: at for at, unit in enumerate(decision.units) for one in decision.steps.get(unit.digest, ())}
        for digest, node in surveyed.nodes.items():
            for blob, size in node.blobs.items():
                held.add(blob, size, goes_with.get(digest, KEPT))
        helds.append(held)
    return weigh(helds)


def repository_plan(surveyed: Survey, decision: Decision, freed: Sequence[int]) -> RepositoryPlan:
    """A decision as a plan. freed: by unit."""
    entries = [
        Entry(
            unit.digest,
            unit.tags,
            write_time(unit.created) if unit.created else "",
            tuple(unit.reasons),
            decision.steps.get(unit.digest, ()),
            size,
            unit.rule,
            "" if unit.reasons else unit.why,
        )
        for unit, size in zip(decision.units, freed, strict=True)
    ]
    return RepositoryPlan(surveyed.repository, dict(surveyed.tags), tuple(entries))
