"""Build: images made here, and the provenance of every release."""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from dagster_project.checks import SHOWN_REASONS, TREE
from dagster_project.partitions import RELEASES, add_releases, partition_of, release_of
from dagster_project.report import Materialized, materialized, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.chain import StageResult
from registry_pipelines.release import Release

GROUP = "build"
IMAGE = "image"
RECHUNKED = "rechunked"
"""The asset of what is made of images before; see :mod:`dagster_project.assets.rechunk`."""
CONVERTED = "converted"
"""The asset of what releases are derived of images for; see :mod:`dagster_project.assets.stream`."""


def image(names: Sequence[str], packages: Sequence[dg.AssetKey] = ()) -> dg.AssetSpec:
    """The images that releases are of: a partition for each that is built here; none where all are pushed by teams' CI.

    No asset of ours makes them: with builds among its assets **Materialize all** on Lineage would ask for an image, as
    the root of the graph, and then run every release. The job ``build`` reports what it made. packages: of ours, that
    builds take.
    """
    here = "Launch the job `build` to make one. " if names else ""
    return dg.AssetSpec(
        IMAGE,
        deps=list(packages),
        partitions_def=dg.StaticPartitionsDefinition(names) if names else None,
        group_name=GROUP,
        kinds={"oci", "python"} if names else {"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"Images in their source registries. {here}What a team's CI pushes, the push sensor finds.",
    )


@dg.op(
    name=IMAGE,
    description="An image made from wheels and an application folder, without a container daemon, or from a Dockerfile "
    "by an engine, and pushed to its source registry. The same input gives the same digest. Adds the release's "
    "partition; the push sensor, or you, then run the release job for it.",
    out=dg.Out(dg.Nothing),
)
def built(context: dg.OpExecutionContext, chain: ChainParam) -> None:
    """Build the image of the run's partition, and report it as the materialization of ``image``."""
    with refusals(context):
        results = chain.make_release(partition_of(context, "image"))
        add_releases(context.instance, chain, [Release.parse(str(results[-1].facts["release"]))])
    report_all(context, results)


STAGES = {"build": IMAGE, "rechunk": RECHUNKED, "convert": CONVERTED}
"""Of a pushed or built image, by the asset that each makes."""


def report_all(context: dg.OpExecutionContext, results: Sequence[StageResult]) -> None:
    """Say in the step of an op what became of a pushed or built image, stage by stage, and whether its files are all
    there."""
    for result in results:
        report(context, STAGES[result.stage], result)
        if result.stage == "rechunk":
            _checked(context, result)


def _checked(context: dg.OpExecutionContext, result: StageResult) -> None:
    context.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(RECHUNKED),
            check_name=TREE,
            passed=bool(result.facts["same_tree"]),
            severity=dg.AssetCheckSeverity.WARN,  # nothing is left out that nobody asked to leave out
            metadata={name: result.facts[name] for name in ("trees", "dropped_files", "dropped_bytes")},
            description="; ".join(result.notes[:SHOWN_REASONS]) or None,
            partition=context.partition_key,
        )
    )


def report(context: dg.OpExecutionContext, asset: str, result: StageResult) -> None:
    """Say in the step of an op that an external asset's partition was made."""
    made = succeeded(context, result)
    context.log_event(
        dg.AssetMaterialization(
            asset,
            partition=context.partition_key,
            metadata=made.metadata,
            tags={DATA_VERSION_TAG: result.digest},
        )
    )


def build_job(names: Sequence[str]) -> dg.JobDefinition:
    """The job that builds an image: a partition for each one with a build section."""

    @dg.job(
        name="build",
        description="Build an image; its release's partition is added.",
        partitions_def=dg.StaticPartitionsDefinition(names),
    )
    def build() -> None:
        built()

    return build


def provenance(sources: Sequence[str]) -> dg.AssetsDefinition:
    """The asset of provenance. sources: the assets that releases come from: ``image``, and what is made of it."""

    @dg.asset(
        partitions_def=RELEASES,
        deps=[dg.AssetDep(each, partition_mapping=dg.AllPartitionMapping()) for each in sources],
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

    return provenance
