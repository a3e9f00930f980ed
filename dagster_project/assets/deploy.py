"""Releases where they run: rolled out by digest, and read back there."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.checks import of_releases, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, facts, materialized, observed, progress_in_log, refusals, tag_outcome
from dagster_project.resources import ChainParam
from registry_pipelines.config import Config
from registry_pipelines.deploying.model import DeploySettings

GROUP = "deploy"
RUNS = "runs"
"""The check of every deployment."""


def key_of(name: str) -> dg.AssetKey:
    """The asset of a deployment."""
    return dg.AssetKey(["deployed", name])


def deployed(settings: DeploySettings, config: Config) -> dg.AssetsDefinition:
    """The asset of one deployment. A release of another image, or one that its channel does not name, gets a passed
    check that says so, and no materialization."""
    key, channel = key_of(settings.name), settings.channel or config.images[settings.image].order[-1].name
    brought = [
        dg.AssetKey(["replica", name])
        for name in config.images[settings.image].targets
        if config.targets[name].registry == settings.registry
    ]

    @dg.asset(
        key=key,
        partitions_def=RELEASES,
        deps=["promotion", *brought],
        group_name=GROUP,
        kinds={"oci", "kubernetes" if settings.kind == "kubernetes" else "googlecloud"},
        owners=["team:platform"],
        code_version="1",
        output_required=False,
        check_specs=[
            of_releases(RUNS, key, "What runs there is the release, all of it and ready, as it was read back.")
        ],
        description=f"The release of {settings.image} that {channel} names, where it runs: rolled out by digest, read "
        "back, and signed. What does not come up within its time is taken back, and fails the check.",
    )
    def deployed(context: dg.AssetExecutionContext, chain: ChainParam) -> Iterator[Materialized | dg.AssetCheckResult]:
        release = release_of(context, chain)
        if release.image != settings.image:
            yield outcome(RUNS, passed=True, note=f"{settings.name} is for {settings.image}")
            return
        with refusals(context):
            named = chain.on_channels(release.image)[channel]
        if named != release.digest:
            yield outcome(RUNS, passed=True, note=f"{channel} names another release")
            return
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            result = logged_chain.deploy(settings.name, release)
        check = outcome(RUNS, passed=result.ok, reasons=result.reasons)
        if result.ok:
            yield materialized(result, check)
            return
        tag_outcome(context, "failed")
        context.log_event(observed(key.to_user_string(), context.partition_key, "failed", facts(result), result.action))
        yield check
        raise dg.Failure(result.action, metadata={"reasons": "\n".join(result.reasons)}, allow_retries=False)

    return deployed
