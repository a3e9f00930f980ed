#!/usr/bin/env bash
# Guess:   a FreshnessPolicy on a partitioned asset is about each partition, and an asset that never ran is not fresh.
# Happens: the newest materialization of any partition makes the whole asset PASS, while others are years old; and an asset
#          that never ran is UNKNOWN for ever, which is neither WARN nor FAIL: a backup that was never made alarms nobody.
#          Neither is warned of where the policy is declared.
# Version: dagster (PyPI) 1.13.27. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'dagster==1.13.27'
cd "$folder"
venv/bin/python -W error - <<'PY'
import asyncio
from datetime import datetime, timedelta, timezone

import dagster as dg
from dagster._core.definitions.freshness_evaluator import FRESHNESS_EVALUATORS_BY_POLICY_TYPE
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

MORNING = datetime(2026, 11, 29, 8, tzinfo=timezone.utc)
SOON = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1))


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["old", "new"]), freshness_policy=SOON)
def mirrored(): ...


@dg.asset(freshness_policy=SOON)
def backup(): ...


@dg.asset(freshness_policy=SOON)
def late(): ...


def state(instance, node):
    evaluator = FRESHNESS_EVALUATORS_BY_POLICY_TYPE[type(node.freshness_policy)]()
    return asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node)).name


print("dagster", dg.__version__)
graph = dg.Definitions([mirrored, backup, late]).resolve_asset_graph()
with dg.DagsterInstance.ephemeral() as instance:
    with freeze_time(MORNING):
        instance.report_runless_asset_event(dg.AssetMaterialization("mirrored", partition="old"))
        instance.report_runless_asset_event(dg.AssetMaterialization("late"))
    with freeze_time(MORNING + timedelta(hours=9)):
        instance.report_runless_asset_event(dg.AssetMaterialization("mirrored", partition="new"))
        found = {node.key.to_user_string(): state(instance, node) for node in graph.asset_nodes}
print(found)
assert found == {"mirrored": "PASS", "backup": "UNKNOWN", "late": "FAIL"}
PY
