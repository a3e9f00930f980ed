"""Rescan: what is released against the advisories that are there now; no layer is read."""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from dagster_project.checks import LIMITS
from dagster_project.partitions import release_keys
from dagster_project.report import Metadata, bullets, facts, numbered, refusals, tag_outcome
from dagster_project.resources import ChainParam
from dagster_project.sweeping import PARTS, wanted
from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.buckets import filled_buckets
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release

RESCAN = "rescan"


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
    description="Buckets of the fleet that no other run has: signed reports where the advisories say something new, "
    "and a notification for each promoted release that became vulnerable. No layer is read. The gate takes the new "
    "reports: what they speak against is not copied any more.",
    out=dg.Out(dg.Nothing),
    pool=RESCAN,
)
def swept(context: dg.OpExecutionContext, chain: ChainParam) -> None:
    """The buckets of the run, each reported as a partition of ``rescan``."""
    buckets, since = wanted(context, filled_buckets(chain.config))
    notes: list[str] = []
    with refusals(context):
        for name, result in chain.rescan_buckets(buckets, since=since):
            if result is None or result.facts["passed"]:
                continue
            tell(context, chain, name, result)
            if result.facts["not_read"] or result.facts["not_listed"]:
                notes += [f"bucket {name}: {note}" for note in (result.action, *result.notes)]
    if notes:
        tag_outcome(context, "failed")
        raise dg.Failure("not all could be read", metadata={"notes": bullets(notes[:50])}, allow_retries=False)


def tell(context: dg.OpExecutionContext, chain: Chain, bucket: str, result: StageResult) -> None:
    """What one bucket found: its partition, and those of releases that became vulnerable."""
    known = set(release_keys(context.instance))
    for key, reasons in newly_vulnerable(chain, result).items():
        if key in known:
            show(context, key, reasons, result)
    tags = {DATA_VERSION_TAG: str(result.digest)}
    context.log_event(dg.AssetMaterialization(RESCAN, partition=bucket, metadata=facts(result), tags=tags))


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
    description="What is released against new advisories: stored SBOMs, no layer. All of the 256 buckets, or one "
    "partition.",
)
def rescan_job() -> None:
    """All buckets, or one."""
    swept()
