"""Sweeps of a fleet beside the rescan: drift, lag and cost, a partition for each of 256 buckets."""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from dagster_project.report import bullets, facts, refusals, tag_outcome
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sweeping import PARTS, wanted
from registry_pipelines.chain.buckets import BUCKETS, filled_buckets
from registry_pipelines.config import Config

POOL = "sweep"
SAID = {
    "drift": "Whether each target has what a release's source has, by digest and under the tags of its channels.",
    "lag": "How far each target is behind what channels name at the source.",
    "cost": "What registries hold, read by parts of their repositories; `sweep show cost` says what that costs.",
}


def key_of(kind: str) -> dg.AssetKey:
    """``sweep/drift``."""
    return dg.AssetKey(["sweep", kind])


def buckets_of(kind: str, config: Config) -> list[str]:
    """Buckets in which there may be something; what registries hold is known when they are asked."""
    return list(BUCKETS) if kind == "cost" else filled_buckets(config)


def spec(kind: str) -> dg.AssetSpec:
    """What a sweep's job reports."""
    return dg.AssetSpec(
        key_of(kind),
        partitions_def=PARTS,
        group_name="sweeps",
        kinds={"oci", "parquet"},
        owners=["team:platform"],
        code_version="1",
        description=f"{SAID[kind]} Launch the job `sweep_{kind}`; what each bucket found is a Parquet file in the "
        "state, with a signed statement.",
    )


def job_of(kind: str) -> tuple[Job, dg.OpDefinition]:
    """The job of a sweep, and its step."""

    @dg.op(
        name=f"swept_{kind}",
        description=f"{SAID[kind]} Buckets that another run has, or has done in the same sweep, are passed over.",
        out=dg.Out(dg.Nothing),
        pool=POOL,
    )
    def swept(context: dg.OpExecutionContext, chain: ChainParam) -> None:
        buckets, since = wanted(context, buckets_of(kind, chain.config))
        unread: list[str] = []
        with refusals(context):
            for name, result in chain.sweep_buckets(kind, buckets, since=since):
                if result is None or result.facts["passed"]:
                    continue
                tags = {DATA_VERSION_TAG: str(result.digest)}
                context.log_event(
                    dg.AssetMaterialization(key_of(kind), partition=name, metadata=facts(result), tags=tags)
                )
                unread += result.reasons
        if unread:
            tag_outcome(context, "failed")
            raise dg.Failure(f"{len(unread)} could not be read", {"unread": bullets(unread[:50])}, allow_retries=False)

    @dg.job(name=f"sweep_{kind}", partitions_def=PARTS, description=f"{SAID[kind]} All buckets, or one partition.")
    def sweep() -> None:
        swept()

    return sweep, swept
