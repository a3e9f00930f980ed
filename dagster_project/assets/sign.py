"""Sign: vouch for a release, and check that the signature holds."""

import dagster as dg

from dagster_project.checks import VERIFIED, blocking, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import RETRIES, Materialized, materialized, refusals
from dagster_project.resources import ChainParam


@dg.asset(
    partitions_def=RELEASES,
    deps=["vulnerability_report"],
    group_name="sign",
    kinds={"oci", "cosign"},
    owners=["team:security"],
    code_version="1",
    retry_policy=RETRIES,
    check_specs=[blocking(VERIFIED, "signature", "Signature and attestations verify against the trusted keys.")],
    description="The cosign signature and the signed attestations: provenance and SBOM always, the vulnerability "
    "attestation only when the policy's limits hold. Read back and verified at once.",
)
def signature(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's signature and attestations."""
    with refusals():
        signed = chain.sign(release_of(context))
        verified = chain.verify(release_of(context))
    return materialized(signed, outcome(VERIFIED, passed=verified.ok, reasons=verified.reasons, **verified.facts))
