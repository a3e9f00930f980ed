"""What persons decided beside the policy, listed until they say that it is over."""

import dagster as dg

from dagster_project.checks import outcome, warning
from dagster_project.report import Materialized, materialized, refusals
from dagster_project.resources import ChainParam

NONE_OPEN = "none_open"


@dg.asset(
    group_name="promote",
    kinds={"oci"},
    owners=["team:platform"],
    code_version="1",
    check_specs=[
        dg.AssetCheckSpec(
            NONE_OPEN,
            asset="interventions",
            description="No break-glass and no revocation is open; an expired break-glass is, until it is closed.",
        )
    ],
    description="Every break-glass and every revocation of all images that nobody closed: of which release, by whom, "
    "why, until when, and the command that ends it. Read from the registries.",
)
def interventions(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
    """What is open as the registries have it now. The check is a warning as long as there is anything."""
    with refusals(context):
        result = chain.interventions()
    reasons = [f"{str(row['kind']).upper()} {row['release']} by {row['by']}: {row['reason']}" for row in result.rows]
    return materialized(result, warning(outcome(NONE_OPEN, passed=not result.rows, reasons=reasons)))
