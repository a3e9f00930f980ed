"""Collect: what a registry can let go, as a plan; its application, which a person approves by the plan's digest; and
what is set aside until its time is over."""

import dagster as dg
from pydantic import Field

from dagster_project.checks import outcome
from dagster_project.collecting import forget_gone
from dagster_project.pools import pool_of
from dagster_project.report import Materialized, Metadata, materialized, progress_in_log, refusals, stacked, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.chain import StageResult
from registry_pipelines.errors import InputError

PARTS = {"bytes_after": ("#", "stays"), "freed_bytes": ("-", "goes")}
BELIEVED = "believed"
MAX_BARS = 20


class Approval(dg.Config):
    """What a person writes to approve a plan."""

    plan: str = Field(
        default="",
        description="Digest of the plan that you read: `digest` of the materialization of retention/<registry>. Empty "
        "where `collect.apply` is `auto`: then a plan is made now.",
    )


def retention(registry: str) -> dg.AssetsDefinition:
    """The retention plan of one registry."""

    @dg.asset(
        key=["retention", registry],
        group_name="collect",
        pool=pool_of(registry),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="2",
        description=f"What {registry} can let go: neither kept by a rule, nor protected, nor needed by anything kept. "
        "A signed plan to read; its digest approves it in collected. Nothing is deleted.",
    )
    def retention(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            result = chain.retention_plan(registry)
        return materialized(result, more={**approval(registry, result), **bars(result)})

    return retention


def collected(registry: str) -> dg.AssetsDefinition:
    """The application of a plan of one registry."""

    @dg.asset(
        key=["collected", registry],
        deps=[dg.AssetKey(["retention", registry])],
        group_name="collect",
        pool=pool_of(registry),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        description=f"What {registry} let go: materialize it with the digest of the plan that you read (Launchpad). "
        "Each image is set aside first, and comes back by the job `undo_collect` until its time is over.",
    )
    def collected(context: dg.AssetExecutionContext, chain: ChainParam, config: Approval) -> Materialized:
        with refusals(context), progress_in_log(context, chain) as logged_chain:
            approved = config.plan.strip()
            if approved:
                result = logged_chain.collect_approved(registry, approved)
            elif logged_chain.config.collect.apply == "auto":
                result = logged_chain.collect(registry, logged_chain.plan_retention(registry))
            else:
                raise InputError(
                    "nobody approved a plan",
                    where=registry,
                    do="Open the launchpad, and write the digest of the plan as `plan` of the step",
                )
            forgotten = forget_gone(context.instance, logged_chain, result)
        return succeeded(context, result, releases_forgotten=len(forgotten), **bars(result))

    return collected


def quarantine(registry: str) -> dg.AssetsDefinition:
    """What is set aside in one registry, less what is over."""

    @dg.asset(
        key=["quarantine", registry],
        group_name="collect",
        pool=pool_of(registry),
        kinds={"oci"},
        owners=["team:platform"],
        code_version="2",
        check_specs=[
            dg.AssetCheckSpec(
                BELIEVED,
                asset=dg.AssetKey(["quarantine", registry]),
                description="Every record is signed by a key that is believed, and what was over could be deleted.",
            )
        ],
        description=f"What plans set aside in {registry}, until when it can be brought back. What is over is deleted "
        "for good, each night, and where the registry's files are here, blobs that nothing needs any more are freed.",
    )
    def quarantine(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            ended = chain.purge(registry)
            freed = chain.garbage(registry, if_here=True)
            left = chain.quarantined(registry)
        more: Metadata = {
            "purged": ended.facts["images"],
            "purged_bytes": ended.facts["freed_bytes"],
            "blobs_freed": freed.facts["blobs"],
            "blob_bytes_freed": freed.facts["freed_bytes"],
        }
        reasons = list(dict.fromkeys([*ended.reasons, *left.reasons, *freed.reasons]))
        passed = ended.ok and left.ok and freed.ok
        return materialized(left, outcome(BELIEVED, passed=passed, reasons=reasons), more=more)

    return quarantine


def approval(registry: str, result: StageResult) -> Metadata:
    """What approves a plan of which something goes: its digest, and what is pasted into the launchpad of collected."""
    if not result.facts["delete"]:
        return {}
    step = dg.AssetKey(["collected", registry]).to_python_identifier()
    config = f"ops:\n  {step}:\n    config:\n      plan: {result.digest}"
    return {"digest": result.digest, "launchpad": dg.MetadataValue.md(f"```yaml\n{config}\n```")}


def bars(result: StageResult) -> Metadata:
    """Bytes before and after by repository, as a chart: those that free most."""
    rows = result.tables.get("repositories", ())
    return {"before_and_after": stacked(rows[:MAX_BARS], "repository", PARTS)} if rows else {}
