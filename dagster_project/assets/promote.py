"""Promote: the verdict, and the move of the channel tag that only the library's gate can allow."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.checks import GATE, POLICY, of_releases, outcome, warning
from dagster_project.partitions import RELEASES, release_of
from dagster_project.people import Ask, who_asks
from dagster_project.report import (
    HELD,
    Materialized,
    Metadata,
    denial,
    facts,
    materialized,
    observed,
    refusals,
    table,
    tag_outcome,
)
from dagster_project.resources import ChainParam
from registry_pipelines.chain import Chain
from registry_pipelines.errors import PromotionDenied, PromotionHeld
from registry_pipelines.release import Release

GROUP = "promote"


@dg.asset(
    partitions_def=RELEASES,
    deps=["signature"],
    group_name=GROUP,
    kinds={"oci", "slsa"},
    owners=["team:security"],
    code_version="1",
    check_specs=[of_releases(POLICY, "verdict", "The verdict of the policy over the release's evidence is: allow.")],
    description="Allow or deny, with reasons: the policy over the evidence that the registry holds for exactly this "
    "digest, as a signed verification summary attached to the release.",
)
def verdict(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's verdict."""
    with refusals(context):
        result = chain.judge(release_of(context, chain))
    return materialized(result, outcome(POLICY, passed=result.ok, reasons=result.reasons))


@dg.asset(
    partitions_def=RELEASES,
    deps=["verdict"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    output_required=False,
    check_specs=[
        of_releases(GATE, "promotion", "The library's gate lets the release pass: it reads everything again.")
    ],
    description="The channel tag moved to this digest, and the record of it. The library reads the evidence of exactly "
    "this digest again before it moves anything: running this asset alone ships nothing that the policy refuses. Where "
    "the image is promoted by hand it is not materialized until a person asks: the job `promote`.",
)
def promotion(
    context: dg.AssetExecutionContext, chain: ChainParam, config: Ask
) -> Iterator[Materialized | dg.AssetCheckResult]:
    """The release under its channel tag; nothing where it waits for a person, or is held until its start is recorded,
    and what comes after is skipped. A denial is an event of its partition, a failed check, and the step's failure: the
    UI shows each of them at another place."""
    release = release_of(context, chain)
    with refusals(context):
        try:
            person = who_asks(context, config)
            if person:
                result = chain.promote(release, person, channel=config.channel.strip())
            else:
                result = chain.promote_automatically(release)
        except PromotionHeld as held:
            tag_outcome(context, HELD[held.state])
            shown = denial(held) | channels(chain, release)
            context.log_event(observed("promotion", context.partition_key, HELD[held.state], shown))
            yield warning(outcome(GATE, passed=False, reasons=held.reasons, outcome=HELD[held.state]))
            return
        except PromotionDenied as error:
            yield outcome(GATE, passed=False, reasons=error.reasons, outcome="denied")
            shown = denial(error) | channels(chain, release)
            context.log_event(observed("promotion", context.partition_key, "denied", shown))
            raise
    if result.facts.get("waits"):
        tag_outcome(context, "held")
        shown = facts(result) | channels(chain, release)
        context.log_event(observed("promotion", context.partition_key, "held", shown, result.action))
        yield outcome(GATE, passed=True, note=result.action)
    else:
        tag_outcome(context, "promoted")
        gate = outcome(GATE, passed=not result.alerts, reasons=result.alerts)
        done = materialized(result, warning(gate) if result.alerts else gate)
        yield done._replace(metadata={**(done.metadata or {}), **channels(chain, release)})


def channels(chain: Chain, release: Release) -> Metadata:
    """Of an image with several channels how the release stands with each: why it was held is there in plain words."""
    several = len(chain.config.images[release.image].order) > 1
    return {"channels": table(chain.channel_rows(release))} if several else {}
