#!/usr/bin/env bash
# Guess:   the key of a partition of two dimensions has them in the order in which they were declared: of {"to": ..., "from": ...} the key
#          `eu|us` is "to eu, from us".
# Happens: dimensions are sorted by their names first, so `eu|us` is "from eu, to us". Where both have the same keys (regions, registries,
#          channels) no key is unknown: a backfill, a sensor's RunRequest or `dagster asset materialize --partition` copies in the other
#          direction, and the run is recorded as a success. `dg.MultiPartitionKey({...})` says each by name.
# Version: dagster (PyPI) 1.13.27. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27'
venv/bin/python - <<'PY' 2>run.log || { tail -5 run.log; exit 1; }
from importlib.metadata import version

import dagster as dg

regions = dg.StaticPartitionsDefinition(["eu", "us"])
copied = []


@dg.asset(partitions_def=dg.MultiPartitionsDefinition({"to": regions, "from": regions}))
def replica(context: dg.AssetExecutionContext) -> None:
    copied.append(dict(context.partition_key.keys_by_dimension))


print("dagster", version("dagster"), '- declared {"to": ..., "from": ...}')
for key in ("eu|us", dg.MultiPartitionKey({"to": "eu", "from": "us"})):
    assert dg.materialize([replica], partition_key=key).success
    print("asked for", repr(str(key)), type(key).__name__, "- ran with", copied[-1])
assert copied == [{"from": "eu", "to": "us"}, {"from": "us", "to": "eu"}]
PY
