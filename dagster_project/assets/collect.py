"""Collect: what a registry can let go, as a plan. Nothing is deleted here: ``registry-pipelines collect`` does that."""

import dagster as dg

from dagster_project.report import Materialized, materialized, refusals
from dagster_project.resources import ChainParam


def retention(registry: str) -> dg.AssetsDefinition:
    """The retention plan of one registry."""

    @dg.asset(
        key=["retention", registry],
        group_name="collect",
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"What {registry} can let go: neither kept by a rule, nor protected, nor needed by anything kept. "
        "A plan to read and approve; nothing is deleted.",
    )
    def retention(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            return materialized(chain.retention_plan(registry))

    return retention
