"""Image advice: what is inside a release, what of it need not be there, and what releases move."""

import dagster as dg

from dagster_project.assets.start import FIRST
from dagster_project.checks import LIMITS, of_releases, outcome
from dagster_project.partitions import RELEASES, release_of
from dagster_project.report import Materialized, image, materialized, progress_in_log, refusals, stacked
from dagster_project.resources import ChainParam

GROUP = "scan"
PARTS = {
    "kept_bytes": ("░", "the release before has it"),
    "moved_bytes": ("█", "moved"),
}
"""Of a release's layers."""


@dg.asset(
    partitions_def=RELEASES,
    deps=["sbom"],
    group_name=GROUP,
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    op_tags=FIRST,
    check_specs=[
        of_releases(LIMITS, "image_advice", "What is inside stays within `image_advice` of the image's policy.")
    ],
    description="What is inside the release: bytes by class, package and layer, what later layers hide, caches and "
    "other bytes that need not be there, and what the last releases moved. No layer is read that the scan read. It "
    "holds nothing up by itself; the scanner's signed advice is attached, and a policy may ask for it. **Plots** "
    "charts the bytes of each class over the releases.",
)
def image_advice(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """The release's anatomy, as numbers and a picture."""
    release = release_of(context, chain)
    with refusals(context), progress_in_log(context, chain) as logged_chain:
        result, picture = logged_chain.pictured_advice(release)
    shown = {"picture": image(picture, f"what is inside {release.image}:{release.tag}")}
    if moved := result.tables.get("releases"):
        shown["what_releases_moved"] = stacked(moved, "release", PARTS)
    asked = {} if result.facts["limited"] else {"note": "its policy has no `image_advice`"}
    return materialized(result, outcome(LIMITS, passed=not result.reasons, reasons=result.reasons, **asked), more=shown)
