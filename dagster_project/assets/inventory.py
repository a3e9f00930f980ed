"""What registries hold, and who runs it: one table for each registry every night, with what did not answer."""

from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.pools import pool_of
from dagster_project.report import Materialized, materialized, progress_in_log, refusals
from dagster_project.resources import ChainParam

WHOLE = "whole"
ANSWERED = "answered"
NIGHTLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
"""One night may fail; two may not."""


def inventory(registry: str) -> dg.AssetsDefinition:
    """The inventory of one registry, kept in the state folder."""

    @dg.asset(
        key=["inventory", registry],
        group_name="inventory",
        pool=pool_of(registry),
        kinds={"oci", "parquet"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=NIGHTLY,
        check_specs=[
            dg.AssetCheckSpec(
                WHOLE, asset=dg.AssetKey(["inventory", registry]), description="Everything in the registry was read."
            )
        ],
        description=f"Every image that {registry} holds, tagged or not: one row each with size, age and last pull. "
        "What could not be read is in the table, and fails the check; it is never a registry that holds nothing.",
    )
    def inventory(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.keep_inventory(registry)
        return materialized(result, outcome(WHOLE, passed=result.ok, reasons=result.reasons))

    return inventory


@dg.asset(
    group_name="inventory",
    kinds={"aws", "googlecloud"},
    owners=["team:platform"],
    code_version="1",
    freshness_policy=NIGHTLY,
    check_specs=[dg.AssetCheckSpec(ANSWERED, asset="usage", description="Every source of usage answered.")],
    description="Which images run, and where, by the sources of `usage`. While one of them does not answer, "
    "nothing goes that it could speak of.",
)
def usage(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """Who runs what."""
    with refusals(context):
        result = chain.usage()
    return materialized(result, outcome(ANSWERED, passed=result.ok, reasons=result.reasons))
