"""Build: images made here, and the provenance of every release."""

from collections.abc import Sequence

import dagster as dg

from dagster_project.partitions import RELEASES, add_releases, release_of
from dagster_project.report import Materialized, materialized, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.release import Release

GROUP = "build"


def pushed() -> dg.AssetSpec:
    """Stands for the images when none is built here: teams' CI pushes them, the push sensor finds them."""
    return dg.AssetSpec("image", group_name=GROUP, kinds={"oci"}, description="Images pushed by the teams' own CI.")


def built(names: Sequence[str]) -> dg.AssetsDefinition:
    """The asset that builds images, one partition per image with a build section."""

    @dg.asset(
        partitions_def=dg.StaticPartitionsDefinition(names),
        group_name=GROUP,
        kinds={"oci", "python"},
        owners=["team:platform"],
        code_version="1",
        description="An image made from wheels and an application folder, without a container daemon, and pushed to "
        "its source registry. The same input gives the same digest. Adds the release's partition; the push sensor, or "
        "you, then run the release job for it.",
    )
    def image(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            result = chain.build(context.partition_key)
            add_releases(context.instance, chain, [Release.parse(str(result.facts["release"]))])
        return succeeded(context, result)

    return image


@dg.asset(
    partitions_def=RELEASES,
    deps=[dg.AssetDep("image", partition_mapping=dg.AllPartitionMapping())],
    group_name=GROUP,
    kinds={"oci", "slsa"},
    owners=["team:platform"],
    code_version="1",
    description="How the release was made: the SLSA v1 statement its builder attached, with every input by digest. "
    "A release that was pushed without one is told so here; the policy decides whether that may be.",
)
def provenance(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's provenance."""
    with refusals(context):
        return materialized(chain.provenance(release_of(context, chain)))
