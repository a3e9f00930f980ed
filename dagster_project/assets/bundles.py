"""Bundles across an air gap, on the far side: what lies in a mirror's inbox is loaded, and a receipt comes back."""

import dagster as dg

from dagster_project.assets.mirror import GROUP
from dagster_project.report import Materialized, progress_in_log, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.config import Mirror


def loaded(mirror: Mirror) -> dg.AssetsDefinition:
    """The asset that loads what is new in a mirror's inbox."""

    @dg.asset(
        key=["loaded", mirror.name],
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"Bundles that lie in {mirror.bundle.inbox}, loaded into {mirror.to}: each is read whole and its "
        "signature checked before anything is written. The receipt for the way back is written beside them.",
    )
    def loaded(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            return succeeded(context, logged_chain.load_inbox(mirror.name))

    return loaded
