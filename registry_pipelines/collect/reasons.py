"""Why an image stays. A new reason to keep something goes here; nothing here lets anything go that another keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry_pipelines.collect.live import Front, Live
from registry_pipelines.collect.rules import RetentionRule, matches
from registry_pipelines.collect.units import Unit
from registry_pipelines.inventory.survey import Survey, reachable
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text

SIGNATURES = ("application/vnd.dev.cosign.artifact.sig", "application/vnd.dev.sigstore.bundle")
"""How the artifact types of signatures begin, beside Notation's (sigstore/cosign, ``ociremote``; a bundle may be an
attestation as well, which vouches, too)."""


FUTURE = timedelta(days=1)
"""By so much clocks of builders may be ahead."""


@dataclass(frozen=True)
class Verdict:
    """What a cloud's policy says of one image. goes: whether it deletes it by every reading; why: a sentence that names
    the policy's own rule."""

    goes: bool
    why: str


@dataclass(frozen=True)
class Ruled:
    """A rule with what plans call it. verdicts: of a rule with a policy, by digest, for one repository; an image that
    is not among them stays."""

    rule: RetentionRule
    label: str
    verdicts: Mapping[Digest, Verdict] | None = None


def keep_unruled(unit: Unit, covering: Sequence[Ruled]) -> None:
    """What no rule is about stays: the repository, a tag, or what has none."""
    if not covering:
        unit.keep("no rule names the repository")
    elif unit.kind == "image":
        unruled = [tag for tag in unit.tags if not any(each.rule.speaks_of([tag]) for each in covering)]
        if unruled:
            unit.keep(f"no rule speaks of tag {unruled[0]}")
    elif unit.kind == "orphan" and all(each.rule.orphans_days is None for each in covering):
        unit.keep("it is evidence of something that is gone, and no rule says `orphans_days`")
    elif unit.kind == "untagged" and all(
        each.rule.untagged_days is None and each.rule.policy is None for each in covering
    ):
        unit.keep("it has no tag, and no rule says `untagged_days`")


def keep_needed(unit: Unit, survey: Survey, rules: Sequence[RetentionRule], in_use: Live, stop: str) -> None:
    """What is protected, what the registry does not delete, and what is live. stop: what has to be known first."""
    for tag in unit.tags:
        for rule in rules:
            if rule.protect and matches(tag, rule.protect):
                unit.keep(f"tag {tag} is protected")
                break
    if survey.keeps_tagged and unit.tags:
        unit.keep("the tags of its repository are immutable, and the registry deletes nothing that has one")
    if unit.digest in survey.held:
        unit.keep(survey.held[unit.digest])
    if survey.unlisted and unit.kind != "image":
        unit.keep(survey.unlisted)
    if stop:
        unit.keep(stop)
    if unit.kind != "image" and (pushed := in_use.busy.get(survey.repository)):
        unit.keep(f"{pushed}, and what names it may be on its way")
    front = in_use.fronts.get(survey.repository)
    if front is not None and _is_ahead(unit, survey, front):
        unit.keep(f"a release that is newer than {front.why}: it may still be promoted")
    if not in_use.anything:
        return
    node = survey.nodes[unit.digest]
    reached: Iterable[Digest] = (unit.digest,)
    if node.children or node.referrers:  # a referrer may run, too: as a volume of a pod
        reached = sorted(reachable(reached, lambda one: (*survey.nodes[one].children, *survey.attached(one))))
    for digest in reached:
        if why := in_use.why(survey.repository, digest) or in_use.why_content(survey.nodes[digest].blobs):
            unit.keep(why if digest == unit.digest else f"{_below(survey, unit, digest)} {digest.short} is in use")


def _is_ahead(unit: Unit, survey: Survey, front: Front) -> bool:
    """Whether an image is a release, and newer than what the first channel names."""
    named = survey.nodes.get(front.digest)
    if unit.created is None or named is None or named.created is None or unit.created <= named.created:
        return False
    return any(front.is_release(tag) for tag in unit.tags)


def _below(survey: Survey, unit: Unit, digest: Digest) -> str:
    return "its child" if digest in survey.nodes[unit.digest].children else "what belongs to it,"


def keep_by_rule(units: Sequence[Unit], survey: Survey, ruled: Ruled, now: datetime) -> None:
    """What one rule keeps, and of what it does not keep, why that may go."""
    _keep_by_number_and_age([unit for unit in units if unit.kind == "image"], ruled, now)
    for unit in units:
        if unit.kind == "orphan":
            _keep_by_days(unit, ruled, ruled.rule.orphans_days, now, "evidence of something that is gone")
        elif unit.kind == "untagged":
            _keep_by_days(unit, ruled, ruled.rule.untagged_days, now, "without a tag")
            if ruled.rule.keep_signed and is_signed(survey, unit.digest):
                unit.keep("it has no tag, and is signed", ruled.label)
        if ruled.rule.incomplete == "keep" and survey.nodes[unit.digest].missing:
            unit.keep(f"{_missing(survey, unit)}, and the rule keeps such", ruled.label)
        if ruled.rule.policy is not None and unit.kind != "orphan":
            _keep_by_policy(unit, ruled, ruled.verdicts or {})


def _keep_by_number_and_age(units: Sequence[Unit], ruled: Ruled, now: datetime) -> None:
    newest, span = ruled.rule.newest, timedelta(days=ruled.rule.days)
    rank = 0
    for unit in units:
        if unit.created is None or is_of_the_future(unit, now) or not ruled.rule.speaks_of(unit.tags):
            continue
        rank += 1
        if rank <= newest:
            unit.keep(f"number {rank} of the newest {newest}", ruled.label)
        if now - unit.created < span:
            unit.keep(f"younger than {count_text(ruled.rule.days, 'day')}", ruled.label)
        if not unit.reasons and ruled.rule.policy is None:
            _may_go(unit, ruled, f"number {rank}, {count_text((now - unit.created).days, 'day')} old")


def is_of_the_future(unit: Unit, now: datetime) -> bool:
    """Whether an image says that it will be made later, by a wrong clock or for a year that somebody chose. It stays,
    and takes no place among the newest: the newest image that runs would go for it."""
    return unit.created is not None and unit.created - now > FUTURE


def _keep_by_days(unit: Unit, ruled: Ruled, days: int | None, now: datetime, what: str) -> None:
    if days is None:
        return
    if unit.created is None:
        if days:
            unit.keep("its age is unknown")
        else:
            _may_go(unit, ruled, what)
    elif now - unit.created < timedelta(days=days):
        unit.keep(f"younger than {count_text(days, 'day')}", ruled.label)
    else:
        _may_go(unit, ruled, f"{what}, {count_text((now - unit.created).days, 'day')} old")


def _keep_by_policy(unit: Unit, ruled: Ruled, verdicts: Mapping[Digest, Verdict]) -> None:
    verdict = verdicts.get(unit.digest)
    if verdict is None:
        unit.keep("the policy was not asked about it: it is not in the list that the registry gave", ruled.label)
    elif verdict.goes:
        _may_go(unit, ruled, verdict.why)
    else:
        unit.keep(verdict.why, ruled.label)


def _may_go(unit: Unit, ruled: Ruled, why: str) -> None:
    if not unit.why:
        unit.rule, unit.why = ruled.label, why


def is_signed(survey: Survey, digest: Digest) -> bool:
    """Whether a manifest has a signature: as a referrer, or under cosign's tag."""
    types = [survey.nodes[one].artifact_type for one in survey.attached(digest)]
    return f"{digest.fallback_tag}.sig" in survey.tags or any(
        kind == media_types.NOTATION_SIGNATURE or kind.startswith(SIGNATURES) for kind in types
    )


def _missing(survey: Survey, unit: Unit) -> str:
    node = survey.nodes[unit.digest]
    return f"{count_text(len(node.missing), 'image')} of {len(node.missing) + len(node.children)} in it not there"


def say_incomplete(units: Iterable[Unit], survey: Survey) -> None:
    """Say of an index that goes that images of it are gone."""
    for unit in units:
        if not unit.reasons and survey.nodes[unit.digest].missing:
            unit.why = f"{unit.why}; {_missing(survey, unit)}"
