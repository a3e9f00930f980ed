"""Postgres, Redis, webserver, daemon, code server, three workers, each with its own folder; workers are killed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster.machines import Cluster, until
from deploy.cluster.runs import Run, table
from tests.cluster.fleet import HASTY, Fleet, looked, releases
from tests.needs import needed_module
from tests.patience import PATIENCE, patient

pytestmark = [pytest.mark.peer("redis-server"), pytest.mark.timeout(900)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the user of Postgres may enter, too."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def _programs(postgres_programs: Path) -> None:
    needed_module("dagster_celery", "cluster")
    needed_module("dagster_postgres", "cluster")


def held(found: list[Run]) -> set[str]:
    """Releases that a run left where they are, because a newer one was promoted by then."""
    return {run.about.rpartition("@")[0] for run in found if run.outcome.startswith("held")}


def over(cluster: Cluster, fleet: Fleet) -> list[Run]:
    """The runs of all releases, when every release is where it must be and nothing is under way."""
    found = releases(cluster)
    done = {run.about.rpartition("@")[0] for run in found if run.status == "SUCCESS"}
    if not found or any(not run.is_over for run in found) or done < {f"{a}:{b}" for a, b in fleet.released}:
        return []
    return [] if fleet.missing(held(found)) else found


@pytest.mark.usefixtures("_programs")
def test_twelve_releases_while_a_worker_is_killed(folder: Path) -> None:
    """None is lost, none is promoted twice, an older release does not take the channel back, and every run says how it
    ended."""
    fleet = Fleet(folder, [f"app-{place}" for place in range(6)])
    with fleet.cluster(settings=HASTY, patience=PATIENCE) as cluster:
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
        found = until("all releases are everywhere", lambda: over(cluster, fleet), seconds=patient(120))
        told = table(found)
        waits = held(found)
        assert fleet.promotions() == {each: int(":".join(each) not in waits) for each in fleet.released}, told
        killed = [run for run in found if run.worker == worker.name and run.status == "FAILURE"]
        assert killed, told
        for run in killed:
            again = [each for each in found if each.tags.get("dagster/parent_run_id") == run.id]
            assert [each.status for each in again] == ["SUCCESS"], told
            assert {each.worker for each in again}.isdisjoint({worker.name}), told
            [why] = cluster.query(
                "SELECT event FROM event_logs WHERE run_id = %s AND dagster_event_type = 'PIPELINE_FAILURE'", run.id
            )
            assert f"it was on {worker.name}@" in why[0], why
        assert {run.worker for run in found if run.status == "SUCCESS"} <= {each.name for each in cluster.workers}
        assert len(fleet.sent_twice()) <= 2, "what the killed worker's two runs were sending"
        assert not (cluster.state(worker.name) / "registries").exists()
