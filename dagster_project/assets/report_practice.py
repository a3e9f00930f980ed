"""How good the practice is, and who shipped what: both from evidence and settings, once a night."""

import time
from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, plotted, progress_in_log, refusals, table
from dagster_project.resources import ChainParam

REACHED = "reached"
RECORDED = "recorded"
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""One night may fail; two may not."""


@dg.asset(
    group_name="report",
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    freshness_policy=NIGHTLY,
    check_specs=[
        dg.AssetCheckSpec(
            REACHED, asset="maturity", description="Every registry and image has `report.least_tier`; unknown has not."
        )
    ],
    description="How good the practice is of each registry and image, in four tiers (private access and lifecycle; "
    "slim images and scanning; caches, immutable tags, signing, monitoring; streaming), by evidence of the latest "
    "release and by settings, with the next step. A number for each, which is charted.",
)
def maturity(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """Tiers of practice."""
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        result = logged_chain.practice()
    return materialized(result, outcome(REACHED, passed=result.ok, reasons=result.reasons))


@dg.asset(
    group_name="report",
    kinds={"oci", "html"},
    owners=["team:platform"],
    code_version="1",
    freshness_policy=NIGHTLY,
    check_specs=[
        dg.AssetCheckSpec(
            RECORDED,
            asset="custody",
            description="Every channel could be read, and nothing that one names is an alert: each was put there by a "
            "signed record, and no break-glass and no revocation is open.",
        )
    ],
    description="Who shipped what a channel names: by whom and when, from which commit, by which builder, as signed "
    "evidence has it. Pages with the whole life of each are written into the state folder (`report/html`), and what "
    "was measured over time is drawn.",
)
def custody(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """Who shipped this."""
    started = time.monotonic()
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        written = logged_chain.write_pages(logged_chain.config.state / "report" / "html")
    result = written.result(seconds=time.monotonic() - started)
    check = outcome(RECORDED, passed=result.ok, reasons=result.reasons)
    rows = {"who_shipped": table(written.rows)} if written.rows else {}
    return materialized(result, check, more={**rows, **plotted(written.plots)})
