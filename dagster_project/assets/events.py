"""The queues in which clouds tell of pushes: whether each answers, and what failed or cannot be read."""

from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome, warning
from dagster_project.report import Materialized, materialized, refusals, table
from dagster_project.resources import ChainParam

ANSWERED = "answered"
READABLE = "all_told_well"
WINDOW = timedelta(hours=2)
"""Looks are hourly: one may be late."""


@dg.asset(
    group_name="events",
    kinds={"aws", "googlecloud"},
    owners=["team:platform"],
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=2 * WINDOW, warn_window=WINDOW),
    check_specs=[
        dg.AssetCheckSpec(ANSWERED, asset="events", description="Every queue answered; pushes are listed otherwise."),
        dg.AssetCheckSpec(
            READABLE, asset="events", description="No message that nobody can read; nothing that was told failed."
        ),
    ],
    description="What registries tell by themselves, by queue: messages that wait, what failed last (scans, "
    "replications, caches), and messages that nobody can read. No message is touched.",
)
def events(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The look at the queues."""
    with refusals(context):
        result = chain.check_events()
    failed = [row for row in result.tables["told"] if not row["ok"]]
    unreadable = list(result.tables["unreadable"])
    said = [f"{row['about']} of {row['repository']}: {row['said']}" for row in failed]
    said += [f"{row['registry']}: a message cannot be read: {row['problem']}" for row in unreadable]
    shown = {name: table(rows) for name, rows in (("failed", failed), ("unreadable", unreadable)) if rows}
    return materialized(
        result,
        outcome(ANSWERED, passed=result.ok, reasons=result.reasons),
        warning(outcome(READABLE, passed=not said, reasons=said, **shown)),
    )
