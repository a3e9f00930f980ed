#!/usr/bin/env bash
# Guess:   a Celery worker that is killed with all its processes, or whose machine is gone, is noticed by Dagster's run monitoring:
#          the launcher of dagster-celery supports `check_run_worker_health`.
# Happens: it asks Celery's result store, which says STARTED for ever, because nobody is left to say otherwise. The run counts as
#          RUNNING until `max_runtime_seconds`, if that is set. Only one killed process of a living worker is noticed.
# Version: dagster 1.13.27, dagster-celery 0.29.27 (PyPI), Redis from Debian. Date: 2026-11-30.
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
import os
import pathlib
import signal
import sys
import time

import dagster as dg
import slow_code
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

instance = dg.DagsterInstance.get()
with WorkspaceProcessContext(instance, ModuleTarget("slow_code", None, str(pathlib.Path.cwd()), "slow_code")) as process:
    workspace = process.create_request_context()
    remote = workspace.get_code_location("slow_code").get_repository("__repository__").get_full_job("slow")
    run = instance.create_run_for_job(
        slow_code.defs.get_job_def("slow"),
        remote_job_origin=remote.get_remote_origin(), job_code_origin=remote.get_python_origin(),
    )
    instance.launch_run(run.run_id, workspace)
    for _ in range(600):
        if pathlib.Path("began").exists():
            break
        time.sleep(0.1)
    launcher = instance.run_launcher

    def said():
        return launcher.check_run_worker_health(instance.get_run_by_id(run.run_id)).status.name

    print("a worker has it:  ", said())
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
    time.sleep(10)
    answering = launcher.celery.control.inspect(timeout=2).ping()
    print("workers that answer 10 s after all were killed:", answering or "none")
    print("the launcher says:", said(), "- the run is", instance.get_run_by_id(run.run_id).status.name)
    assert pathlib.Path("began").exists() and not answering and said() == "RUNNING", "it is noticed now"
END
venv/bin/python -W ignore asks.py "$worker"
