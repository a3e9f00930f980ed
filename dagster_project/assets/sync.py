"""Sync: whole repositories brought to the targets at night, many in one plan."""

from collections.abc import Sequence

import dagster as dg

from dagster_project.report import Materialized, progress_in_log, refusals, stacked, succeeded
from dagster_project.resources import ChainParam
from dagster_project.together import Together, selected
from registry_pipelines.chain import StageResult
from registry_pipelines.config import Sync

Syncs = dg.ResourceParam[Together[StageResult]]
"""A parameter named ``together`` that gets what the run's other syncs left for it."""
GROUP = "replicate"
PARTS = {
    "bytes": ("█", "uploaded"),
    "resumed_bytes": ("▓", "there from a run that did not finish"),
    "mounted_bytes": ("▒", "mounted"),
    "unchanged_bytes": ("░", "there already"),
}
"""How what a target has now came to be there."""


def synced(sync: Sync, order: Sequence[str]) -> dg.AssetsDefinition:
    """The nightly asset of one sync. order: the names of all syncs, of which the run's are planned together.

    A run that is killed leaves its journal; the next one does the rest.
    """

    @dg.asset(
        key=["sync", sync.name],
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"Repositories of {sync.source} ({chosen(sync)}) brought up to date at {', '.join(sync.targets)}; "
        "each blob leaves the source once.",
    )
    def synced(context: dg.AssetExecutionContext, chain: ChainParam, together: Syncs) -> Materialized:
        chosen = [name for name in order if name in selected(context, "sync")]
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = together.take("sync", sync.name, chosen, logged_chain.syncs)
        return succeeded(context, result, where_bytes_are=stacked(result.tables["targets"], "target", PARTS))

    return synced


def chosen(sync: Sync) -> str:
    """Which repositories, in words."""
    return ", ".join([*sync.repositories, *sync.repositories_regex]) or "all"
