#!/usr/bin/env bash
# Guess:   deleting an old run of Dagster (retention: `instance.delete_run`, `dagster run delete`) takes its log, and what it made stays made; or
#          its partitions are missing from then on, and are made anew where `AutomationCondition.missing()` stands.
# Happens: either, by whether somebody looked before. Automation that has looked at the asset's partitions kept their state in
#          a table, and there they stay made. Where nobody did they are missing, and automation asks for the oldest work again after a
#          clean-up. `get_materialized_partitions` calls them missing in both. And the newest materialization is told in both, with the id of
#          a run that is gone, while the list of materializations is shorter. No warning.
# Version: dagster 1.13.27 (PyPI), with its SQLite storage. Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27'
cat >look.py <<'PY'
import os
import sys
import warnings
from pathlib import Path

import dagster as dg

warnings.simplefilter("ignore")


@dg.asset(
    automation_condition=dg.AutomationCondition.missing(), partitions_def=dg.StaticPartitionsDefinition(["1.0", "1.1"])
)
def images():
    return dg.MaterializeResult(metadata={"bytes": 10**9})


def asked_for(instance):
    asked = dg.evaluate_automation_conditions(dg.Definitions(assets=[images]), instance)
    return sorted(key for key in ("1.0", "1.1") if key in asked.get_requested_partitions(images.key))


seen = {}
for looked in (True, False):
    home = Path(f"home-{looked}").absolute()
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        # 1.0 comes last, so that the newest materialization is that of the run which is deleted.
        _, run = [dg.materialize([images], instance=instance, partition_key=key).run_id for key in ("1.1", "1.0")]
        if looked:
            assert asked_for(instance) == []
        instance.delete_run(run)
    with dg.DagsterInstance.get() as instance:
        newest = instance.get_latest_materialization_event(images.key)
        listed = instance.fetch_materializations(images.key, limit=9).records
        assert newest.run_id == run and instance.get_run_by_id(run) is None and len(listed) == 1
        seen[looked] = (sorted(instance.get_materialized_partitions(images.key)), asked_for(instance))
print("dagster", dg.__version__, "; both partitions made, then the run of 1.0 deleted")
for looked, (made, asked) in seen.items():
    print(f"somebody looked before: {looked}; get_materialized_partitions: {made}; automation asks for: {asked}")
assert seen == {True: (["1.1"], []), False: (["1.1"], ["1.0"])}
PY
venv/bin/python look.py 2>log || { tail -5 log; exit 1; }
if grep -q 'WARNING' log; then exit 1; fi
