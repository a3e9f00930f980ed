"""Who did what to registries: logs read every hour, with an alert for all that nothing signed explains."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from dagster_project.checks import outcome, warning
from dagster_project.report import Materialized, materialized, plotted, progress_in_log, refusals, stacked, table
from dagster_project.resources import ChainParam
from registry_pipelines.chain.audit import Wanted
from registry_pipelines.progress import count_text

EXPLAINED = "explained"
READ = "read"
HOURLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6), warn_window=timedelta(hours=2))
DAYS = 30
"""Of the chart, at most."""


@dg.asset(
    group_name="report",
    kinds={"oci", "parquet"},
    owners=["team:security"],
    code_version="1",
    freshness_policy=HOURLY,
    check_specs=[
        dg.AssetCheckSpec(
            EXPLAINED,
            asset="audit",
            description="Every channel moved by a promotion, every deletion had a signed plan, and every push was by "
            "somebody who may; what is acknowledged passes.",
        ),
        dg.AssetCheckSpec(READ, asset="audit", description="Every log of `report.audit.sources` was read."),
    ],
    description="Who pushed, deleted, pulled and changed settings, from the logs of registries and clouds, kept as "
    "Parquet by day. What nothing signed explains is an alert: `alerts`. What went is in `deleted`, by team.",
)
def audit(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """Who did what."""
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        result = logged_chain.audit(Wanted(by="day"))
        callers = logged_chain.audit(Wanted(by="who"), read=False)
        deleted = logged_chain.audit(Wanted(by="repository", action="delete"), read=False)
    open_alerts = [row for row in result.tables["alerts"] if not row["acknowledged"]]
    unread = [row for row in result.tables["sources"] if row["state"] not in ("read", "read in part")]
    checks = (
        outcome(
            EXPLAINED,
            passed=not result.facts["alerts_open"],
            reasons=[f"{row['alert']}: {row['said']}" for row in open_alerts],
        ),
        warning(outcome(READ, passed=not unread, reasons=[f"{row['source']}: {row['state']}" for row in unread])),
    )
    tables = {"callers": callers.rows, "deleted": [_with_team(chain, row) for row in deleted.tables["events"]]}
    shown = {name: table(rows) for name, rows in tables.items() if rows}
    drawn = plotted(chain.plots("pulls"))
    return materialized(result, *checks, more={"chart": chart(result.rows), **shown, **drawn})


def chart(days: Sequence[Mapping[str, Any]]) -> Any:
    """A bar for each day, of pushes, deletions, pulls and settings."""
    parts = {
        "push": ("+", "pushes"),
        "delete": ("-", "deletions"),
        "pull": ("o", "pulls"),
        "settings": ("!", "settings"),
    }
    return stacked(list(reversed(days[:DAYS])), "day", parts, unit=lambda count: count_text(count, "event"))


def _with_team(chain: ChainParam, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"team": chain.team_of(str(row["repository"])), **row}
