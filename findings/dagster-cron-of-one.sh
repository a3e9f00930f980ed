#!/usr/bin/env bash
# Guess:   in a cron schedule of Dagster `5-5` is 5, `23/5` is 23, and `0 2 31 4 1` runs on the Mondays of April: a day of the
#          month and a day of the week are two choices, and 31 April never comes.
# Happens: a range whose ends are equal is taken for the whole field, also where a start and a step make one: `0 5-5 * * *`
#          runs every hour, `0 23/5 * * *` at 0, 5, 10, 15 and 20. `0 2 31 4 1` loads, and its first tick fails in the
#          daemon: the choice that never comes is looked for first. None of the three is warned of.
# Version: dagster (PyPI) 1.13.27, which brings its own croniter. Date: 2026-11-28.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'dagster==1.13.27'
cd "$folder"
venv/bin/python -W error - <<'PY'
from datetime import datetime, timezone
from itertools import islice

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator

START = datetime(2026, 4, 1, tzinfo=timezone.utc).timestamp()


@dg.job
def nothing():
    pass


def times(cron, count):
    dg.ScheduleDefinition(job=nothing, cron_schedule=cron)
    return [each.strftime("%H:%M") for each in islice(schedule_execution_time_iterator(START, cron, "UTC"), count)]


print("dagster", dg.__version__)
one, step = times("0 5-5 * * *", 4), times("0 23/5 * * *", 6)
print("0 5-5 * * *  ", one)
print("0 23/5 * * * ", step)
try:
    said = str(times("0 2 31 4 1", 1))
except Exception as error:
    said = f"{type(error).__name__}: {error}"
print("0 2 31 4 1   ", said)
assert one == ["00:00", "01:00", "02:00", "03:00"]
assert step == ["00:00", "05:00", "10:00", "15:00", "20:00", "00:00"]
assert said.startswith("CroniterBadDateError")
PY
