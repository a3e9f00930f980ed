"""Sync: whole repositories brought to the targets at night, many in one plan."""

import dagster as dg

from dagster_project.report import Materialized, refusals, stacked, succeeded, telling
from dagster_project.resources import ChainParam
from registry_pipelines.config import Sync

GROUP = "replicate"
PARTS = {
    "bytes": ("█", "uploaded"),
    "resumed_bytes": ("▓", "there from a run that did not finish"),
    "mounted_bytes": ("▒", "mounted"),
    "unchanged_bytes": ("░", "there already"),
}
"""How what a target has now came to be there."""


def synced(sync: Sync) -> dg.AssetsDefinition:
    """The nightly asset of one sync. A run that is killed leaves its journal; the next one does the rest."""

    @dg.asset(
        key=["sync", sync.name],
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"Repositories of {sync.source} ({chosen(sync)}) brought up to date at {', '.join(sync.targets)}; "
        "each blob leaves the source once.",
    )
    def synced(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(), telling(context, chain) as told:
            result = told.sync(sync.name)
        return succeeded(result, where_bytes_are=stacked(result.tables["targets"], "target", PARTS))

    return synced


def chosen(sync: Sync) -> str:
    """Which repositories, in words."""
    return ", ".join([*sync.repositories, *sync.repositories_regex]) or "all"
