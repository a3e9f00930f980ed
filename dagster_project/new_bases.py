"""The sensors that look for bases that were made anew: one asks for a run that shows what is to be built again, one for
builds where a version is configured that is not there yet."""

from collections.abc import Callable, Sequence
from typing import Annotated

import dagster as dg
import msgspec

from dagster_project.assets.bases import key_of
from dagster_project.memory import Cursor
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sensors import at_start
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError

SLOWER = 10
"""A look follows so many intervals of the push sensor: bases are made by the day."""


class Seen(Cursor):
    """digests: by base what its tag named at the last look. looks: how many found something new."""

    digests: dict[str, str] = {}
    looks: Annotated[int, msgspec.Meta(ge=0)] = 0


Ask = Callable[[Chain, str, str], list[dg.RunRequest]]
"""What to ask for about one base that was made anew; the text is new for each such event."""


def look_for_bases(context: dg.SensorEvaluationContext, chain: Chain, ask: Ask) -> dg.SensorResult:
    """One look. What a base is when it is looked at first was there before: nothing is asked for. Trouble with one base
    hides no other's news, and leaves it to the next look."""
    seen = Seen.read(context)
    requests: list[dg.RunRequest] = []
    notes: list[str] = []
    for name, settings in chain.config.bases.items():
        try:
            digest = chain.current_base(name)
            if digest is None:
                notes.append(f"{name} has no tag {settings.tag}")
            elif name not in seen.digests:
                notes.append(f"{name} was there before: not run")
                seen.digests[name] = str(digest)
            elif seen.digests[name] != digest:
                requests += ask(chain, name, f"{name}@{digest}#{seen.life}#{seen.looks + 1}")
                seen.looks += 1
                seen.digests[name] = str(digest)
        except RegistryPipelinesError as error:
            notes.append(f"{name} cannot be looked at: {error}")
    for note in notes:
        context.log.warning("%s", note)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(["nothing to ask for", *notes]),
        cursor=seen.write(),
    )


def bases_sensor(config: Config, job: Job) -> dg.SensorDefinition:
    """The sensor that asks for a look at what stands on a base that was made anew. job: the one that does."""

    def ask(_: Chain, name: str, mark: str) -> list[dg.RunRequest]:
        return [dg.RunRequest(run_key=mark, asset_selection=[key_of(name)])]

    description = "Approved bases that were made anew: asks for a run that names what is to be built again."
    return _sensor("new_bases", config, job.name, description, ask)


def rebuild_sensor(config: Config, job: dg.JobDefinition, images: Sequence[str]) -> dg.SensorDefinition:
    """The sensor that asks for builds. job: the one that builds; images: its partitions."""

    def ask(chain: Chain, name: str, mark: str) -> list[dg.RunRequest]:
        wanted = [image for image in chain.to_build_on(name) if image in images]
        return [dg.RunRequest(run_key=f"{image}#{mark}", partition_key=image) for image in wanted]

    description = (
        "Images that stand on an approved base that was made anew, and whose configured version is not there yet: asks "
        "for their build. A version that is there never changes: set a new one."
    )
    return _sensor("rebuilds", config, job.name, description, ask)


def _sensor(name: str, config: Config, job: str, description: str, ask: Ask) -> dg.SensorDefinition:
    @dg.sensor(
        name=name,
        job_name=job,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())) * SLOWER,
        default_status=at_start(config),
        description=description,
    )
    def look(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_bases(context, chain, ask)

    return look
