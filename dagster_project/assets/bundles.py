"""Bundles across an air gap. Near side: a mirror's next one is made in its folder. Far side: what lies in the inbox is
loaded, and a receipt comes back."""

import dagster as dg

from dagster_project.assets.mirror import GROUP
from dagster_project.report import Materialized, progress_in_log, refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.config import Mirror


def made(mirror: Mirror) -> dg.AssetsDefinition:
    """The asset that makes a mirror's next bundle, where there is something new."""

    @dg.asset(
        key=["bundle", mirror.name],
        deps=[dg.AssetKey(["upstreams", mirror.name])] if mirror.upstreams else [],
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"The next bundle in {mirror.bundle.folder}: all that crosses to {mirror.to}, less what the far "
        "side's receipts confirm; those that lie in the folder are taken in first. Nothing is made without news.",
    )
    def made(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            return succeeded(context, logged_chain.bundle_in_folder(mirror.name))

    return made


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
