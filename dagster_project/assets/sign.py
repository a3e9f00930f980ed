"""Sign: vouch for a release, and check that the signature holds."""

import dagster as dg

from dagster_project.checks import VERIFIED, of_releases, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, materialized, refusals
from dagster_project.resources import ChainParam
from registry_pipelines.chain import Chain
from registry_pipelines.errors import EvidenceError
from registry_pipelines.release import Release


@dg.asset(
    partitions_def=RELEASES,
    deps=["vulnerabilities"],
    group_name="sign",
    kinds={"oci", "cosign"},
    owners=["team:security"],
    code_version="1",
    check_specs=[of_releases(VERIFIED, "signature", "Signature and attestations verify against the trusted keys.")],
    description="The cosign signature and the signed attestations: provenance and SBOM always, the vulnerability "
    "attestation only when the policy's limits hold. Read back and verified at once.",
)
def signature(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's signature and attestations."""
    release = release_of(context, chain)
    with refusals(context):
        signed = chain.sign(release)
        return materialized(signed, verification(chain, release))


def verification(chain: Chain, release: Release) -> dg.AssetCheckResult:
    """Whether the signature and the attestations verify. Raises the errors that are no answer (a registry is down)."""
    try:
        verified = chain.verify(release)
    except EvidenceError as error:
        return outcome(VERIFIED, passed=False, reasons=[str(error)])
    return outcome(VERIFIED, passed=verified.ok, reasons=verified.reasons, **verified.facts)
