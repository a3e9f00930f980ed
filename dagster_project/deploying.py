"""The job and the sensor of deployments: what a channel came to name is rolled out, and read back again when the next
channel waits for it."""

from collections.abc import Sequence
from typing import Annotated

import dagster as dg
import msgspec

from dagster_project.assets.deploy import key_of
from dagster_project.memory import Cursor
from dagster_project.partitions import add_releases, under_way
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job, run_tags
from dagster_project.sensors import MAX_ATTEMPTS, at_start
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.progress import count_text


class Asked(Cursor):
    """asked: by deployment what a run was asked for last, and how often."""

    asked: dict[str, tuple[str, Annotated[int, msgspec.Meta(ge=0)]]] = {}


def look_for_due(context: dg.SensorEvaluationContext, chain: Chain, names: Sequence[str]) -> dg.SensorResult:
    """One look: a run for each deployment whose channel names what was not rolled out yet, or that is to be read back
    again. What did not come up is tried again when a person asks."""
    seen, requests, notes = Asked.read(context), list[dg.RunRequest](), list[str]()
    busy = under_way(context.instance)
    for name in names:
        try:
            due = chain.deploy_due(name)
        except RegistryPipelinesError as error:  # one deployment's trouble must not hold the others
            notes.append(f"{name}: {error}")
            continue
        if due is None:
            seen.asked.pop(name, None)
            continue
        release, why = due
        [key] = add_releases(context.instance, chain, [release]).values()
        mark = f"{release.digest} {why}"
        before, count = seen.asked.get(name, ("", 0))
        count = count if before == mark else 0
        if key in busy:
            notes.append(f"{name}: a run for {key} is under way")
        elif count >= MAX_ATTEMPTS:
            notes.append(f"{name}: {count_text(count, 'run')} for {key} came to no end; look at the last one")
        else:
            seen.asked[name] = (mark, count + 1)
            requests.append(
                dg.RunRequest(
                    run_key=f"{name}#{mark}#{seen.life}#{count + 1}",
                    partition_key=key,
                    asset_selection=[key_of(name)],
                    tags=run_tags(chain.config, key),
                )
            )
    for note in notes:
        context.log.warning("%s", note)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(["nothing is due", *notes]),
        cursor=seen.write(),
    )


def deployment_sensor(config: Config, job: Job, names: Sequence[str]) -> dg.SensorDefinition:
    """The sensor of the deployments that say ``auto: true``. names: theirs."""

    @dg.sensor(
        name="deployment",
        job_name=job.name,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=at_start(config),
        description=f"Rolls out to {', '.join(names)} what their channels come to name, and reads it back again when "
        "the next channel waits for that.",
    )
    def deployment(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_due(context, chain, names)

    return deployment
