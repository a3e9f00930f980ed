"""Scan: what is in a release, and what is known against it."""

import dagster as dg

from dagster_project.checks import LIMITS, of_releases, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, materialized, refusals
from dagster_project.resources import ChainParam

GROUP = "scan"


def sbom(after: str) -> dg.AssetsDefinition:
    """The asset of SBOMs. after: the asset before it in a release's run, ``provenance`` or ``streaming_index``."""

    @dg.asset(
        partitions_def=RELEASES,
        deps=[after],
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

    return sbom


@dg.asset(
    partitions_def=RELEASES,
    deps=["sbom"],
    group_name=GROUP,
    kinds={"oci", "osv"},
    owners=["team:security"],
    code_version="2",
    check_specs=[of_releases(LIMITS, "vulnerabilities", "The findings stay within the limits of the image's policy.")],
    description="Advisories matched against the stored SBOM: findings, by name what could not be known, and whether "
    "the policy's limits hold. No layer is read, so running it again with newer advisories is cheap. The report is "
    "attached also where the release is then denied, so that the verdict can say why.",
)
def vulnerabilities(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's vulnerability report, against the policy's limits."""
    with refusals(context):
        result = chain.vulnerabilities(release_of(context, chain))
    return materialized(result, outcome(LIMITS, passed=result.ok, reasons=result.reasons))
