"""Registries that stand in for each other, looked at every hour: who can serve, and what has no second place."""

import dagster as dg

from dagster_project.assets.recover import GROUP
from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, progress_in_log, refusals
from dagster_project.resources import ChainParam
from registry_pipelines.recover.failover.model import Failover

HEALTHY = "healthy"
SECOND_PLACE = "second_place"


def stood_in(settings: Failover) -> dg.AssetsDefinition:
    """How one section of `failover` stands."""
    key = ["failover", settings.name]
    names = list(settings.stands)

    @dg.asset(
        key=key,
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        check_specs=[
            dg.AssetCheckSpec(
                HEALTHY,
                asset=dg.AssetKey(key),
                description="Each registry answered in time, took our account and showed a good certificate.",
            ),
            dg.AssetCheckSpec(
                SECOND_PLACE,
                asset=dg.AssetKey(key),
                description="Whatever channels name, nodes run and mirrors brought is whole at two registries that can "
                "serve, and its tag names the same there.",
            ),
        ],
        description=f"In which order nodes are to ask {', '.join(names)}, and what they would get. Nothing is written: "
        f"`registry-pipelines recover failover {settings.name} --to FOLDER` makes the files of the order.",
    )
    def stood_in(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.failover(settings.name, dry_run=True)
        sick = [f"{row['registry']}: {row['why']}" for row in result.tables["health"] if row["state"] != "up"]
        told = {f"{row['registry']}: {row['why']}" for row in result.tables["health"]}
        down = [each for each in result.reasons if any(each.startswith(f"{name} is down") for name in names)]
        others = [each for each in result.reasons if each not in down]
        return materialized(
            result,
            outcome(HEALTHY, passed=not sick, reasons=sick or sorted(each for each in told if not each.endswith(": "))),
            outcome(SECOND_PLACE, passed=not others, reasons=others),
        )

    return stood_in
