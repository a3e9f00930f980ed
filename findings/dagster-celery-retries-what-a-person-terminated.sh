#!/usr/bin/env bash
# Guess:   a run that somebody terminates in the UI ends CANCELED, whichever launcher it has, and run retries leave it alone.
# Happens: the launcher of dagster-celery sends the signal and notes nothing. The process finds no request for its end, so it says that it
#          failed ("no user initiated termination request was found"): the run is a FAILURE, it gets `dagster/will_retry`, and with
#          `run_retries` the daemon starts again what a person just stopped. The default launcher reports CANCELING first.
# Version: dagster 1.13.27, dagster-celery 0.29.27 (PyPI), Redis from Debian. Date: 2026-12-01.
# Needs:   python3, redis-server (or apt-get, to unpack it into the temporary folder).
set -euo pipefail
folder=$(mktemp -d)
server=; worker=
trap '[ -z "$worker" ] || kill -9 -- "-$worker" 2>/dev/null || true; [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
redis=$(command -v redis-server || true)
if [ -z "$redis" ]; then
  apt-get download -q redis-server redis-tools >/dev/null
  for each in *.deb; do dpkg-deb -x "$each" unpacked; done
  redis=$folder/unpacked/usr/bin/redis-check-rdb # the server has a name for each of its uses
fi
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27' 'dagster-celery==0.29.27' 'celery[redis]'
mkdir home
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(exec -a redis-server "$redis" --bind 127.0.0.1 --port "$port" --save "" --dir "$folder" >redis.log 2>&1) & server=$!
cat >home/dagster.yaml <<END
telemetry: {enabled: false}
run_retries: {enabled: true, max_retries: 2}
run_launcher:
  module: dagster_celery.launcher
  class: CeleryRunLauncher
  config: {broker: "redis://127.0.0.1:$port/0", backend: "redis://127.0.0.1:$port/0", default_queue: dagster}
END
cat >slow_code.py <<'END'
import time

import dagster as dg
from celery import Celery


@dg.op
def long():
    open("began", "w").close()
    time.sleep(600)


@dg.job(executor_def=dg.in_process_executor)
def slow():
    long()


defs = dg.Definitions(jobs=[slow])
END
cat >app.py <<'END'
import dagster as dg
from dagster_celery.tasks import create_execute_job_task

instance = dg.DagsterInstance.get()
app = instance.run_launcher.celery
create_execute_job_task(app)
END
export DAGSTER_HOME=$folder/home PYTHONPATH=$folder
setsid venv/bin/celery -A app worker --concurrency 1 -Q dagster --loglevel ERROR >worker.log 2>&1 & worker=$!
cat >asks.py <<'END'
import pathlib
import time

import dagster as dg
import slow_code
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

instance = dg.DagsterInstance.get()


def waited_for(true):
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise SystemExit("a minute was too short")


with WorkspaceProcessContext(instance, ModuleTarget("slow_code", None, str(pathlib.Path.cwd()), "slow_code")) as process:
    workspace = process.create_request_context()
    remote = workspace.get_code_location("slow_code").get_repository("__repository__").get_full_job("slow")
    run = instance.create_run_for_job(
        slow_code.defs.get_job_def("slow"),
        remote_job_origin=remote.get_remote_origin(), job_code_origin=remote.get_python_origin(),
    )
    instance.launch_run(run.run_id, workspace)
    waited_for(pathlib.Path("began").exists)
    print("asked to terminate:", instance.run_launcher.terminate(run.run_id))
    waited_for(lambda: instance.get_run_by_id(run.run_id).is_finished)
    waited_for(lambda: "dagster/will_retry" in instance.get_run_by_id(run.run_id).tags)
    found = instance.get_run_by_id(run.run_id)
    [failure] = [each.dagster_event for each in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)]
    print("the run is", found.status.name, "and will_retry is", found.tags["dagster/will_retry"])
    print("it says:", failure.message, getattr(failure.event_specific_data.error, "message", ""))
    assert (found.status.name, found.tags["dagster/will_retry"]) == ("FAILURE", "true"), "it is CANCELED now"
END
venv/bin/python -W ignore asks.py
