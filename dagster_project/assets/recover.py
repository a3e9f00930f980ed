"""Backups of registries every night, and a restore drill every week, with recovery point and time as charts."""

from dataclasses import replace
from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, progress_in_log, refusals
from dagster_project.resources import ChainParam
from registry_pipelines.recover.model import Backup

GROUP = "recover"
WHOLE = "whole"
PROVED = "proved"
WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8))
"""One week may fail; two may not."""


def backed_up(settings: Backup) -> dg.AssetsDefinition:
    """The nightly backup of one section of `backups`."""
    key = ["backup", settings.name]
    late = timedelta(seconds=settings.objectives.rpo.total_seconds())

    @dg.asset(
        key=key,
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=late),
        check_specs=[dg.AssetCheckSpec(WHOLE, asset=dg.AssetKey(key), description="Everything was read and is kept.")],
        description=f"What {', '.join(settings.registries)} hold, kept at {settings.to} with a signed moment that says "
        "what every tag named. What could not be read or written fails the check; the rest is kept. After a whole one "
        "the moments go that `keep` does not keep.",
    )
    def backed_up(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.backup(settings.name)
            if settings.keep is not None and result.ok:
                expired = logged_chain.expire(settings.name)
                result = replace(
                    result,
                    facts={
                        **result.facts,
                        "moments_kept": expired.facts["kept"],
                        "moments_gone": expired.facts["gone"],
                    },
                    notes=[*result.notes, expired.action, *expired.reasons],
                )
        return materialized(result, outcome(WHOLE, passed=result.ok, reasons=result.reasons))

    return backed_up


def drilled(settings: Backup) -> dg.AssetsDefinition:
    """The weekly drill of one backup."""
    key = ["drill", settings.name]

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(["backup", settings.name])],
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=WEEKLY,
        check_specs=[
            dg.AssetCheckSpec(
                PROVED,
                asset=dg.AssetKey(key),
                description="The newest moment came back byte for byte, signed as it was, within its objectives.",
            )
        ],
        description="The newest moment restored into empty registries on this machine and held against what it says. "
        f"Objectives: {settings.objectives.rpo} (rpo), {settings.objectives.rto} (rto); both are charted.",
    )
    def drilled(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.drill(settings.name)
        return materialized(result, outcome(PROVED, passed=result.ok, reasons=result.reasons))

    return drilled
