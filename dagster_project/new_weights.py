"""The sensor that looks for new sets of weights at the places that the configuration names."""

import dagster as dg

from dagster_project.assets.weights import key_of
from dagster_project.memory import Count, Cursor
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sensors import at_start
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError


class Seen(Cursor):
    """digests: by section of `weights` the set that a run was asked for last. asked: how many runs were, which is part
    of a run's key: a set may come back."""

    digests: dict[str, str] = {}
    asked: dict[str, Count] = {}


def look_for_weights(context: dg.SensorEvaluationContext, chain: Chain) -> dg.SensorResult:
    """One look. A set is new when its digest is; one that is still going up has none yet. Trouble with one place hides
    no other's news."""
    seen = Seen.read(context)
    requests: list[dg.RunRequest] = []
    notes: list[str] = []
    for name in chain.config.weights:
        try:
            digest = chain.weights_at_source(name)
        except RegistryPipelinesError as error:
            notes.append(f"{name} cannot be looked at: {error}")
            continue
        if seen.digests.get(name) != digest:
            seen.asked[name] = seen.asked.get(name, 0) + 1
            run_key = f"{name}@{digest}#{seen.life}#{seen.asked[name]}"
            requests.append(dg.RunRequest(run_key=run_key, asset_selection=[key_of(name)]))
            seen.digests[name] = digest
    for note in notes:
        context.log.warning("%s", note)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(["nothing new", *notes]),
        cursor=seen.write(),
    )


def weights_sensor(config: Config, job: Job) -> dg.SensorDefinition:
    """The sensor over all sections of `weights`. job: the one that brings them."""

    @dg.sensor(
        name="new_weights",
        job_name=job.name,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=at_start(config),
        description="New sets of weights at their sources: asks for a run that brings them to their targets, and "
        "attaches them to their release.",
    )
    def look(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_weights(context, chain)

    return look
