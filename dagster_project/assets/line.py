"""An image line: what its channels name now, one asset for an image that has a file of its own."""

from typing import Any

import dagster as dg

from dagster_project.checks import SHIPS, outcome
from dagster_project.report import Materialized, bullets, refusals, table
from dagster_project.resources import ChainParam
from registry_pipelines.config import Image

GROUP = "line"


def line(image: Image) -> dg.AssetsDefinition:
    """The asset of one image line. Its data version is the digest that the last channel names."""
    key = dg.AssetKey(["line", image.name])

    @dg.asset(
        key=key,
        group_name=GROUP,
        kinds={"oci"},
        owners=list(image.owners) or ["team:platform"],
        code_version="1",
        check_specs=[
            dg.AssetCheckSpec(SHIPS, asset=key, description="Its channels name releases that may ship, everywhere.")
        ],
        description=f"Where {image.name} stands ({image.registry}/{image.repository}): what each channel names, "
        "whether that may ship, where it is, and what is newer.",
    )
    def line(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            found = [each.plain() for each in chain.statuses([image.name])]
        rows: list[dict[str, Any]] = [
            {name: each[name] for name in ("channel", "tag", "digest", "verdict", "promoted")} for each in found
        ]
        reasons = [f"{each['channel']}: {reason}" for each in found for reason in each["reasons"]]
        passed = all(each["digest"] and each["verdict"] == "allow" for each in found)
        digest = str(found[-1]["digest"]) if found else ""
        shown: dict[str, Any] = {"channels": table(rows), **({"reasons": bullets(reasons)} if reasons else {})}
        return Materialized(
            metadata=shown,
            data_version=dg.DataVersion(digest) if digest else None,
            check_results=[outcome(SHIPS, passed=passed, reasons=reasons)],
        )

    return line
