"""Scan: what is in a release, and what is known against it."""

import dagster as dg

from dagster_project.checks import LIMITS, of_releases, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, materialized, refusals
from dagster_project.resources import ChainParam

GROUP = "scan"


@dg.asset(
    partitions_def=RELEASES,
    deps=["provenance"],
    group_name=GROUP,
    kinds={"oci", "cyclonedx"},
    owners=["team:security"],
    code_version="1",
    description="The software bill of materials (CycloneDX 1.6), one per platform, read from the layer streams and "
    "attached to the release.",
)
def sbom(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's SBOM."""
    with refusals(context):
        return materialized(chain.sbom(release_of(context, chain)))


@dg.asset(
    partitions_def=RELEASES,
    deps=["sbom"],
    group_name=GROUP,
    kinds={"oci", "osv"},
    owners=["team:security"],
    code_version="1",
    description="Advisories matched against the stored SBOM: findings, and by name what could not be known. No layer "
    "is read, so running it again with newer advisories is cheap. Also written for a release that is then refused, so "
    "that the verdict can say why.",
)
def vulnerability_report(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's vulnerability report."""
    with refusals(context):
        return materialized(chain.vulnerabilities(release_of(context, chain)))


@dg.asset(
    partitions_def=RELEASES,
    deps=["vulnerability_report"],
    group_name=GROUP,
    kinds={"oci", "osv"},
    owners=["team:security"],
    code_version="1",
    check_specs=[of_releases(LIMITS, "vulnerabilities", "The findings stay within the limits of the image's policy.")],
    description="The attached report held against the policy's limits. Over the limits it blocks the promotion in this "
    "run, but not the verdict: a refusal is signed evidence too.",
)
def vulnerabilities(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The report against the policy's limits."""
    with refusals(context):
        result = chain.limits(release_of(context, chain))
    return materialized(result, outcome(LIMITS, passed=result.ok, reasons=result.reasons))
