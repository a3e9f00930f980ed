"""The sensors that look for recordings of nodes: hot packs are cut of them, and what is of no release is deleted."""

import hashlib
from collections.abc import Iterable

import dagster as dg

from dagster_project.memory import Cursor
from dagster_project.partitions import release_keys, under_way
from dagster_project.report import facts, refusals
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job, run_tags
from dagster_project.sensors import at_start, known_releases, materialized
from registry_pipelines.chain import Chain
from registry_pipelines.chain.recordings import InboxLook
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError

SWEEP_JOB = "sweep_recordings"
SLOWER = 10
"""A look follows so many intervals of the push sensor: starts are recorded by the hour."""


class Asked(Cursor):
    """asked: by partition for which recordings a run was asked for."""

    asked: dict[str, str] = {}


class Strange(Cursor):
    """strange: which recordings were of no release at the last look. swept: for which of them a run was asked for."""

    strange: str = ""
    swept: str = ""


def look_for_recordings(context: dg.SensorEvaluationContext, chain: Chain) -> dg.SensorResult:
    """One look. A release is asked for once for what lies there of it, when it has a verdict and no run under way."""
    seen = Asked.read(context)
    look = _looked(chain)
    if isinstance(look, str):
        return dg.SensorResult(skip_reason=look, cursor=seen.write())
    known = known_releases(chain, release_keys(context.instance), list(chain.config.images))
    judged, busy = materialized(context.instance, "verdict"), under_way(context.instance)
    waiting = {(each.image, each.digest): messages for each, messages in look.releases.items()}
    requests: list[dg.RunRequest] = []
    for key, release in known.items():
        messages = waiting.get((release.image, release.digest))
        mark = _mark(each.tag for each in messages or ())
        if messages and key in judged and key not in busy and seen.asked.get(key) != mark:
            seen.asked[key] = mark
            tags = run_tags(chain.config, key)
            requests.append(dg.RunRequest(f"{key}#{mark}#{seen.life}", partition_key=key, tags=tags))
    seen.asked = {key: mark for key, mark in seen.asked.items() if key in known}
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join([f"nothing new of {look.count} recordings", *look.problems]),
        cursor=seen.write(),
    )


def look_for_strange(context: dg.SensorEvaluationContext, chain: Chain) -> dg.SensorResult:
    """One look. What is of no release must be so twice: its image may just be coming."""
    seen = Strange.read(context)
    look = _looked(chain)
    if isinstance(look, str):
        return dg.SensorResult(skip_reason=look, cursor=seen.write())
    tags = [each.tag for each in look.unknown]
    strange, requests = _mark(tags), list[dg.RunRequest]()
    if tags and strange == seen.strange and strange != seen.swept:
        seen.swept = strange
        requests.append(dg.RunRequest(f"{strange}#{seen.life}"))
    seen.strange = strange
    skipped = None if requests else "; ".join([f"of no release: {len(tags)} recordings", *look.problems])
    return dg.SensorResult(run_requests=requests, skip_reason=skipped, cursor=seen.write())


def _looked(chain: Chain) -> InboxLook | str:
    try:
        return chain.recorded_by_nodes()
    except RegistryPipelinesError as error:
        return f"the inbox cannot be looked at: {error}"


def _mark(tags: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(sorted(tags)).encode()).hexdigest()[:16]


@dg.op(out=dg.Out(dg.Nothing), description="Recordings of nodes that are of no release, deleted from the inbox.")
def sweep(context: dg.OpExecutionContext, chain: ChainParam) -> None:
    """Delete them, and say how many."""
    with refusals(context):
        result = chain.sweep_recordings()
    for note in result.notes:
        context.log.warning("%s", note)
    context.log.info("%s", result.action)
    context.add_output_metadata(facts(result))


@dg.job(name=SWEEP_JOB, description="Delete from the inbox of recordings what is of no release.")
def sweep_job() -> None:
    """See the op."""
    sweep()


def recordings_sensors(config: Config, job: Job) -> list[dg.SensorDefinition]:
    """The sensors over the inbox of ``node.record``. job: the one that cuts hot packs. Two, since one for several jobs
    has to be given jobs and not names, and Dagster 1.13 warns of itself when it copies such a sensor."""
    interval = max(1, int(config.sensors.interval.total_seconds()) * SLOWER)

    @dg.sensor(
        name="recordings",
        job_name=job.name,
        minimum_interval_seconds=interval,
        default_status=at_start(config),
        description="Recordings of real starts in the inbox of nodes: asks for a run that makes a release's hot packs "
        "of them.",
    )
    def look(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_recordings(context, chain)

    @dg.sensor(
        name="strange_recordings",
        job_name=SWEEP_JOB,
        minimum_interval_seconds=interval,
        default_status=at_start(config),
        description="Recordings in the inbox of nodes that are of no release: asks for a run that deletes them.",
    )
    def look_again(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_strange(context, chain)

    return [look, look_again]
