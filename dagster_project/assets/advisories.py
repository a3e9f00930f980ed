"""Advisories: what scans compare with, fetched every night."""

from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, progress_in_log, refusals
from dagster_project.resources import ChainParam
from registry_pipelines.chain.advisories import strictest_age
from registry_pipelines.config import Config

YOUNG = "young_enough"


def advisories(config: Config) -> dg.AssetsDefinition:
    """The set of advisories. Its freshness says whether it was updated within what the strictest policy permits; its
    check, whether what came was that young: an export may stand still."""
    window = max(strictest_age(config), timedelta(days=1))

    @dg.asset(
        name="advisories",
        group_name="scan",
        kinds={"osv"},
        owners=["team:security"],
        code_version="1",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=window, warn_window=window / 2),
        check_specs=[
            dg.AssetCheckSpec(
                YOUNG, asset="advisories", description="The advisories are as new as the strictest policy asks for."
            )
        ],
        description="OSV's advisories for what the images hold, malicious packages included, from "
        f"{config.advisories.feed}. Whole or not at all; the set before stays in use until then. Later reports are "
        "made with it.",
    )
    def advisories(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.update_advisories()
        return materialized(result, outcome(YOUNG, passed=not result.alerts, reasons=result.alerts))

    return advisories
