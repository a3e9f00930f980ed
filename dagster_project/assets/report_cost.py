"""What registries cost: one table every night, held against the budget, with charts by team and by month."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, plotted, progress_in_log, refusals, stacked
from dagster_project.resources import ChainParam

WHOLE = "whole"
BUDGET = "budget"
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""One night may fail; two may not."""


@dg.asset(
    group_name="report",
    kinds={"oci", "parquet"},
    owners=["team:platform"],
    code_version="1",
    freshness_policy=NIGHTLY,
    check_specs=[
        dg.AssetCheckSpec(WHOLE, asset="cost", description="Everything in the registries was read."),
        dg.AssetCheckSpec(
            BUDGET, asset="cost", description="A month costs no more than `report.budget`; not known is no pass."
        ),
    ],
    description="What registries cost a month, by team, repository, image and class of layers: shared bytes are split "
    "between those that share them, and what would be freed is told beside. A price that is old, unsure or missing is "
    "said. Each night is kept in the state folder, for the trend.",
)
def cost(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """What registries cost."""
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        result = logged_chain.cost()
    over = chain.over_budget(result)
    checks = (outcome(WHOLE, passed=result.ok, reasons=result.reasons), outcome(BUDGET, passed=not over, reasons=over))
    drawn = plotted(chain.plots("cost", "cost-bytes", "bytes"))
    return materialized(result, *checks, more={**charts(result.rows, result.tables["months"]), **drawn})


def charts(rows: Sequence[Mapping[str, Any]], months: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bars of the dearest holders (bytes of their own, and their part of shared ones) and of months, in money, else in
    bytes."""
    holders = [
        {
            "of": next(iter(row.values())),
            "own": row["freed_bytes"],
            "shared": max(row["fair_bytes"] - row["freed_bytes"], 0),
        }
        for row in rows[:20]
    ]
    over_time = [row for row in months if row["of"] == "all"]
    one = len({row["currency"] for row in over_time}) == 1  # bars of several currencies say nothing
    priced = one and all(row["usd_per_month"] != "" for row in over_time)
    bars = [
        {"month": row["month"], "of": round(row["usd_per_month"] * 100) if priced else row["fair_bytes"]}
        for row in over_time
    ]
    currency = over_time[-1]["currency"] if over_time else ""
    unit = {"unit": lambda cents: f"{cents / 100:.2f} {currency}"} if priced else {}
    return {
        "chart": stacked(holders, "of", {"own": ("#", "its own"), "shared": ("+", "its part of what is shared")}),
        "over_time": stacked(bars, "month", {"of": ("#", "a month")}, **unit),
    }
