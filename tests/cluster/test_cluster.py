"""Postgres, Redis, webserver, daemon, code server, three workers, each with its own folder; workers are killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.cluster.machines import until
from deploy.cluster.runs import table
from tests.cluster.fleet import HASTY, PERIOD_S, Fleet, left, looked, over, releases
from tests.patience import PATIENCE, patient

pytestmark = [
    pytest.mark.peer("redis-server"),
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("cluster_programs"),
]


def test_eight_releases_while_a_worker_is_killed(cluster_folder: Path) -> None:
    """None is lost, none is promoted twice, an older release does not take the channel back, and every run says how it
    ended. All is done within two periods of monitoring."""
    fleet = Fleet(cluster_folder, [f"app-{place}" for place in range(4)])
    with fleet.cluster(slots=1, settings=HASTY, patience=PATIENCE) as cluster:
        until("the registry was looked at once", lambda: looked(cluster), seconds=patient(60))
        for tag in ("v1.0.0", "v1.1.0"):
            for image in fleet.images:
                fleet.push(image, tag)
        victim = until(
            "a worker has a run",
            lambda: next((run for run in releases(cluster) if run.status == "STARTED" and run.worker), None),
            seconds=patient(60),
        )
        worker = next(each for each in cluster.workers if each.name == victim.worker)
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
