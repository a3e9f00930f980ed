"""Rechunk: releases whose layers are a package each, made of what was built or pushed."""

import warnings
from collections.abc import Sequence

import dagster as dg

from dagster_project.assets import build
from dagster_project.assets.build import IMAGE, RECHUNKED, report_all
from dagster_project.assets.stream import Chosen, newest
from dagster_project.checks import TREE, outcome
from dagster_project.partitions import add_releases, partition_of
from dagster_project.report import refusals, table
from dagster_project.resources import ChainParam
from registry_pipelines.release import Release

RECHUNK_JOB = "rechunk"


def rechunked(names: Sequence[str]) -> dg.AssetSpec:
    """The images that were rechunked: a partition for each image of which that is wanted. As with ``image``, a job
    makes them."""
    return dg.AssetSpec(
        RECHUNKED,
        partitions_def=dg.StaticPartitionsDefinition(names),
        deps=[dg.AssetDep(IMAGE, partition_mapping=dg.AllPartitionMapping())],
        group_name=build.GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description="Images with the files of pushed ones in layers of a package each, under `<tag>-rechunked`: layers "
        "that did not change stay, so that the next release moves few bytes. Launch the job `rechunk` for what was "
        "pushed; builds do it themselves.",
    )


def same_tree(names: Sequence[str]) -> dg.AssetChecksDefinition:
    """The check of what was rechunked. Run by hand it reads both images again."""
    with warnings.catch_warnings():
        # Checks with partitions are a preview; without them all images would share one status.
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(
            asset=RECHUNKED,
            name=TREE,
            description="Both images have the same files, by the tree digests that the indexer signed. Run by hand: "
            "both are read again, and their digests made anew.",
            partitions_def=dg.StaticPartitionsDefinition(names),
        )
        def check(context: dg.AssetCheckExecutionContext, chain: ChainParam) -> dg.AssetCheckResult:
            """The newest image of each name that was rechunked, read again: Dagster gives the run of a check alone no
            partition."""
            own = [context.partition_key] if context.has_partition_key else list(names)
            results = [chain.verify_rechunked(name) for name in own]
            reasons = [f"{result.subject}: {reason}" for result in results for reason in result.reasons]
            rows = [{"image": result.subject, **row} for result in results for row in result.rows]
            return outcome(TREE, passed=not reasons, reasons=reasons, rows=table(rows), images=len(results))

    return check


@dg.op(
    name=RECHUNKED,
    description="A pushed image's files in layers of a package each, with signed records of both roots; where its "
    "releases are converted for streaming, too, that is done after it. Adds the release's partition; the push sensor, "
    "or you, then run the release job for it.",
    out=dg.Out(dg.Nothing),
)
def rechunk(context: dg.OpExecutionContext, chain: ChainParam, config: Chosen) -> None:
    """Rechunk what was pushed for the run's image, and report it as materializations."""
    with refusals(context):
        image = partition_of(context, "image")
        for tag in config.tags or newest(chain, image):
            results = chain.derive(image, tag)
            made = Release.parse(str(results[-1].facts["release"]))
            known = {(each.image, each.digest) for each in chain.known_keys().values()}
            if (made.image, made.digest) not in known:  # pushed under two tags it keeps the key that it has
                add_releases(context.instance, chain, [made])
            report_all(context, results)


def rechunk_job(names: Sequence[str]) -> dg.JobDefinition:
    """The job that rechunks: a partition for each image of which that is wanted."""

    @dg.job(
        name=RECHUNK_JOB,
        description="Rechunk a pushed image, and make its release; the release's partition is added.",
        partitions_def=dg.StaticPartitionsDefinition(names),
    )
    def rechunk_pushed() -> None:
        rechunk()

    return rechunk_pushed
