"""The sensor of releases that may ship now: they were denied or held, or come to their next channel."""

from collections.abc import Collection
from time import monotonic

import dagster as dg

from dagster_project.memory import Memory, recall
from dagster_project.moving import whole_keys
from dagster_project.partitions import PARTITION_TAG, release_keys, under_way
from dagster_project.report import OUTCOME_TAG
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sensors import (
    LONGEST_LOOK_S,
    MAX_ATTEMPTS,
    Known,
    at_start,
    known_releases,
    make_first,
    materialized,
    named_by_channels,
    next_after,
    superseded,
)
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.release import Release

MAX_JUDGED = 10
"""Releases judged in one tick of the promotion sensor; a tick has 60 s, a judgement takes about a second."""
JUDGED_EVERY = 10
"""The promotion sensor sleeps so many intervals of the push sensor: advisories and exceptions change by the hour."""


def held_back(instance: dg.DagsterInstance, chain: Chain, images: Collection[str]) -> Known:
    """Releases with a verdict that were neither promoted nor superseded, and have no run under way."""
    known = known_releases(chain, release_keys(instance), images)
    judged = materialized(instance, "verdict")
    out = materialized(instance, "promotion") | under_way(instance) | superseded(instance, known)
    return {key: release for key, release in known.items() if key in judged and key not in out}


def evidence_that_allows(chain: Chain, release: Release) -> str:
    """Digest of the verdict when it is allow today and the release starts as its policy says, else empty. Advisories
    are matched again first, and what is inside the limits now is attested: a verdict believes signed reports only."""
    if chain.start_problems(release) or not chain.vulnerabilities(release).ok:
        return ""
    chain.sign(release)
    verdict = chain.judge(release)
    return verdict.digest if verdict.ok else ""


def going_on(context: dg.SensorEvaluationContext, chain: Chain, images: Collection[str]) -> dict[str, str]:
    """Releases that came to a channel and may come to the next one by themselves now, by key: its hours are over, or
    somebody approved it. Only those that a channel names are asked about; the name of the next is in the answer."""
    several = [name for name in images if len(chain.config.images[name].order) > 1]
    if not several:
        return {}
    known = known_releases(chain, release_keys(context.instance), several)
    busy, found = under_way(context.instance), dict[str, str]()
    for key in named_by_channels(context, chain, known):
        try:
            channel = "" if key in busy else chain.goes_on(known[key])
        except RegistryPipelinesError as error:  # one release's trouble must not hold the others
            context.log.warning("%s: cannot be asked whether it goes on: %s", key, error)
            continue
        if channel:
            found[key] = f"channel {channel}"
    return found


def waits(instance: dg.DagsterInstance, key: str) -> bool:
    """Whether a release is allowed and waits for a person, by what its newest run ended with."""
    newest = instance.get_runs(filters=dg.RunsFilter(tags={PARTITION_TAG: key}), limit=1)
    return bool(newest) and newest[0].tags.get(OUTCOME_TAG) == "held"


def look_for_allowed(
    context: dg.SensorEvaluationContext, chain: Chain, images: Collection[str], memory: Memory
) -> dg.SensorResult:
    """One look of the promotion sensor: judge held releases again, by digest, and ask for runs of those that pass."""
    if whole := whole_keys(release_keys(context.instance)):
        return make_first(context, whole)
    held = held_back(context.instance, chain, images)
    going = going_on(context, chain, images)
    memory.keep([*held, *going])
    waiting = {key: release for key, release in held.items() if waits(context.instance, key)}
    # A person promoted these on the command line: a run shows that, and copies them.
    allowed, started = named_by_channels(context, chain, waiting), monotonic()
    allowed |= going
    judged = [key for key in held if key not in waiting]
    for place, key in enumerate(next_after(judged, memory.last, MAX_JUDGED)):
        if place and monotonic() - started >= LONGEST_LOOK_S:
            break
        memory.last = key
        try:
            evidence = evidence_that_allows(chain, held[key])
        except RegistryPipelinesError as error:  # one release's trouble must not hold the others
            context.log.warning("%s: cannot be judged: %s", key, error)
            continue
        if evidence:
            allowed[key] = evidence
    # A key that the other sensor removed meanwhile would fail the tick, and with it the requests for the others.
    still = set(release_keys(context.instance)) if allowed else set()
    ready = {key: evidence for key, evidence in allowed.items() if memory.tried(key, evidence) < MAX_ATTEMPTS}
    requests = [memory.ask(key, evidence) for key, evidence in ready.items() if key in still]
    reason = None if requests else f"releases that may not go: {len(judged)}, that wait for a person: {len(waiting)}"
    return dg.SensorResult(run_requests=requests, skip_reason=reason, cursor=memory.write())


def promotion_sensor(config: Config, job: Job) -> dg.SensorDefinition:
    """The sensor that lets denied releases go when the evidence passes: newer advisories, an exception, a policy."""

    @dg.sensor(
        name="promotion",
        job=job,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds()) * JUDGED_EVERY),
        default_status=at_start(config),
        description="Releases that were denied or held, or whose promotion failed, judged again by digest against "
        "today's advisories and policy, and asked for their hot packs where the policy wants them, "
        f"{MAX_JUDGED} at a time; asks for a run when the verdict is allow now.",
    )
    def promotion(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_allowed(context, chain, list(config.images), recall(context))

    return promotion
