#!/usr/bin/env bash
# Guess:   `instance { info }`, the page "Deployment, Configuration", shows what dagster.yaml says, so whether the queue is the
#          one that notes people's names can be read there.
# Happens: run_coordinator (and compute_logs) are loaded when they are first used, and until then the page says `NoneType`,
#          in each webserver anew. Asking for `runQueuingSupported` before `info`, in the same question, makes it load.
# Version: dagster (PyPI) 1.13.27. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'dagster==1.13.27' 'dagster-graphql==1.13.27'
cd "$folder"
mkdir home
cat >home/dagster.yaml <<'YAML'
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 7}
telemetry: {enabled: false}
YAML
venv/bin/python - <<'PY'
import dagster as dg
import yaml

print("dagster", dg.__version__)
with dg.DagsterInstance.from_config("home") as instance:
    before = yaml.safe_load(instance.info_str())["run_coordinator"]
    assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
    after = yaml.safe_load(instance.info_str())["run_coordinator"]
print("before:", before)
print("after: ", after)
assert before == "NoneType" and after["class"] == "QueuedRunCoordinator", "it shows them at once now"
PY
