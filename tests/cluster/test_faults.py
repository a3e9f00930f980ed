"""Two hundred releases on three workers, while everything that may fail does; and what people and memory do wrong."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster.machines import Cluster, Process, until
from deploy.cluster.runs import launch, runs, table
from tests.cluster.fleet import HASTY, Fleet, left, looked, over, releases
from tests.patience import PATIENCE, patient

pytestmark = [
    pytest.mark.long,
    pytest.mark.peer("redis-server"),
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("cluster_programs"),
]
IMAGES, TAGS = 40, 5
FROZEN_S = 60
ALL = {"run_monitoring": {"poll_interval_seconds": 5, "start_timeout_seconds": 120}}


def done(cluster: Cluster) -> int:
    """How many releases have a run that ended well."""
    return len({run.about for run in releases(cluster) if run.status == "SUCCESS"})


def kill_one(cluster: Cluster, name: str = "") -> Process:
    """A worker that has a run now is gone with all its processes. name: this one."""

    def busy() -> Process | None:
        names = {run.worker for run in releases(cluster) if run.status == "STARTED"}
        return next((each for each in cluster.workers if each.name in names and name in ("", each.name)), None)

    worker = until("a worker has a run", busy, seconds=patient(60))
    worker.kill()
    return worker


def test_two_hundred_releases_and_every_fault(cluster_folder: Path) -> None:
    """A worker is killed in the middle, Postgres is restarted, Redis flushed, and registries are frozen for a minute.
    No release is lost, none is promoted twice, no layer is sent again beyond what the killed worker had in hand, every
    run says how it ended."""
    fleet = Fleet(cluster_folder, [f"app-{place:02}" for place in range(IMAGES)])
    with fleet.cluster(settings=ALL, patience=PATIENCE) as cluster:
        until("the registry was looked at once", lambda: looked(cluster), seconds=patient(60))
        for tag in range(TAGS):
            for image in fleet.images:
                fleet.push(image, f"v1.{tag}.0")
        until("a tenth is out", lambda: done(cluster) >= IMAGES * TAGS // 10, seconds=patient(300))
        killed = kill_one(cluster)
        until("a quarter is out", lambda: done(cluster) >= IMAGES * TAGS // 4, seconds=patient(300))
        killed.start()
        cluster.postgres.stop()
        time.sleep(5)
        cluster.postgres.start()
        until("two fifths are out", lambda: done(cluster) >= IMAGES * TAGS * 2 // 5, seconds=patient(300))
        cluster.redis_client().flushall()
        until("three fifths are out", lambda: done(cluster) >= IMAGES * TAGS * 3 // 5, seconds=patient(300))
        cluster.registries.signal_all(signal.SIGSTOP)
        time.sleep(FROZEN_S)
        cluster.registries.signal_all(signal.SIGCONT)
        found = until("all releases are everywhere", lambda: over(cluster, fleet), seconds=patient(900))
        told = table(found)
        waits = left(found)
        assert fleet.promotions() == {each: int(":".join(each) not in waits) for each in fleet.released}, told
        assert len(fleet.sent_twice()) <= 2 * 2, f"{fleet.sent_twice()}\n{told}"
        silent = [run for run in found if run.status != "SUCCESS" and not cluster.why(run.id)]
        assert not silent, table(silent)
        print(Counter((run.status, run.attempt) for run in found))


@pytest.fixture
def small(cluster_folder: Path) -> Iterator[tuple[Cluster, Fleet]]:
    """Two workers and one image."""
    fleet = Fleet(cluster_folder, ["app"])
    with fleet.cluster(workers=2, slots=1, settings=HASTY, patience=PATIENCE) as cluster:
        until("the registry was looked at once", lambda: looked(cluster), seconds=patient(60))
        yield cluster, fleet


def test_a_full_redis_and_a_typed_key(small: tuple[Cluster, Fleet]) -> None:
    """A run that Redis has no memory for waits in Dagster's queue with Redis's word, and is handed on when there is
    some again. A partition key that somebody typed ends with what is wrong with it."""
    cluster, fleet = small
    redis = cluster.redis_client()
    redis.config_set("maxmemory", 1)
    fleet.push("app", "v1.0.0")
    word = "command not allowed when used memory > 'maxmemory'"
    waits = until(
        "a launch was refused",
        lambda: next((run for run in releases(cluster) if word in cluster.why(run.id)), None),
        seconds=patient(120),
    )
    assert [(run.id, run.status) for run in releases(cluster)] == [(waits.id, "QUEUED")]
    redis.config_set("maxmemory", 64 << 20)
    until("the release is everywhere", lambda: over(cluster, fleet), seconds=patient(300))

    typed = launch(cluster, "release", **{"dagster/partition": "app|v1\n"})
    run = until(
        "the typed key's run has ended",
        lambda: next((run for run in runs(cluster) if run.id == typed and run.is_over), None),
        seconds=patient(120),
    )
    assert run.status == "FAILURE"
    assert "app|v1" in cluster.why(typed), cluster.why(typed)
    assert set(fleet.promotions().values()) == {1}


TERMINATE = """
mutation ($run: String!) { terminateRun(runId: $run) { __typename ... on TerminateRunFailure { message } } }
"""


def test_a_run_that_a_person_terminates_ends_so_and_leaves_its_place(cluster_folder: Path) -> None:
    """Nobody runs it again but who asks for it."""
    fleet = Fleet(cluster_folder, ["app"], far_s=0.1)
    with fleet.cluster(workers=1, slots=1, settings=HASTY, patience=PATIENCE) as cluster:
        until("the registry was looked at once", lambda: looked(cluster), seconds=patient(60))
        fleet.push("app", "v1.0.0")
        at_work = until(
            "a worker has the release",
            lambda: next((run for run in releases(cluster) if run.status == "STARTED" and run.worker), None),
            seconds=patient(120),
        )
        said = cluster.ask(TERMINATE, run=at_work.id)["terminateRun"]
        assert said["__typename"] == "TerminateRunSuccess", said
        [ended] = until("it has ended", lambda: [run for run in releases(cluster) if run.is_over], seconds=patient(120))
        assert (ended.status, ended.tags.get("dagster/will_retry", "false")) == ("CANCELED", "false")
        again = launch(cluster, "release", **{"dagster/partition": at_work.about})
        done = until(
            "it was asked for again, and has ended",
            lambda: next((run for run in runs(cluster) if run.id == again and run.is_over), None),
            seconds=patient(300),
        )
        found = releases(cluster)
        assert done.status == "SUCCESS" and {run.id for run in found} == {at_work.id, again}, table(found)
