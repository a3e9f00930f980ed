"""Runs on Celery's workers, and who notices that a worker is gone.

Dagster's own launcher believes what Celery's result store said last. Of a worker that was killed whole, or whose
machine is gone, that is "started" for ever: the run would hold its slot until somebody looks. And where the store lost
its content (Redis was flushed), a run that goes on well is "unknown", and would be failed while it works. So the
workers themselves are asked, through Celery's own inspection, which tasks they have in hand.
"""

import re
from collections.abc import Mapping
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher, _get_run_priority
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG

from dagster_project.addresses import ESCAPED, BadAddress
from registry_pipelines.redacting import redact_text

WORKER_TAG = "registry-pipelines/worker"
"""Run tag with the name of the worker that has the run, or had it last."""

ANSWER_S = 1.0
"""So long one round of questions to all workers takes; each answers within milliseconds unless its machine is busy."""

SILENCES = 2
"""Rounds in which nobody had the run before it counts as lost: one may be a busy machine, or a run that just ended."""

ROUND_S = 2.0
"""An answer is good for so long, so that one look at a hundred runs asks once."""

OUR_SETTINGS: dict[str, Any] = {
    # A task that waits in a worker goes with it: each waits in Redis until somebody has a hand free.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    # Runs of many releases in one process; what a run leaves behind is let go with the process. KiB.
    "worker_max_memory_per_child": 1_500_000,
    # What steps print goes where it is kept (compute_logs), and not into Celery's log.
    "worker_redirect_stdouts": False,
    "broker_connection_retry_on_startup": True,
    "result_expires": 86_400,
    # Redis that hangs must not hold Dagster's daemon: a launch that cannot be handed on fails, and is tried again.
    "broker_transport_options": {
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "retry_on_timeout": True,
        # What a worker took and never began comes back to the queue after so many seconds.
        "visibility_timeout": 300,
    },
    "redis_socket_timeout": 30,
    "redis_socket_connect_timeout": 5,
}
"""Celery's settings beside Dagster's own; ``config_source`` of ``dagster.yaml`` overrides them one by one."""


_NOT_TAKEN = re.compile(r"used memory > 'maxmemory'|\bOOM command|\bconnecting to\b|Redis is loading|read only replica")
"""Redis' words, and its client's, for a task that it surely did not take; after a time-out nobody knows."""


LAST = 9
"""Redis' last priority: it takes 0 first, and knows no more of them."""


def redis_priority(run: dg.DagsterRun) -> int:
    """For Redis, which has them upside down: a run with a higher ``dagster-celery/run_priority`` is taken earlier,
    as with Dagster's own ``dagster/priority`` and in RabbitMQ, and one without the tag last."""
    return LAST - min(max(_get_run_priority(run), 0), LAST)


class QueueAway(DagsterUserCodeUnreachableError):
    """Redis did not take a run. Of that kind because Dagster's queue puts such a run back, and asks again later
    (``max_user_code_failure_retries`` in ``dagster.yaml``); a run that fails here is run again twice within seconds,
    and then never more."""


def _check(url: str | None) -> None:
    """Raise BadAddress for one that Celery cannot read: its own error quotes what may be a piece of the password."""
    try:
        parts = urlsplit(url or "")
        whole = url is None or bool(parts.scheme and "@" not in f"{parts.path}{parts.fragment}" and parts.port != 0)
    except ValueError:
        whole = False
    if not whole:
        raise BadAddress(
            "the address of the broker cannot be read: correct REGISTRY_PIPELINES_BROKER. Write "
            f"redis://:password@host:6379/0; {ESCAPED}"
        )


class WatchedCelery(CeleryRunLauncher):
    """Dagster's launcher for Celery, which asks workers what they do. Has all of its settings."""

    def __init__(self, config_source: dict[str, Any] | None = None, **settings: Any) -> None:
        for url in (settings.get("broker"), settings.get("backend")):
            _check(url)
        super().__init__(config_source={**OUR_SETTINGS, **(config_source or {})}, **settings)
        self._silent: dict[str, int] = {}
        """Rounds in a row in which nobody had a run."""
        self._asked_at, self._in_hand = float("-inf"), dict[str, str]()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> "WatchedCelery":
        """Made by Dagster from ``dagster.yaml``."""
        return cls(inst_data=inst_data, **config_value)

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Any, routing_key: str) -> None:
        """Hand a run to the queue. Dagster's own notes the task in the run after that, beside the worker that notes
        itself: tags are read and written whole, and one of the two would be lost. Raises QueueAway, else what Celery
        raises."""
        task, queue = str(uuid4()), run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue)
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: task})
        priority, key = redis_priority(run), f"{queue}.{routing_key}"
        try:
            task_signature.apply_async(task_id=task, priority=priority, queue=queue, routing_key=key)
        except Exception as error:
            if not _NOT_TAKEN.search(str(error)):
                raise
            why = redact_text(str(error)).rstrip(".")
            raise QueueAway(
                f"Redis did not take the run: {why}. Look whether it runs, and has memory (INFO memory); the run waits "
                "in Dagster's queue, and is handed on then"
            ) from None
        told = EngineEventData({"Celery Task ID": task, "Celery Queue": queue})
        self._instance.report_engine_event("The run waits in the queue for a worker.", run, told, cls=type(self))

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a worker has a run that began, in hand. Raises what Celery raises when Redis is away; Dagster then
        asks again at its next look."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task is None:
            return CheckRunHealthResult(WorkerStatus.UNKNOWN, "no task of Celery was made for the run")
        said = self.celery.AsyncResult(task).state
        if said == "FAILURE":
            return CheckRunHealthResult(WorkerStatus.FAILED, self._gone(run, "its process ended"))
        if said != "SUCCESS" and task in self._at_work():
            self._silent.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._silent[run.run_id] = silences = self._silent.get(run.run_id, 0) + 1
        if silences < SILENCES:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._silent[run.run_id]
        what = "its task has ended without a word about the run" if said == "SUCCESS" else "no worker has it in hand"
        return CheckRunHealthResult(WorkerStatus.FAILED, self._gone(run, what))

    def terminate(self, run_id: str) -> bool:
        """End a run's process; False for a run that is not known, is over, or never came to a worker. That somebody
        wants it is noted first, as Dagster's other launchers do: else the process says that it failed, and Dagster runs
        it again."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        if run.status is not dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        return super().terminate(run_id)

    def _gone(self, run: dg.DagsterRun, what: str) -> str:
        worker = run.tags.get(WORKER_TAG)
        return f"{what}; {f'it was on {worker}' if worker else 'it came to no worker'}: killed, or cut off from Redis"

    def _at_work(self) -> Mapping[str, str]:
        """Tasks that workers have in hand, with the worker of each."""
        if monotonic() - self._asked_at >= ROUND_S:
            answers = self.celery.control.inspect(timeout=ANSWER_S).active() or {}
            self._in_hand = {str(task["id"]): worker for worker, tasks in answers.items() for task in tasks}
            self._asked_at = monotonic()
        return self._in_hand
