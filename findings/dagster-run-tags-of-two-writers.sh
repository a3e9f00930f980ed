#!/usr/bin/env bash
# Guess:   `add_run_tags` adds: two processes that each add a tag of their own to one run end with both (it is one database).
# Happens: the run is read, and its whole body written back with the writer's tags, without a lock. Of two that write at once one
#          loses its tag in the body, which is what run.tags, the UI and launchers read; the table run_tags beside it keeps both, so
#          a filter by tag finds runs that do not have the tag.
# Version: dagster 1.13.27, dagster-postgres 0.29.27 (PyPI), PostgreSQL from Debian. Date: 2026-11-30.
# Needs:   python3, PostgreSQL's server (or apt-get, to unpack it into the temporary folder); as root also runuser.
set -euo pipefail
folder=$(mktemp -d); chmod 755 "$folder"
server=
trap '[ -z "$server" ] || kill -INT "$server" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
if [ -z "$programs" ]; then
  apt-get download -q postgresql-15 libllvm14 >/dev/null
  for each in *.deb; do dpkg-deb -x "$each" unpacked; done
  programs=$(ls -d "$folder"/unpacked/usr/lib/postgresql/*/bin)
fi
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check 'dagster==1.13.27' 'dagster-postgres==0.29.27' psycopg2-binary
as=(); if [ "$(id -u)" = 0 ]; then as=(runuser -u nobody --); fi
mkdir data home; [ "$(id -u)" != 0 ] || chown nobody data
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd data
"${as[@]}" "$programs/initdb" -D "$folder/data/pg" -A trust -U asks --no-sync --no-locale -E UTF8 >/dev/null
"${as[@]}" "$programs/postgres" -D "$folder/data/pg" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= >"$folder/log" 2>&1 &
cd "$folder"
for _ in $(seq 100); do [ -s data/pg/postmaster.pid ] && grep -q ready data/pg/postmaster.pid && break; sleep 0.2; done
server=$(head -1 data/pg/postmaster.pid)
cat >home/dagster.yaml <<END
telemetry: {enabled: false}
storage: {postgres: {postgres_url: "postgresql+psycopg2://asks@127.0.0.1:$port/postgres"}}
END
cat >asks.py <<'END'
import sys
from multiprocessing import Barrier, Process

import dagster as dg

RUNS = 50


@dg.job
def nothing():
    pass


def writes(name, runs, together):
    with dg.DagsterInstance.get() as instance:
        for run in runs:
            together.wait()
            instance.add_run_tags(run, {name: "here"})


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        runs = [instance.create_run_for_job(nothing).run_id for _ in range(RUNS)]
        together = Barrier(2)
        writers = [Process(target=writes, args=(name, runs, together)) for name in ("launcher", "worker")]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        names = ("launcher", "worker")
        both = sum(all(name in instance.get_run_by_id(run).tags for name in names) for run in runs)
        found = {
            name: len(instance.get_runs(dg.RunsFilter(tags={name: "here"}))) for name in names
        }
    print("dagster", dg.__version__, "- runs that have both tags:", both, "of", RUNS)
    print("runs that a filter finds by each tag:", found)
    assert all(each.exitcode == 0 for each in writers) and both < RUNS, "none is lost now"
END
DAGSTER_HOME=$folder/home venv/bin/python -W ignore asks.py
