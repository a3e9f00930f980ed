"""Bases: what releases stand on, and what is to be built again when one is made anew."""

import dagster as dg

from dagster_project.checks import outcome, warning
from dagster_project.report import Materialized, materialized, refusals
from dagster_project.resources import ChainParam
from registry_pipelines.promote.bases import Base

BASE = "base"
REBUILT = "all_on_current"


def key_of(name: str) -> dg.AssetKey:
    """The asset of a base."""
    return dg.AssetKey([BASE, name])


def base(settings: Base) -> dg.AssetsDefinition:
    """One approved base. Its data version is the digest that its tag names; its check says whether every image that
    stands on it stands on that one: what does not is to be built again, and is named."""

    @dg.asset(
        key=key_of(settings.name),
        group_name="bases",
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        check_specs=[
            dg.AssetCheckSpec(
                REBUILT,
                asset=key_of(settings.name),
                description="Every image that stands on this base stands on the current one.",
            )
        ],
        description=f"The approved base {settings.registry}/{settings.repository}:{settings.tag}: which images stand "
        "on it by their layers, which are to be built again, and the bytes that one base for all would save.",
    )
    def base(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        """The base as its registry has it now."""
        with refusals(context):
            result = chain.bases([settings.name])
        return materialized(
            result, warning(outcome(REBUILT, passed=not result.facts["images_older"], reasons=result.next_steps))
        )

    return base
