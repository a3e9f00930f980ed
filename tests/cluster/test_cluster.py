"""Postgres, Redis, webserver, daemon, code server, three workers, each with its own folder; workers are killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from deploy.cluster.machines import Cluster, Process, until
from deploy.cluster.runs import table
from tests.cluster.fleet import HASTY, PERIOD_S, Fleet, left, looked, over, releases
from tests.patience import PATIENCE, patient

pytestmark = [
    pytest.mark.peer("redis-server"),
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("cluster_programs"),
]


def stopped_at_work(cluster: Cluster) -> Process | None:
    """A worker that stands still within a run. Dagster is asked again when it stands: the run that it was seen with may
    have ended since."""
    for run in releases(cluster):
        if run.status == "STARTED" and run.worker:
            worker = next(each for each in cluster.workers if each.name == run.worker)
            worker.signal_all(signal.SIGSTOP)
            at_work = False
            try:
                at_work = any(each.id == run.id and each.status == "STARTED" for each in releases(cluster))
            finally:
                if not at_work:
                    worker.signal_all(signal.SIGCONT)
            if at_work:
                return worker
    return None


def test_eight_releases_while_a_worker_is_killed(cluster_folder: Path) -> None:
    """None is lost, none is promoted twice, an older release does not take the channel back, and every run says how it
    ended. All is done within two periods of monitoring."""
    fleet = Fleet(cluster_folder, [f"app-{place}" for place in range(4)])
    with fleet.cluster(slots=1, settings=HASTY, patience=PATIENCE) as cluster:
        until("the registry was looked at once", lambda: looked(cluster), seconds=patient(60))
        for tag in ("v1.0.0", "v1.1.0"):
            for image in fleet.images:
                fleet.push(image, tag)
        worker = until("a worker is in the middle of a run", lambda: stopped_at_work(cluster), seconds=patient(60))
        worker.kill()
        killed_at = time.time()
        # Within two periods: what the worker had in hand, and what it had taken and not begun.
        found = until("all releases are everywhere", lambda: over(cluster, fleet), seconds=2 * PERIOD_S)
        told = table(found)
        waits = left(found)
        assert fleet.promotions() == {each: int(":".join(each) not in waits) for each in fleet.released}, told
        killed = [run for run in found if run.worker == worker.name and run.status == "FAILURE"]
        assert killed, told
        for run in killed:
            assert run.ended and run.ended - killed_at < PERIOD_S, told
            again = [each for each in found if each.tags.get("dagster/parent_run_id") == run.id]
            assert [each.status for each in again] == ["SUCCESS"], told
            assert {each.worker for each in again}.isdisjoint({worker.name}), told
            assert f"it was on {worker.name}@" in cluster.why(run.id), cluster.why(run.id)
        assert {run.worker for run in found if run.status == "SUCCESS"} <= {each.name for each in cluster.workers}
        assert len(fleet.sent_twice()) <= 2, "what the killed worker's two runs were sending"
        assert not (cluster.state(worker.name) / "registries").exists()
