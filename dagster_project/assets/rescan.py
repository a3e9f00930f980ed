"""Rescan: what is released against the advisories that are there now; no layer is read."""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from dagster_project.checks import LIMITS
from dagster_project.partitions import release_keys
from dagster_project.report import Metadata, bullets, facts, numbered, refusals, tag_outcome
from dagster_project.resources import ChainParam
from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.buckets import BUCKETS
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release

RESCAN = "rescan"
PARTS = dg.StaticPartitionsDefinition(list(BUCKETS))
"""256 parts of a fleet, by the hash of the repository: the same for ever, however many images there are."""


def rescanned() -> dg.AssetSpec:
    """What the job ``rescan`` reports. No asset makes it: with other partitions than releases among its roots
    **Materialize all** on Lineage would ask for buckets."""
    return dg.AssetSpec(
        RESCAN,
        partitions_def=PARTS,
        group_name="scan",
        kinds={"oci", "osv"},
        owners=["team:security"],
        code_version="1",
        description="The stored SBOMs of all releases against the advisories that are there now; launch the job "
        "`rescan`. A promoted release that became vulnerable is named here, and its own partition of "
        "`vulnerabilities` turns red.",
    )


@dg.op(
    name="rescanned",
    description="One bucket of the fleet: signed reports where the advisories say something new, and a notification "
    "for each promoted release that became vulnerable. No layer is read. The gate takes the new reports: what they "
    "speak against is not copied any more.",
    out=dg.Out(dg.Nothing),
    pool=RESCAN,
)
def swept(context: dg.OpExecutionContext, chain: ChainParam) -> None:
    """The bucket of the run's partition, reported as the materialization of ``rescan``."""
    with refusals(context):
        result = chain.rescan(bucket=context.partition_key)
        vulnerable = newly_vulnerable(chain, result)
    known = set(release_keys(context.instance))
    for key, reasons in vulnerable.items():
        if key in known:
            show(context, key, reasons, result)
    tags = {DATA_VERSION_TAG: str(result.digest)}
    context.log_event(
        dg.AssetMaterialization(RESCAN, partition=context.partition_key, metadata=facts(result), tags=tags)
    )
    if result.facts["not_read"] or result.facts["not_listed"]:
        tag_outcome(context, "failed")
        raise dg.Failure(result.action, metadata={"notes": bullets(result.notes)}, allow_retries=False)


def newly_vulnerable(chain: Chain, result: StageResult) -> dict[str, list[str]]:
    """Partition keys of the releases that a rescan found, and what speaks against each."""
    found = [
        Release(str(row["image"]), str(row["tag"]), Digest.parse(str(row["digest"])))
        for row in result.rows
        if row["found"] == "newly vulnerable"
    ]
    keys, told = chain.keys_of(found), {each: f"{each.image}:{each.tag}: " for each in found}
    return {
        keys[each]: [reason.removeprefix(named) for reason in result.reasons if reason.startswith(named)]
        for each, named in told.items()
    }


def show(context: dg.OpExecutionContext, key: str, reasons: list[str], result: StageResult) -> None:
    """Put it on the release's own partition: an event with the reasons, and its check turns red. Shown, not enforced:
    that is the gate's, which reads the report."""
    told: Metadata = {
        "newly_vulnerable": bullets(reasons),
        "next_steps": numbered(result.next_steps),
        "advisories_newest": str(result.facts["advisories_newest"]),
    }
    context.log_event(
        dg.AssetObservation("vulnerabilities", partition=key, metadata=told, description="newly vulnerable")
    )
    context.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("vulnerabilities"),
            check_name=LIMITS,
            passed=False,
            metadata=told,
            description="; ".join(reasons[:5]),
            partition=key,
        )
    )


@dg.job(
    name=RESCAN,
    partitions_def=PARTS,
    description="What is released against new advisories: stored SBOMs, no layer. One run for each of the 256 buckets "
    "that holds an image.",
)
def rescan_job() -> None:
    """One bucket."""
    swept()
