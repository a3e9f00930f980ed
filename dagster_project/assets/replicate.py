"""Replicate: promoted releases in every region and cloud, one asset per target."""

from collections.abc import Iterator
from functools import partial

import dagster as dg

from dagster_project.checks import EQUAL, of_releases, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.pools import pool_of
from dagster_project.report import Materialized, materialized, progress_in_log, refusals, table, tag_outcome
from dagster_project.resources import ChainParam
from dagster_project.together import Together, selected
from registry_pipelines.chain import StageResult
from registry_pipelines.config import Target
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.transfer.closure import omissions

Copies = dg.ResourceParam[Together[StageResult | RegistryPipelinesError]]
"""A parameter named ``together`` that gets what the run's other targets left for it."""
Told = Iterator[Materialized | dg.AssetCheckResult]


def group_of(registry: str) -> str:
    """The group of a registry's replicas: regions and clouds stand apart in the graph. Groups take no dashes."""
    return f"replicate/{''.join(letter if letter.isalnum() else '_' for letter in registry)}"


def replica(target: Target) -> dg.AssetsDefinition:
    """The asset of one target. A release of an image that does not go there gets a passed check that says so, and no
    materialization."""
    key = dg.AssetKey(["replica", target.name])

    @dg.asset(
        key=key,
        partitions_def=RELEASES,
        deps=["promotion"],
        group_name=group_of(target.registry),
        pool=pool_of(target.registry),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        output_required=False,
        check_specs=[
            of_releases(
                EQUAL,
                key,
                f"{target.name} holds the release's closure, read back; what no copy brings is named.",
                blocking=True,
            )
        ],
        description=f"The release with all its evidence at {target.name} (registry {target.registry}), read back and "
        "compared digest for digest.",
    )
    def replica(context: dg.AssetExecutionContext, chain: ChainParam, together: Copies) -> Told:
        release = release_of(context, chain)
        targets = chain.targets(release.image)
        if target.name not in targets:
            yield outcome(EQUAL, passed=True, note=f"{release.image} does not go to {target.name}")
            return
        due = chain.targets_of(release)
        if target.name not in due:
            yield outcome(EQUAL, passed=True, note=f"the release did not come to a channel that has {target.name}")
            return
        chosen = [each for each in due if each in selected(context, "replica")]
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = together.take("replica", target.name, chosen, partial(logged_chain.replicate_to, release))
            if isinstance(result, RegistryPipelinesError):
                raise result
            compared = chain.compare_replica(release, target.name)
        reasons = [*result.reasons, *map(str, compared.differences)]
        if not result.ok or reasons:
            tag_outcome(context, "failed")
        more = {"not_compared": table(omissions.rows(compared.not_compared))} if compared.not_compared else {}
        check = outcome(EQUAL, passed=result.ok and not reasons, reasons=reasons, differences=len(reasons), **more)
        yield materialized(result, check)

    return replica
