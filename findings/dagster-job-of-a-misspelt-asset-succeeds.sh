#!/usr/bin/env bash
# Guess:   a job whose selection names an asset that is not there (misspelt, or renamed last week) is refused when definitions are loaded, in
#          each way to name it: `define_asset_job("nightly", selection="scanned_image")` is refused, by its key.
# Happens: in Dagster's selection syntax `key:scanned_image`, `tag:`, `kind:` and `owner:` (in Python `AssetSelection.groups`,
#          `.key_prefixes`) choose what fits, and nothing is a choice, too. The job has no step, its schedule loads, and each run of it
#          is a SUCCESS: after an asset, a group or a tag was renamed the nightly scan or mirror is green and does nothing.
#          `validate_loadable` is content, and no warning is given. Only the bare key (`scanned_image`) is looked for.
# Version: dagster 1.13.27 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27'
venv/bin/python -W error - 2>said <<'PY' || { cat said; exit 1; }
import dagster as dg


@dg.asset(group_name="images", kinds={"oci"}, tags={"stage": "prod"}, owners=["team:ml"])
def scanned_images(): ...


def nightly(selection):
    job = dg.define_asset_job("nightly", selection=selection)
    try:
        definitions = dg.Definitions([scanned_images], jobs=[job], schedules=[dg.ScheduleDefinition(job=job, cron_schedule="0 2 * * *")])
        dg.Definitions.validate_loadable(definitions)
    except dg.DagsterInvalidDefinitionError as error:
        return f"refused: {str(error.__cause__).split(',')[0]}"
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def("nightly").execute_in_process(instance=instance)
        status = instance.get_run_by_id(done.run_id).status.name
    return f"{status}, {len(done.get_asset_materialization_events())} made"


print("dagster", dg.__version__)
found = {}
for selection in (
    "key:scanned_images", "scanned_image", "key:scanned_image", "key:scanned_image+", "tag:stage=production", "kind:image", "owner:ml",
    dg.AssetSelection.groups("image"), dg.AssetSelection.key_prefixes("scanned"),
):
    found[str(selection)] = nightly(selection)
    print(f"{selection}: {found[str(selection)]}")
right, bare, *others = found.values()
assert right == "SUCCESS, 1 made" and bare.startswith("refused: AssetKey(s) ['scanned_image'] were selected"), found
assert others and all(said == "SUCCESS, 0 made" for said in others), found
PY
