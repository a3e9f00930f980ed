"""Mirror: our releases and foreign images through the DMZ into private registries."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, progress_in_log, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.config import Mirror

GROUP = "mirror"


def mirrored_release(mirror: Mirror) -> dg.AssetsDefinition:
    """The asset that takes promoted releases of the mirror's images across; others are skipped."""

    @dg.asset(
        key=["mirror", mirror.name],
        partitions_def=RELEASES,
        deps=["promotion"],
        group_name=GROUP,
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
    """The nightly asset that brings a mirror's foreign images up to date."""

    @dg.asset(
        key=["upstreams", mirror.name],
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"Foreign images brought up to date in {mirror.to}{way(mirror)}: "
        f"{', '.join(upstream.image for upstream in mirror.upstreams)}.",
    )
    def upstreams(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            return succeeded(context, logged_chain.mirror(mirror.name))

    return upstreams


def way(mirror: Mirror) -> str:
    """How it gets there, in words."""
    return f" by way of {mirror.via}" if mirror.via else ""
