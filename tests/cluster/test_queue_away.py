"""What becomes of a run that the queue does not take, and which run is taken first."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError

from deploy.cluster.machines import SETTINGS
from tests.needs import needed_module


@dg.job
def harmless() -> None:
    """Does nothing."""


class Signature:
    """A task of Celery that notes its priority, and cannot be handed on when there is an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.priority = -1

    def apply_async(self, *, priority: int, **_: Any) -> None:
        self.priority = priority
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        (
            "Command # 1 (LLEN dagster) of pipeline caused error: command not allowed when used memory > 'maxmemory'.",
            True,
        ),
        ("Error 111 connecting to redis:6379. Connection refused.", True),
        ("Timeout reading from socket", False),
    ],
)
def test_what_redis_surely_did_not_take_goes_back_to_dagsters_queue(said: str, waits: bool) -> None:
    """Dagster's queue does so with one error alone, and only where its settings say how often; what may have been taken
    fails as before, or it might run twice."""
    needed_module("dagster_celery", "cluster")
    from dagster_project.celery_launcher import WatchedCelery

    with dg.DagsterInstance.ephemeral() as instance:
        redis = "redis://127.0.0.1:1/0"
        launcher = WatchedCelery(broker=redis, backend=redis, default_queue="dagster")
        launcher.register_instance(instance)
        run = instance.create_run_for_job(harmless)
        with pytest.raises(Exception, match="Redis did not take the run" if waits else said) as raised:
            launcher._launch_celery_task_run(run, Signature(RuntimeError(said)), "execute_job")
    assert isinstance(raised.value, DagsterUserCodeUnreachableError) is waits
    assert "max_user_code_failure_retries: 240" in SETTINGS.read_text()


@pytest.mark.parametrize("url", ["", "hunter2", "redis://:a/hunter2@redis:6379/0", "redis://:a#hunter2@redis:6379/0"])
def test_an_address_of_the_broker_that_cannot_be_read_is_not_repeated(url: str) -> None:
    """Celery's own error quotes what stands where a port should."""
    needed_module("dagster_celery", "cluster")
    from dagster_project.addresses import BadAddress
    from dagster_project.celery_launcher import WatchedCelery

    with pytest.raises(BadAddress, match="REGISTRY_PIPELINES_BROKER") as bad:
        WatchedCelery(broker=url, backend=url, default_queue="dagster")
    assert "hunter2" not in bad.value.format_message()


def test_a_run_with_a_higher_priority_is_taken_earlier_and_one_without_last() -> None:
    """Redis takes 0 first and knows 0 to 9 (findings/celery-priorities-upside-down-on-redis.sh)."""
    needed_module("dagster_celery", "cluster")
    from dagster_celery.tags import DAGSTER_CELERY_RUN_PRIORITY_TAG

    from dagster_project.celery_launcher import WatchedCelery

    def handed_on(priority: str | None) -> int:
        run = instance.create_run_for_job(harmless, tags={} if priority is None else {tag: priority})
        signature = Signature()
        launcher._launch_celery_task_run(run, signature, "execute_job")
        return signature.priority

    tag, redis = DAGSTER_CELERY_RUN_PRIORITY_TAG, "redis://127.0.0.1:1/0"
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = WatchedCelery(broker=redis, backend=redis, default_queue="dagster")
        launcher.register_instance(instance)
        assert [handed_on(each) for each in ("100", "9", "5", "1", "0", None, "-3")] == [0, 0, 4, 8, 9, 9, 9]


def test_a_run_that_is_terminated_is_known_to_be_wanted_so_before_its_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else Dagster takes the end for a failure of the machine, and runs it again at once."""
    needed_module("dagster_celery", "cluster")
    from dagster_celery.launcher import CeleryRunLauncher
    from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

    from dagster_project.celery_launcher import WatchedCelery

    seen: list[dg.DagsterRunStatus] = []

    def revoked(_: CeleryRunLauncher, run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        seen.append(run.status if run else dg.DagsterRunStatus.NOT_STARTED)
        return True

    monkeypatch.setattr(CeleryRunLauncher, "terminate", revoked)
    with dg.DagsterInstance.ephemeral() as instance:
        redis = "redis://127.0.0.1:1/0"
        launcher = WatchedCelery(broker=redis, backend=redis, default_queue="dagster")
        launcher.register_instance(instance)
        never = instance.create_run_for_job(harmless)
        run = instance.create_run_for_job(
            harmless, status=dg.DagsterRunStatus.STARTED, tags={DAGSTER_CELERY_TASK_ID_TAG: "task"}
        )
        assert not launcher.terminate(never.run_id)
        assert launcher.terminate(run.run_id) and launcher.terminate(run.run_id)
        assert seen == [dg.DagsterRunStatus.CANCELING] * 2
        instance.report_run_canceled(run)
        assert not launcher.terminate(run.run_id) and len(seen) == 2
