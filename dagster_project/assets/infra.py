"""Settings of registries in clouds, and how far copies at targets are behind. Nothing is changed here:
``registry-pipelines infra apply`` does that."""

from datetime import timedelta

import dagster as dg

from dagster_project.checks import outcome
from dagster_project.report import Materialized, materialized, plotted, refusals, table
from dagster_project.resources import ChainParam

INFRA = "infra"
AS_DECLARED = "as_declared"
IN_TIME = "in_time"
LAG = "replication_lag"

DRIFT_WINDOW = timedelta(hours=48)
"""A day without a look is one that failed; after two nobody knows what the registry is set to."""
LAG_WINDOW = timedelta(hours=3)


def settings(registry: str) -> dg.AssetsDefinition:
    """What one registry is set to, against what is declared. Its data version is the digest of the plan; the check
    fails where a field is not as declared, or cannot be compared, and names it."""
    key = dg.AssetKey([INFRA, registry])

    @dg.asset(
        key=key,
        group_name="infra",
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=DRIFT_WINDOW, warn_window=DRIFT_WINDOW / 2),
        check_specs=[
            dg.AssetCheckSpec(
                AS_DECLARED, asset=key, description=f"{registry} is set as `infra` of the configuration declares."
            )
        ],
        description=f"What {registry} is set to in its cloud, against `infra.{registry}`: what differs field by field, "
        "what is there that nobody declared, and who may pull.",
    )
    def settings(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            result = chain.drift(registry)
        heal = [f"`registry-pipelines infra apply {registry}` changes what is named"] if not result.ok else []
        check = outcome(
            AS_DECLARED,
            passed=result.ok,
            reasons=[*result.reasons, *heal],
            drifted=len(result.reasons),
            **({"fields": table(result.rows)} if result.rows else {}),
        )
        return materialized(result, check)

    return settings


def replication_lag() -> dg.AssetsDefinition:
    """How far every target is behind, a number for each edge that Dagster charts."""

    @dg.asset(
        name=LAG,
        group_name="replicate",
        kinds={"oci"},
        owners=["team:platform"],
        code_version="1",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=LAG_WINDOW, warn_window=LAG_WINDOW / 2),
        check_specs=[
            dg.AssetCheckSpec(
                IN_TIME,
                asset=dg.AssetKey([LAG]),
                description="No target is behind longer than its `max_lag`, and each could be asked.",
            )
        ],
        description="For each image and target which way it takes (ECR's own replication or our copy, and why), and "
        "how long ago what is not there yet was promoted.",
    )
    def replication_lag(context: dg.AssetExecutionContext, chain: ChainParam) -> Materialized:
        with refusals(context):
            result = chain.replication_lag()
        check = outcome(IN_TIME, passed=result.ok, reasons=result.reasons, behind=result.facts["behind"])
        return materialized(result, check, more=plotted(chain.plots("lag")))

    return replication_lag
