"""Sync: whole repositories brought to the targets at night, many in one plan."""

import dagster as dg

from dagster_project.report import Materialized, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.config import Sync

GROUP = "replicate"


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
    def synced(chain: ChainParam) -> Materialized:
        with refusals():
            return succeeded(chain.sync(sync.name))

    return synced


def chosen(sync: Sync) -> str:
    """Which repositories, in words."""
    return ", ".join([*sync.repositories, *sync.repositories_regex]) or "all"
