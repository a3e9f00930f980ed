"""Registries that stand in for each other, looked at every hour: who can serve, and what has no second place. Once a
week real clients show what they do without the first."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from dagster_project.assets.recover import GROUP, WEEKLY
from dagster_project.checks import outcome, warning
from dagster_project.report import Materialized, materialized, progress_in_log, refusals, stacked
from dagster_project.resources import ChainParam
from registry_pipelines.chain.failover_drill import DrillOptions
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.recover.failover.drill.verdicts import Verdict
from registry_pipelines.recover.failover.model import Failover

LATE = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6))
"""Some looks may fail; half a day without any is one in which nobody would see an outage."""
HEALTHY = "healthy"
SECOND_PLACE = "second_place"
ELSEWHERE = "elsewhere"
BY_ITSELF = "by_itself"


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
        freshness_policy=LATE,
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


def failed_over(settings: Failover) -> dg.AssetsDefinition:
    """The weekly fail-over drill of one section of `failover`."""
    key = ["failover_drill", settings.name]
    first, objectives = settings.registries[0].registry, settings.objectives

    @dg.asset(
        key=key,
        group_name=GROUP,
        kinds={"oci", "docker"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=WEEKLY,
        check_specs=[
            dg.AssetCheckSpec(
                ELSEWHERE,
                asset=dg.AssetKey(key),
                description=f"Every client had the digest from another registry within {objectives.rto}; where it may "
                "need a hand, after the registry was taken out of its file.",
            ),
            dg.AssetCheckSpec(
                BY_ITSELF,
                asset=dg.AssetKey(key),
                description="No client needed a hand. A warning: clients of today wait where a registry hangs.",
            ),
        ],
        description=f"containerd and Docker of the drill's own pull a digest while a stand-in of {first} is down, with "
        f"and without TLS. `rto_s` (by itself) and `by_hand_s` are charted. It needs root, and changes no registry.",
    )
    def failed_over(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.failover_drill(settings.name, DrillOptions())
        waits = [_case(row) for row in result.rows if row["verdict"] == Verdict.BY_HAND]
        return materialized(
            result,
            outcome(ELSEWHERE, passed=result.ok, reasons=result.reasons),
            warning(outcome(BY_ITSELF, passed=not waits, reasons=waits)),
            more={"chart": _chart(result)},
        )

    return failed_over


def _case(row: Mapping[str, Scalar]) -> str:
    return f"{row['client']}, {row['scheme']}, {row['fault']}"


def _chart(result: StageResult) -> Any:
    """Seconds of each pull, and of the one after the remedy."""
    rows = [{"case": _case(row), "seconds": row["seconds"], "after": row["remedied_s"] or 0.0} for row in result.rows]
    parts = {"seconds": ("#", "until it was pulled or ended"), "after": ("+", "without the registry in its file")}
    return stacked(rows, "case", parts, unit=lambda seconds: f"{seconds:.1f} s")
