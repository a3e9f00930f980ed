"""The sensor that looks for bundles in the inboxes of mirrors, on the far side of an air gap."""

from collections.abc import Sequence

import dagster as dg

from dagster_project.memory import Cursor
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sensors import at_start
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config, Mirror
from registry_pipelines.errors import RegistryPipelinesError


class Seen(Cursor):
    """marks: by mirror how its inbox looked at the last look. asked: for which look a run was asked for."""

    marks: dict[str, str] = {}
    asked: dict[str, str] = {}


def look_for_bundles(context: dg.SensorEvaluationContext, chain: Chain, mirrors: Sequence[str]) -> dg.SensorResult:
    """One look. An inbox must look the same twice: what is still being copied into it grows. One that could not be
    loaded is tried again when something in the inbox changes."""
    seen = Seen.read(context)
    requests: list[dg.RunRequest] = []
    notes: list[str] = []
    for name in mirrors:
        try:
            inbox = chain.inbox(name)
        except RegistryPipelinesError as error:
            notes.append(f"the inbox of {name} cannot be looked at: {error}")
            continue
        if inbox.waiting and inbox.mark == seen.marks.get(name) and inbox.mark != seen.asked.get(name):
            seen.asked[name] = inbox.mark
            key = f"{name}#{inbox.mark}#{seen.life}"
            requests.append(dg.RunRequest(run_key=key, asset_selection=[dg.AssetKey(["loaded", name])]))
        elif inbox.waiting:
            notes.append(f"{name}: {', '.join(inbox.waiting)}")
        seen.marks[name] = inbox.mark
    for note in notes:
        context.log.info("%s", note)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(["nothing new that is still", *notes]),
        cursor=seen.write(),
    )


def inbox_sensor(config: Config, mirrors: Sequence[Mirror], job: Job) -> dg.SensorDefinition:
    """The sensor over these mirrors, which have inboxes. job: the one that loads."""

    @dg.sensor(
        name="inbox",
        job_name=job.name,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=at_start(config),
        description="Bundles in the inboxes of mirrors: asks for a run that loads what is new, once nothing in the "
        "folder changed from one look to the next.",
    )
    def look(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_bundles(context, chain, [mirror.name for mirror in mirrors])

    return look
