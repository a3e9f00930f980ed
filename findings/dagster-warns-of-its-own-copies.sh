#!/usr/bin/env bash
# Guess:   Dagster warns of a parameter in beta those who use it, and a sensor can be given its job or the job's name: one is as good
#          as the other.
# Happens: where a job that a sensor was given needs a resource which `dg.Definitions` brings, Dagster copies the sensor, with `owners`
#          as it is (`None`), and warns of that parameter, which nobody wrote: "`owners` ... is currently in beta". A project whose
#          tests make errors of warnings cannot load its definitions. With `job_name=` nothing is copied and nothing said; a job
#          without resources, and a schedule that is given its job, are quiet, too.
# Version: dagster (PyPI) 1.13.27. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'dagster==1.13.27'
"$folder/venv/bin/python" - <<'PY'
import warnings

import dagster as dg


@dg.op(required_resource_keys={"registry"})
def asks():
    pass


@dg.op
def asks_nobody():
    pass


@dg.job
def needing():
    asks()


@dg.job
def free():
    asks_nobody()


def sensor(**target):
    @dg.sensor(name="looks", **target)
    def looks():
        return dg.SkipReason("nothing new")

    return {"sensors": [looks]}


def schedule(**target):
    return {"schedules": [dg.ScheduleDefinition(name="nightly", cron_schedule="0 2 * * *", **target)]}


def said_of(made, **target):
    """What loading says of a sensor or schedule with this target."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        definitions = dg.Definitions(jobs=[needing, free], resources={"registry": 1}, **made(**target))
        definitions.get_repository_def()
    shown = ", ".join(f"{key}={getattr(value, 'name', value)}" for key, value in target.items() if key != "jobs")
    said = [f"{each.category.__name__}: {each.message}" for each in seen]
    print(f"{made.__name__:8} {shown or 'jobs=[needing, free]':20}", *(line[:110] for line in said or ["nothing said"]))
    return said


print("dagster", dg.__version__)
for target in ({"job": needing}, {"jobs": [needing, free]}):
    (said,) = said_of(sensor, **target)
    assert said.startswith("BetaWarning: Parameter `owners`"), said
assert not said_of(sensor, job_name="needing")
assert not said_of(sensor, job=free)
assert not said_of(schedule, job=needing)
try:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dg.Definitions(jobs=[needing], resources={"registry": 1}, **sensor(job=needing)).get_repository_def()
except Warning as error:
    print(f"warnings as errors: the definitions do not load ({type(error).__name__})")
else:
    raise SystemExit("the definitions load")
PY
