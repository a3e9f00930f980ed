"""Numbers about registries every half an hour, told to who draws and alarms, and charted here, too."""

from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, plotted, progress_in_log, refusals
from dagster_project.resources import ChainParam

TOLD = "told"
OFTEN = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=2), warn_window=timedelta(hours=1))
"""A run may be missed; after four of them alarms look at numbers of another time."""


@dg.asset(
    group_name="report",
    kinds={"oci", "prometheus"},
    owners=["team:platform"],
    code_version="1",
    freshness_policy=OFTEN,
    check_specs=[
        dg.AssetCheckSpec(
            TOLD,
            asset="metrics",
            description="Every source was read whole, and everybody in `report.metrics.to` was told.",
        )
    ],
    description="What registries hold, how old mirrors, advisories, hot packs, backups and drills are, how far targets "
    "are behind and how channels stand, for CloudWatch, Cloud Monitoring, Prometheus and OpenTelemetry. All of it "
    "is kept in the state folder, for pictures.",
)
def metrics(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """Numbers about registries."""
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        result = logged_chain.metrics()
        drawn = plotted(logged_chain.plots("bytes", "lag", "advisories"))
    return materialized(result, outcome(TOLD, passed=result.ok, reasons=result.reasons), more=drawn)
