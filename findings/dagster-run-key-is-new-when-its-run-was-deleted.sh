#!/usr/bin/env bash
# Guess:   a sensor may name all it sees in each look (`RunRequest(run_key=file)` for each file of the folder): a run key "ensures that only one
#          run is created per run key across all sensor evaluations", as RunRequest's own words have it.
# Happens: what was asked for is looked up among the runs that are there. Who deletes old runs (retention: `instance.delete_run`, `dagster run
#          delete`, the button) has deleted the memory of their keys, too: the next look starts every run again, for each file that still
#          lies there, all at once. A release of last year is scanned, mirrored or promoted again, over what came since. No line says so.
#          A cursor, which lies with the sensor's own state, is kept.
# Version: dagster 1.13.27 (PyPI). Date: 2026-12-01.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27'
mkdir home
cat >home/dagster.yaml <<'END_OF_SETTINGS'
telemetry: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator}
END_OF_SETTINGS
cat >inbox.py <<'END_OF_CODE'
import dagster as dg


@dg.op
def promote(): ...


@dg.job
def promotion():
    promote()


@dg.sensor(job=promotion, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def folder():
    for name in ("app-1.tar", "app-2.tar"):
        yield dg.RunRequest(run_key=name)


defs = dg.Definitions(jobs=[promotion], sensors=[folder])
END_OF_CODE
cat >looks.py <<'END_OF_CODE'
import logging
import pathlib
import time

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration

instance = dg.DagsterInstance.get()
print("dagster", dg.__version__, "-", [line.strip() for line in dg.RunRequest.__doc__.splitlines() if "only one run" in line])
counts = []
with WorkspaceProcessContext(instance, ModuleTarget("inbox", None, str(pathlib.Path.cwd()), "inbox")) as process:
    for before in ("first look", "second look", "look after the old runs were deleted"):
        if "deleted" in before:
            for run in instance.get_runs():
                instance.delete_run(run.run_id)
        time.sleep(1.1)
        list(execute_sensor_iteration(process, logging.getLogger("looks"), None, None))
        started = [run for run in instance.get_runs() if not run.is_finished]
        print(f"{before}: starts", sorted(run.tags["dagster/run_key"] for run in started))
        counts.append(len(started))
        for run in started:  # as if a worker had run them
            instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id)
assert counts == [2, 0, 2], counts
END_OF_CODE
DAGSTER_HOME=$folder/home PYTHONPATH=$folder venv/bin/python -W ignore looks.py 2>said || { cat said; exit 1; }
