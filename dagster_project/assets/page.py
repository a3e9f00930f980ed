"""One page per release: verdict and reasons, where it is, what changed since the one before it."""

from typing import Any

import dagster as dg

from dagster_project.checks import SHIPS, of_releases, outcome
from dagster_project.keeping import keep_report
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, facts, refusals, stacked
from dagster_project.resources import ChainParam

GROUP = "report"
LAST = {"dagster/priority": "-100"}
"""Of the steps that may begin the one with the highest priority does, so the page is written when all else is done, and
needs no promotion for it. One that depended on the replicas would be missing exactly where they failed."""
PARTS = {
    "malicious": ("☠", "malicious"),
    "critical": ("█", "critical"),
    "high": ("▓", "high"),
    "medium": ("▒", "medium"),
    "low": ("░", "low"),
    "unknown": ("·", "unknown"),
}


@dg.asset(
    partitions_def=RELEASES,
    deps=["verdict"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    op_tags=LAST,
    check_specs=[of_releases(SHIPS, "release_page", "Allowed, promoted, and everywhere it must be.")],
    description="All about a release on one page, read from the registries after everything else was done: whether it "
    "ships and why, where it is, and what changed since the release before it.",
)
def release_page(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's page."""
    with refusals(context):
        release = release_of(context, chain)
        result = chain.page(release)
        kept = keep_report(chain.config.reports, release, result) if chain.config.reports else ""
    counted = result.tables["findings_by_severity"]
    # A page has no charts of what it cost, nor of how long its tables are.
    unwanted = {"action", "changed", "bytes_moved", *(f"{name}_rows" for name in result.tables)}
    told = {name: value for name, value in facts(result).items() if name not in unwanted}
    shown: dict[str, Any] = {"state": result.action, **told, **({"kept_at": kept} if kept else {})}
    if counted:
        parts = {name: part for name, part in PARTS.items() if name in counted[0]}
        shown["findings_by_severity"] = stacked(counted, "release", parts, unit=str)
    return Materialized(metadata=shown, check_results=[outcome(SHIPS, passed=result.ok, reasons=result.reasons)])
