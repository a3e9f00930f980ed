#!/usr/bin/env bash
# Guess:   a run that is tagged `dagster-celery/run_priority: 10` is taken by a worker before those that wait with less, or with no tag, as
#          Dagster's own `dagster/priority` and RabbitMQ have it; priorities of 0 to 10 are eleven.
# Happens: on Redis 0 is taken first, and 10 last. A run without the tag has 0, so every run that somebody marked as urgent waits
#          behind all that nobody marked. And there are four queues: 0 to 2, 3 to 5, 6 to 8 and 9 or more are each one priority.
# Version: dagster-celery 0.29.27, celery 5.7.0, kombu 5.7.0 (PyPI), Redis from Debian. Date: 2026-11-30.
# Needs:   python3, redis-server (or apt-get, to unpack it into the temporary folder).
set -euo pipefail
folder=$(mktemp -d)
server=; worker=
trap '[ -z "$worker" ] || kill "$worker" 2>/dev/null || true; [ -z "$server" ] || kill "$server" 2>/dev/null || true; sleep 1; rm -rf "$folder"' EXIT
cd "$folder"
redis=$(command -v redis-server || true)
if [ -z "$redis" ]; then
  apt-get download -q redis-server redis-tools >/dev/null
  for each in *.deb; do dpkg-deb -x "$each" unpacked; done
  redis=$folder/unpacked/usr/bin/redis-check-rdb # the server has a name for each of its uses
fi
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27' 'dagster-celery==0.29.27' 'celery[redis]==5.7.0' 'kombu==5.7.0'
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(exec -a redis-server "$redis" --bind 127.0.0.1 --port "$port" --save "" --dir "$folder" >redis.log 2>&1) & server=$!
cat >app.py <<END
import dagster as dg
from dagster_celery.launcher import _get_run_priority
from dagster_celery.make_app import make_app

app = make_app({"broker": "redis://127.0.0.1:$port/0", "backend": "redis://127.0.0.1:$port/0"})
app.conf.worker_prefetch_multiplier = 1


@app.task(name="execute_job")
def execute_job(tag):
    with open("order", "a") as file:
        file.write(f"{tag}\n")


def launch(tag):
    """As dagster_celery's launcher hands a run on."""
    run = dg.DagsterRun(job_name="job", tags={} if tag == "none" else {"dagster-celery/run_priority": tag})
    execute_job.apply_async(args=[tag], priority=_get_run_priority(run), queue="dagster", routing_key="dagster.execute_job")
END
for _ in $(seq 100); do venv/bin/python -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break; sleep 0.1; done
tags="10 5 none 1 9 3"
venv/bin/python -W ignore -c "import app; [app.launch(tag) for tag in '$tags'.split()]"
venv/bin/celery -A app worker --concurrency 1 -Q dagster --loglevel ERROR >worker.log 2>&1 & worker=$!
for _ in $(seq 600); do [ -e order ] && [ "$(wc -l <order)" = 6 ] && break; sleep 0.1; done
order=$(tr '\n' ' ' <order)
echo "run_priority of the runs, as they were handed on: $tags; as they were taken: $order"
[ "$order" = "none 1 5 3 10 9 " ]
