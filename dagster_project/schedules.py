"""Jobs by what people ask for, and the schedules of those that run at night."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import dagster as dg

from dagster_project.notify import notified
from dagster_project.owners import Owners, owners_of
from dagster_project.partitions import DIGEST_TAG, RELEASES, release_keys, whole_key
from dagster_project.people import PROMOTE_JOB, config_to_ask
from registry_pipelines.chain.release_keys import ReleaseKeys
from registry_pipelines.config import Config
from registry_pipelines.oci.tags import order_key

Job: TypeAlias = Any
"""What ``dg.define_asset_job`` gives; Dagster does not publish the class."""
IMAGE_TAG = "registry-pipelines/image"
"""Run tag with the image's name; ``instance.yaml`` lets one run per image go at a time."""
REGISTRY_TAG = "registry-pipelines/registry"
"""Run tag with the name of the image's source registry."""
TEAM_TAG = "registry-pipelines/team"
"""Run tag with the team that the image is of (``report.teams``)."""


def run_tags(config: Config, key: str) -> dict[str, str]:
    """The tags of every run for a release, also of those started by hand. None for an unknown key: Dagster takes any
    text as one, the step refuses it with a message, and this only labels runs."""
    release = ReleaseKeys.of(config).find(key) or whole_key(key)
    if release is None:
        return {}
    image, team = config.images.get(release.image), Owners(config).team(release.image)
    where = {REGISTRY_TAG: image.registry} if image else {}
    return {IMAGE_TAG: release.image, DIGEST_TAG: release.digest, **where, **({TEAM_TAG: team} if team else {})}


def _by_release(config: Config, asked: Callable[[], dict[str, Any]] = dict) -> dg.PartitionedConfig[Any]:
    """Of a job that runs for one release. asked: what a person fills in."""
    return dg.PartitionedConfig(
        partitions_def=RELEASES,
        run_config_for_partition_key_fn=lambda _: asked(),
        tags_for_partition_key_fn=partial(run_tags, config),
    )


def release_job(config: Config, assets: Sequence[dg.AssetsDefinition]) -> Job:
    """Everything that happens to one release, in one run."""
    return dg.define_asset_job(
        "release",
        dg.AssetSelection.assets(*assets),
        owners=owners_of(assets),
        hooks={notified},
        description="One release through the chain: provenance, SBOM, report, signature, verdict, promotion, replicas, "
        "mirrors. Running it again changes nothing.",
        config=_by_release(config),
    )


def promote_job(config: Config, assets: Sequence[dg.AssetsDefinition]) -> Job:
    """A person lets one release go: the promotion, and what comes after it."""
    return dg.define_asset_job(
        PROMOTE_JOB,
        dg.AssetSelection.assets(*assets),
        owners=owners_of(assets),
        hooks={notified},
        description="Let an allowed release go, in your name: the channel tag moves to it, then it is copied to every "
        "replica and mirror. For releases that wait for a person, and to go back to an earlier one.",
        config=_by_release(config, config_to_ask),
    )


def deploy_job(config: Config, assets: Sequence[dg.AssetsDefinition]) -> Job:
    """One release to where it runs."""
    return dg.define_asset_job(
        "deploy",
        dg.AssetSelection.assets(*assets),
        owners=owners_of(assets),
        hooks={notified},
        description="Roll a release out to every deployment whose channel names it, by digest, and read it back there.",
        config=_by_release(config),
    )


def measure_job(config: Config, assets: Sequence[dg.AssetsDefinition]) -> Job:
    """How long a start of one release takes."""
    return dg.define_asset_job(
        "measure",
        dg.AssetSelection.assets(*assets),
        owners=owners_of(assets),
        description="Start a release on this machine with nothing of it here, and attach how long that took.",
        config=_by_release(config),
    )


def packs_job(config: Config, assets: Sequence[dg.AssetsDefinition]) -> Job:
    """The hot packs of one release, of what nodes recorded."""
    return dg.define_asset_job(
        "packs",
        dg.AssetSelection.assets(*assets),
        owners=owners_of(assets),
        description="Make the hot packs of a release of what nodes recorded of its starts.",
        config=_by_release(config),
    )


def by_upstream(job: Job, keys: Sequence[str], config: Config) -> dg.ScheduleDefinition:
    """The schedule that has each upstream of a mirror brought, in a run of its own: one that fails holds no other up.
    keys: the partitions."""
    if config.spared:
        return broken(job, "; ".join(config.spared))

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for key in keys:
            yield dg.RunRequest(run_key=run_key(context, key), partition_key=key)

    try:
        return dg.ScheduleDefinition(
            name=f"{job.name}_schedule",
            job=job,
            cron_schedule=str(config.schedules.mirror),
            execution_timezone=config.schedules.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            execution_fn=requests,
            description="Every upstream, a run for each.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        return broken(job, str(error))


def measured(job: Job, config: Config) -> dg.ScheduleDefinition:
    """The schedule that has the newest recorded release of each image measured."""
    if config.spared:
        return broken(job, "; ".join(config.spared))

    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        keys = newest_recorded(context.instance, config)
        if not keys:
            yield dg.SkipReason("no release has a recorded start yet")
        for key in keys:  # a list would be taken for one request: Dagster unpacks what a generator gives
            yield dg.RunRequest(run_key(context, key), partition_key=key, tags=run_tags(config, key))

    try:
        return dg.ScheduleDefinition(
            name=f"{job.name}_schedule",
            job=job,
            cron_schedule=str(config.schedules.start_time),
            execution_timezone=config.schedules.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            execution_fn=requests,
            description="The newest release of each image whose start is recorded, started anew and timed.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        return broken(job, str(error))


def newest_recorded(instance: dg.DagsterInstance, config: Config) -> list[str]:
    """The key of each image's newest release that has a hot pack, by version."""
    keys = ReleaseKeys.of(config)
    there = set(release_keys(instance)) & set(instance.get_materialized_partitions(dg.AssetKey("hot_pack")))
    named = [(release, key) for key in there if (release := keys.find(key) or whole_key(key))]
    named.sort(key=lambda pair: order_key(pair[0].tag))
    return list({release.image: key for release, key in named if release.image in config.images}.values())


def run_key(context: dg.ScheduleEvaluationContext, partition: str) -> str:
    """Dagster wants one where a tick asks for several runs; a tick that is evaluated twice asks with the same."""
    return f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}/{partition}"


def job(name: str, assets: Sequence[dg.AssetsDefinition], description: str) -> Job:
    """A job over assets that is no release's: mirrors, syncs, retention plans."""
    return dg.define_asset_job(
        name, dg.AssetSelection.assets(*assets), description=description, owners=owners_of(assets)
    )


Requests: TypeAlias = Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest]]
"""The runs that one tick of a schedule asks for."""


def nightly(
    job: Job, cron: str, config: Config, requests: Requests | None = None, description: str | None = None
) -> dg.ScheduleDefinition:
    """A schedule that is on from the start. One that Dagster refuses (a time zone that this machine does not know) or
    that the configuration writes wrong is replaced by :func:`broken`: it must not take the whole code location down.
    requests: the runs it asks for; one of the whole job unless told. description: the job's unless told."""
    if config.spared:
        return broken(job, "; ".join(config.spared))
    try:
        return dg.ScheduleDefinition(
            name=f"{job.name}_schedule",
            job=job,
            cron_schedule=cron,
            execution_timezone=config.schedules.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            execution_fn=requests,
            description=description or job.description,
        )
    except dg.DagsterInvalidDefinitionError as error:
        return broken(job, str(error))


def broken(job: Job, why: str) -> dg.ScheduleDefinition:
    """Stands where a schedule cannot: asks for no run, and fails every hour with the reason, so that the automation
    page shows it red. It has the schedule's name; once the reason is gone the real one goes on."""
    dg.get_dagster_logger().error("%s never runs: %s", job.name, why)

    @dg.schedule(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule="0 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Never runs {job.name}: {why}",
    )
    def fail() -> None:
        raise dg.Failure(f"{job.name} did not run: {why}", allow_retries=False)

    return fail
