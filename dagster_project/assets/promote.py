"""Promote: the verdict, and the move of the channel tag that only the library's gate can allow."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.checks import POLICY, blocking, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.people import Ask, who_asks
from dagster_project.report import Materialized, facts, materialized, refusals, tag_outcome
from dagster_project.resources import ChainParam

GROUP = "promote"


@dg.asset(
    partitions_def=RELEASES,
    deps=["signature"],
    group_name=GROUP,
    kinds={"oci", "slsa"},
    owners=["team:security"],
    code_version="1",
    check_specs=[blocking(POLICY, "verdict", "The verdict of the policy over the release's evidence is: allow.")],
    description="Allow or deny, with reasons: the policy over the evidence that the registry holds for exactly this "
    "digest, as a signed verification summary attached to the release.",
)
def verdict(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's verdict."""
    with refusals():
        result = chain.judge(release_of(context, chain))
    return materialized(result, outcome(POLICY, passed=result.ok, reasons=result.reasons))


@dg.asset(
    partitions_def=RELEASES,
    deps=["vulnerabilities", "verdict"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    output_required=False,
    description="The channel tag moved to this digest, and the record of it. The library reads the evidence of exactly "
    "this digest again before it moves anything: running this asset alone ships nothing that the policy refuses. Where "
    "the image is promoted by hand it is not materialized until a person asks: the job `promote`.",
)
def promotion(context: dg.AssetExecutionContext, chain: ChainParam, config: Ask) -> Iterator[Materialized]:
    """The release under its channel tag; nothing where it waits for a person, and what comes after is skipped."""
    release = release_of(context, chain)
    with refusals():
        person = who_asks(context, config)
        result = chain.promote(release, person) if person else chain.promote_automatically(release)
    if result.facts.get("waits"):
        tag_outcome(context, "held")
        held = dg.AssetObservation("promotion", description=result.action, metadata=facts(result))
        context.log_event(held)
        return
    tag_outcome(context, "promoted")
    yield materialized(result)
