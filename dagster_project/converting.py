"""The sensor of pushed images that wait to be converted."""

from collections.abc import Sequence

import dagster as dg

from dagster_project.assets.build import CONVERTED, RECHUNKED
from dagster_project.memory import Memory, recall
from dagster_project.partitions import under_way
from dagster_project.resources import ChainParam
from dagster_project.sensors import MAX_ATTEMPTS, at_start, look_at, what_is_sought
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.progress import count_text


def look_for_origins(
    context: dg.SensorEvaluationContext, chain: Chain, images: Sequence[str], memory: Memory, cap: int
) -> dg.SensorResult:
    """One look of the convert sensor: what was pushed and has no release derived of it. What was there before the first
    look is not converted."""
    look = look_at(images, memory, chain.origins)
    first = memory.look_first({name: what_is_sought(chain.config.images[name]) for name in images}, look.found)
    memory.looks += 1
    pushed = ((name, tag) for name, tags in look.found.items() for tag, done in tags.items() if not done)
    waiting = {f"{name}:{tag}": (name, tag) for name, tag in pushed}
    memory.pass_over(key for key, (name, _) in waiting.items() if name in first and not memory.noted(key))
    if not look.silent and not look.rest:
        memory.keep(waiting)
    busy = under_way(context.instance)
    wanted = [
        key
        for key, (name, _) in waiting.items()
        if name not in busy and (not memory.noted(key) or 0 < memory.tried(key) < MAX_ATTEMPTS)
    ]
    requests = []
    for key in wanted[:cap]:
        name, tag = waiting[key]
        op = RECHUNKED if chain.config.images[name].rechunk else CONVERTED
        settings = {"ops": {op: {"config": {"tags": [tag]}}}}
        asked = memory.ask(key)
        requests.append(dg.RunRequest(run_key=asked.run_key, partition_key=name, run_config=settings))
    notes = look.notes()
    for note in notes:
        context.log.warning("%s", note)
    reason = None if requests else "; ".join([f"{count_text(len(waiting), 'image')} not converted, none new", *notes])
    return dg.SensorResult(run_requests=requests, skip_reason=reason, cursor=memory.write())


def convert_sensor(config: Config, job: str, images: Sequence[str]) -> dg.SensorDefinition:
    """The sensor that finds pushed images of which releases are derived, called as the job that derives them. images:
    those that the job derives releases of."""

    @dg.sensor(
        name=job,
        job_name=job,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=at_start(config),
        description=f"New version tags of {', '.join(images)}, of which no release was derived: asks for a run of the "
        f"job `{job}`, at most {config.sensors.max_requests} at a time.",
    )
    def convert(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_origins(context, chain, images, recall(context), config.sensors.max_requests)

    return convert
