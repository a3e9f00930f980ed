"""Promote: the verdict, and the move of the channel tag that only the library's gate can allow."""

import dagster as dg

from dagster_project.checks import POLICY, blocking, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, materialized, refusals
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
    description="The channel tag moved to this digest, and the record of it. The library reads the evidence of exactly "
    "this digest again before it moves anything: running this asset alone ships nothing that the policy refuses.",
)
def promotion(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release under its channel tag."""
    with refusals():
        return materialized(chain.promote(release_of(context, chain)))
