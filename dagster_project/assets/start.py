"""Start: what a start of a release reads, as a hot pack beside it, and how long one takes."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.checks import COVERED, SHOWN_REASONS, STARTS, of_releases, outcome, warning
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, facts, progress_in_log, refusals, stacked
from dagster_project.resources import ChainParam
from registry_pipelines.chain import StageResult
from registry_pipelines.errors import PromotionDenied

GROUP = "start"
FIRST = {"dagster/priority": "100"}
"""Of the steps that may begin the one with the highest priority does: the pack is there when the promotion is asked
for. A promotion that depended on it would not be asked for where a start cannot be recorded, and never say why."""
POOL = "start"
"""One at a time on a machine: a start that shares its disk and its processors with another takes longer."""
PARTS = {
    "there_bytes": ("░", "frames that were there"),
    "sent_bytes": ("█", "frames sent now"),
}
"""Of what a pack holds."""
Told = Iterator[Materialized | dg.AssetCheckResult]


@dg.asset(
    partitions_def=RELEASES,
    deps=["verdict"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    op_tags=FIRST,
    pool=POOL,
    output_required=False,
    check_specs=[of_releases(COVERED, "hot_pack", "Each platform has a signed pack that covers its start.")],
    description="The pages that a start of the release reads, in the order in which it needs them, beside each "
    "platform's image and signed: a node fetches them in one piece while the program runs ahead. To record them the "
    "image is run, so only after an allowing verdict, without network and within the limits of `stream.record`; what "
    "the release before it read is taken over where the files are the same.",
)
def hot_pack(context: dg.AssetExecutionContext, chain: ChainParam) -> Told:
    """The release's packs; nothing where none is wanted, the verdict is deny, or this machine cannot run it."""
    release = release_of(context, chain)
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        try:
            result = logged_chain.record(release)
        except PromotionDenied as denied:  # `promotion` says so, and why
            yield outcome(COVERED, passed=True, note=f"not recorded: {'; '.join(denied.reasons[:SHOWN_REASONS])}")
            return
    yield from told(context, result, COVERED)


@dg.asset(
    partitions_def=RELEASES,
    deps=["hot_pack"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    pool=POOL,
    output_required=False,
    check_specs=[of_releases(STARTS, "start_time", "The release was started here, within what its policy permits.")],
    description="Seconds from nothing of the image on the machine to the program's first output and to its result, "
    "measured where this runs, in the sandbox in which the start is recorded. The signed measurement is attached to "
    "the image. **Plots** charts them over the releases.",
)
def start_time(context: dg.AssetExecutionContext, chain: ChainParam) -> Told:
    """How long a start of the release takes; nothing where this machine cannot run it."""
    release = release_of(context, chain)
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        result = logged_chain.measure(release)
    yield from told(context, result, STARTS)


def told(context: dg.AssetExecutionContext, result: StageResult, check: str) -> Told:
    """What a result says in Dagster: the materialization where something is there now, and the check in any case. Of
    one that failed ``dg.Failure``; what else the run does goes on, and how the release ends is not said here."""
    shown = facts(result)
    if not result.ok:
        raise dg.Failure(f"{result.action}: {'; '.join(result.reasons)}", metadata=shown, allow_retries=False)
    if not result.facts.get("platforms_covered"):
        context.log.info("%s", "; ".join([result.action, *result.notes]))
        yield outcome(check, passed=True, note=result.action)
        return
    if bars := result.tables.get("platform_bytes"):
        shown = {"what_the_pack_holds": stacked(bars, "platform", PARTS)} | shown
    whole = result.facts["platforms_covered"] == result.facts["platforms"]
    found = outcome(check, passed=whole and not result.reasons, reasons=[*result.reasons, *result.notes])
    version = dg.DataVersion(result.digest) if result.digest else None
    yield Materialized(metadata=shown, data_version=version, check_results=[warning(found)])
