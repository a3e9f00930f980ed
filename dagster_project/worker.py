"""The Celery application of a worker: ``celery -A dagster_project.worker worker -n w1@%h --concurrency 2``.

Its settings are those of the run launcher in ``dagster.yaml`` of ``DAGSTER_HOME``, so both sides of the queue agree,
and no address with a password stands in a file. What a run needs besides is the code, the configuration
(``REGISTRY_PIPELINES_CONFIG``) and this machine's own folder (``REGISTRY_PIPELINES_STATE``).
"""

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
from celery import Celery
from celery.signals import task_prerun
from dagster._core.instance.ref import InstanceRef
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from dagster_project.addresses import BadAddress
from dagster_project.celery_launcher import WORKER_TAG, WatchedCelery
from dagster_project.resources import find_config
from registry_pipelines.chain.shared import shared_of
from registry_pipelines.errors import InputError, RegistryPipelinesError


def make_app(home: str) -> Celery:
    """The application with Dagster's two tasks: a run, and one that is resumed. home: ``DAGSTER_HOME``; nothing is
    opened. Raises InputError where its settings hand runs to somebody else."""
    if not home or not Path(home, "dagster.yaml").is_file():
        raise InputError(
            f"there is no dagster.yaml in {home or 'DAGSTER_HOME, which is not set'}",
            do="Set DAGSTER_HOME to a folder with the settings that the daemon has (deploy/dagster/dagster.yaml)",
        )
    launcher = InstanceRef.from_dir(home).run_launcher
    if not isinstance(launcher, WatchedCelery):
        raise InputError(
            f"runs are launched by {type(launcher).__name__}, and no Celery",
            where=f"{home}/dagster.yaml",
            do="Write run_launcher: {module: dagster_project.celery_launcher, class: WatchedCelery}",
        )
    made = launcher.celery
    create_execute_job_task(made)
    create_resume_job_task(made)
    return made


def open_app() -> Celery:
    """The application of this process. What would fail every run is said before there is one: Celery shows errors of
    its own signals, and goes on. Raises InputError, ConfigInvalid, and what a worker is told that must not join the
    others: StateTooNew, StateLocked, LocalError."""
    shared = shared_of(find_config())
    if shared is not None:
        _ = shared.membership
        shared.close()  # each process of the worker joins by itself: none may use another's connections
    import_module("dagster_project.definitions")  # once, and not a second for each process that is made of this one
    return make_app(os.environ.get("DAGSTER_HOME", ""))


def say_where(task: Any = None, kwargs: Mapping[str, Any] | None = None, **_: Any) -> None:
    """Note in the run which worker has it, before it begins: a worker that is killed cannot say so later."""
    packed = (kwargs or {}).get("execute_job_args_packed")
    if packed is not None:
        asked = unpack_value(packed, as_type=ExecuteRunArgs)
        _instance().add_run_tags(asked.run_id, {WORKER_TAG: str(task.request.hostname)})


@lru_cache(maxsize=1)
def _instance() -> dg.DagsterInstance:
    """Of this process; Celery's processes are made by forking, and none may use another's connections."""
    return dg.DagsterInstance.get()


task_prerun.connect(say_where)
try:
    app = open_app()
except (RegistryPipelinesError, BadAddress) as error:
    # Celery would show where in Python it was raised, and that is not here.
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
