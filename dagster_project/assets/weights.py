"""Weights of models that are kept in several places: brought there, and attached to the release that needs them."""

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, progress_in_log, refusals
from dagster_project.resources import ChainParam
from registry_pipelines.config.weights import KeptWeights

GROUP = "weights"
WHOLE = "whole_everywhere"


def key_of(name: str) -> dg.AssetKey:
    """The asset of a section of `weights`."""
    return dg.AssetKey(["weights", name])


def kept(settings: KeptWeights) -> dg.AssetsDefinition:
    """The asset of one section of `weights`. A place that could not be reached fails the check; the next run does the
    rest."""
    key = key_of(settings.name)
    places = ", ".join([*settings.to, *([f"attached to {settings.image}"] if settings.image else [])])

    @dg.asset(
        key=key,
        group_name=GROUP,
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        check_specs=[
            dg.AssetCheckSpec(
                WHOLE,
                asset=key,
                description="The set of the source is whole at every target, attached to its release where one is "
                "named, and signed where it must be; by lists and sizes, no file is read.",
            )
        ],
        description=f"Weights of {settings.source}, brought to: {places}. Only files that changed move.",
    )
    def kept(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.bring_weights(settings.name)
            checked = logged_chain.check_weights(settings.name)
        reasons = [*result.reasons, *(each for each in checked.reasons if each not in result.reasons)]
        return materialized(result, outcome(WHOLE, passed=result.ok and checked.ok, reasons=reasons))

    return kept
