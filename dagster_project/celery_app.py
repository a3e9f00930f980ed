"""The Celery application of workers: ``celery -A dagster_project.celery_app worker --concurrency 2``.

It takes broker, queue and settings from the ``run_launcher`` of ``dagster.yaml``, so that there is one place for them.
The program ``dagster-celery worker start`` wants them a second time in a file, writes the broker's password into
DAGSTER_HOME, and leaves its child behind when it is killed.
"""

import dagster as dg
from celery import Celery
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from registry_pipelines.errors import InputError


def application() -> Celery:
    """What a worker serves: runs, as the launcher of ``$DAGSTER_HOME/dagster.yaml`` sends them. Raises InputError
    where that has another launcher."""
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, CeleryRunLauncher):
            raise InputError(
                f"the run launcher is {type(launcher).__name__}, not Celery's",
                where=f"{instance.root_directory}/dagster.yaml",
                do="Copy deploy/dagster/dagster.yaml there; workers and the daemon need the same file",
            )
        celery = launcher.celery
    create_execute_job_task(celery)
    create_resume_job_task(celery)
    return celery


app = application()
