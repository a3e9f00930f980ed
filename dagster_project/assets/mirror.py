"""Mirror: our releases and foreign images through the DMZ into private registries."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from dagster_project.checks import AGE, SAME, of_partitions, outcome
from dagster_project.partitions import RELEASES, partition_of, release_of
from dagster_project.pools import pool_of
from dagster_project.report import Materialized, progress_in_log, refusals, succeeded
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job, job
from registry_pipelines.chain.mirror_sources import ARTIFACTS
from registry_pipelines.config import Mirror

GROUP = "mirror"


def mirrored_release(mirror: Mirror) -> dg.AssetsDefinition:
    """The asset that takes promoted releases of the mirror's images across; others are skipped."""

    @dg.asset(
        key=["mirror", mirror.name],
        partitions_def=RELEASES,
        deps=["promotion"],
        group_name=GROUP,
        pool=pool_of(mirror.to),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        output_required=False,
        description=f"The release with all its evidence in {mirror.to}{way(mirror)}, so that it can be verified there "
        "without any connection back.",
    )
    def mirrored(context: dg.AssetExecutionContext, chain: ChainParam) -> Iterator[Materialized]:
        release = release_of(context, chain)
        if release.image not in mirror.images:
            context.log.info("%s is not mirrored by %s", release.image, mirror.name)
            return
        order = chain.config.images[release.image].order
        if len(order) > 1 and order[-1].name not in chain.channels_reached(release):
            context.log.info("%s takes what came to %s", mirror.name, order[-1].name)
            return
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.mirror_release(release, mirror.name)
        yield succeeded(context, result)

    return mirrored


def upstreams(mirror: Mirror) -> dg.AssetsDefinition:
    """The nightly asset that brings a mirror's foreign images up to date, a partition for each: one that fails is red
    and the others go on. Its checks are told also where the upstream failed: the last good mirror grows older then."""
    key, partitions = dg.AssetKey(["upstreams", mirror.name]), upstream_partitions(mirror)

    @dg.asset(
        key=key,
        partitions_def=partitions,
        group_name=GROUP,
        pool=pool_of(mirror.to),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="2",
        freshness_policy=fresh(mirror),
        check_specs=[
            of_partitions(SAME, key, f"{mirror.to} holds what the DMZ does, digest for digest.", partitions),
            of_partitions(
                AGE, key, f"The upstream was last brought whole within {mirror.max_age}, by the registry.", partitions
            ),
        ],
        description=f"Foreign images brought up to date in {mirror.to}{way(mirror)}, a partition for each upstream."
        + (f" Exactly what {mirror.lock.name} says is taken." if mirror.lock else ""),
    )
    def upstreams(context: dg.AssetExecutionContext, chain: ChainParam) -> Iterator[Materialized | dg.AssetCheckResult]:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            image = partition_of(context, "upstream")
            result = logged_chain.mirror(mirror.name, upstream=image)
            checks = {
                SAME: chain.compare_mirror(mirror.name, upstream=image),
                AGE: chain.mirror_age(mirror.name, upstream=image),
            }
        for name, found in checks.items():
            yield outcome(name, passed=found.ok, reasons=found.reasons, **found.facts)
        yield succeeded(context, result)

    return upstreams


def artifacts(mirror: Mirror) -> dg.AssetsDefinition:
    """The nightly asset that brings a mirror's artifacts: few, so that they are one."""

    @dg.asset(
        key=["artifacts", mirror.name],
        group_name=GROUP,
        pool=pool_of(mirror.to),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=fresh(mirror),
        description=f"Artifacts brought up to date in {mirror.to}: {', '.join(mirror.artifacts)}.",
    )
    def artifacts(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            return succeeded(context, logged_chain.mirror(mirror.name, upstream=ARTIFACTS))

    return artifacts


def fresh(mirror: Mirror) -> dg.FreshnessPolicy:
    """Stale once nothing was brought for as long as the mirror's ``max_age``. Dagster asks for the newest partition
    alone; the check ``age`` is about each."""
    most = timedelta(seconds=mirror.max_age.total_seconds())
    return dg.FreshnessPolicy.time_window(fail_window=max(most, timedelta(minutes=1)))


def upstream_partitions(mirror: Mirror) -> dg.StaticPartitionsDefinition:
    """A key for each foreign image, as the configuration writes it."""
    return dg.StaticPartitionsDefinition(list(dict.fromkeys(upstream.image for upstream in mirror.upstreams)))


def nightly_upstreams(mirror: Mirror, asset: dg.AssetsDefinition) -> Job:
    """The job of a mirror: assets of several have partitions of their own, which no one job takes."""
    return job(mirror_job(mirror), [asset], f"Bring the upstreams of {mirror.name}, a run for each.")


def mirror_job(mirror: Mirror) -> str:
    """Its name, ``nightly_mirror_<name>``: without hyphens, which Dagster does not take and no two names differ by."""
    return f"nightly_mirror_{mirror.name.replace('-', '_')}"


def way(mirror: Mirror) -> str:
    """How it gets there, in words."""
    return f" by way of {mirror.via}" if mirror.via else ""
