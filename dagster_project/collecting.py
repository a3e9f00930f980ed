"""What a collection means for the partitions: releases that are gone have none, and those that come back have one."""

import dagster as dg
from pydantic import Field

from dagster_project.partitions import RELEASES, add_releases, release_keys
from dagster_project.report import refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.errors import RegistryPipelinesError

UNDO_JOB = "undo_collect"


def forget_gone(instance: dg.DagsterInstance, chain: Chain, result: StageResult) -> list[str]:
    """Remove the partitions of releases that a collection deleted and that their registry has no more; their keys. The
    push sensor does the same when it next looks at everything."""
    deleted = {str(row["digest"]) for row in result.rows}
    gone = []
    for key in release_keys(instance) if deleted else ():
        try:
            release = chain.release_of_key(key)
        except RegistryPipelinesError:
            continue  # a key that nobody knows is the sensor's affair
        if release.digest in deleted and not chain.is_there(release):
            instance.delete_dynamic_partition(str(RELEASES.name), key)
            gone.append(key)
    return gone


def remember_restored(instance: dg.DagsterInstance, chain: Chain, registry: str, result: StageResult) -> list[str]:
    """Add the partitions of the releases that came back to a registry; their keys."""
    tags: dict[str, set[str]] = {}
    for row in result.rows:
        tags.setdefault(str(row["repository"]), set()).update(str(row["tags"]).split(", "))
    found = [
        release
        for image in chain.config.images.values()
        if image.registry == registry and image.repository in tags
        for release in chain.releases_named(image.name, tags[image.repository])
    ]
    return list(add_releases(instance, chain, found).values()) if found else []


class ToUndo(dg.Config):
    """What a person writes to bring images back."""

    registry: str = Field(description="The registry, by its name in the configuration.")
    images: list[str] = Field(default=[], description="Each as repository:tag or repository@digest.")
    plan: str = Field(default="", description="Or the digest of a plan: all that it deleted.")


@dg.op(
    description="Bring back what a plan deleted and that is still set aside, byte for byte with its signatures; its "
    "releases are partitions again."
)
def brought_back(context: dg.OpExecutionContext, chain: ChainParam, config: ToUndo) -> None:
    """See ``registry-pipelines collect undo``."""
    with refusals(context):
        result = chain.undo_collect(config.registry, config.images, plan=config.plan.strip())
        keys = remember_restored(context.instance, chain, config.registry, result)
        for row in result.rows:
            context.log.info("asked back: %s@%s (%s)", row["repository"], row["digest"], row["tags"] or "no tag")
        context.log.info("%s; releases again: %s", result.action, ", ".join(keys) or "none")
        succeeded(context, result)


def undo_job() -> dg.JobDefinition:
    """Its config is what a person writes."""

    @dg.job(name=UNDO_JOB, description="Bring back what a retention plan deleted, while it is set aside.")
    def undo_collect() -> None:
        brought_back()

    return undo_collect
