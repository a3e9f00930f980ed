"""Stream: releases that start before they are fetched whole: their indexes, and what is derived of images for it."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from dagster_project.assets import build
from dagster_project.assets.build import CONVERTED, IMAGE, RECHUNKED, report
from dagster_project.checks import STREAMS, of_releases, outcome, warning
from dagster_project.partitions import RELEASES, add_releases, partition_of, release_of
from dagster_project.report import Materialized, facts, progress_in_log, refusals, stacked, table
from dagster_project.resources import ChainParam
from registry_pipelines.chain import Chain
from registry_pipelines.errors import InputError
from registry_pipelines.release import Release

GROUP = "stream"
CONVERT_JOB = "convert"
PARTS = {
    "by_pieces_bytes": ("█", "fetched by pieces"),
    "whole_bytes": ("▒", "fetched whole"),
    "index_bytes": ("░", "the index"),
}
"""What a node fetches of a platform's layers, and how."""


@dg.asset(
    partitions_def=RELEASES,
    deps=["provenance"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    check_specs=[
        of_releases(
            STREAMS, "streaming_index", "Nothing keeps a node from starting the release before it has it whole."
        )
    ],
    description="The SOCI index of each platform, beside the release, whose digest stays; signed by the indexer, since "
    "a node trusts what it says. A release that was derived has its index inside. Every layer is read here once; the "
    "SBOM is made of what was found.",
)
def streaming_index(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's indexes, and what keeps it from starting fast. An image without `stream` has none: that is said,
    and what comes after goes on."""
    release = release_of(context, chain)
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        indexed = logged_chain.index(release)
        looked_at = "platforms_indexed" in indexed.facts
        checked = logged_chain.check_stream(release) if looked_at else None
    shown = facts(indexed)
    if indexed.tables.get("platform_bytes"):
        shown = {"how_layers_are_fetched": stacked(indexed.tables["platform_bytes"], "platform", PARTS)} | shown
    if checked is None:
        check = outcome(STREAMS, passed=True, note=indexed.action)
    else:
        told = [f"{row['layer'] or row['platform']}: {row['what']}" for row in checked.rows if row["severity"] in BAD]
        more = {"rows": table(checked.rows)} if checked.rows else {}
        check = outcome(STREAMS, passed=not told, reasons=told, **checked.facts, **more)
        check = warning(check) if checked.ok else check
    version = dg.DataVersion(indexed.digest) if indexed.digest else None
    return Materialized(metadata=shown, data_version=version, check_results=[check])


BAD = ("error", "warning")
"""Severities that fail the check; without an error among them it warns."""


def converted(names: Sequence[str], *, rechunked: bool = False) -> dg.AssetSpec:
    """The releases that are derived: a partition for each image that has some. As with ``image``, a job makes them.
    rechunked: some are rechunked before."""
    return dg.AssetSpec(
        CONVERTED,
        partitions_def=dg.StaticPartitionsDefinition(names),
        deps=[
            dg.AssetDep(each, partition_mapping=dg.AllPartitionMapping())
            for each in (IMAGE, *((RECHUNKED,) if rechunked else ()))
        ],
        group_name=build.GROUP,  # provenance follows it: among the indexes the graph of groups would turn back
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description="Images made of pushed ones so that they start before they are fetched whole, each under "
        "`<tag>-<format>`: that is the release. Launch the job `convert` for what was pushed; builds do it themselves.",
    )


class Chosen(dg.Config):
    """What a run converts."""

    tags: list[str] = Field(
        default=[], description="Tags that were pushed. Without one: the newest that was not converted."
    )


@dg.op(
    name=CONVERTED,
    description="A release derived of a pushed image, with a signed record of what it was made of. Adds its partition; "
    "the push sensor, or you, then run the release job for it.",
    out=dg.Out(dg.Nothing),
)
def convert(context: dg.OpExecutionContext, chain: ChainParam, config: Chosen) -> None:
    """Convert what was pushed for the run's image, and report it as materializations of ``converted``."""
    with refusals(context):
        image = partition_of(context, "image")
        for tag in config.tags or newest(chain, image):
            result = chain.convert(image, tag)
            made = Release.parse(str(result.facts["release"]))
            known = {(each.image, each.digest) for each in chain.known_keys().values()}
            if (made.image, made.digest) not in known:  # pushed under two tags it keeps the key that it has
                add_releases(context.instance, chain, [made])
            report(context, CONVERTED, result)


def newest(chain: Chain, image: str) -> list[str]:
    """The newest tag of an image that was not converted. Raises InputError where there is none."""
    waiting = [tag for tag, done in chain.origins(image).items() if not done]
    if not waiting:
        raise InputError(f"everything of {image} is converted", do="Push an image, or name tags in the run's config")
    return waiting[:1]


def convert_job(names: Sequence[str]) -> dg.JobDefinition:
    """The job that derives releases: a partition for each image that has such."""

    @dg.job(
        name=CONVERT_JOB,
        description="Derive a release of a pushed image; its partition is added.",
        partitions_def=dg.StaticPartitionsDefinition(names),
    )
    def convert_pushed() -> None:
        convert()

    return convert_pushed
