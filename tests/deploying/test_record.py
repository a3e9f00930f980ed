"""The time of a record: which of several is the newest decides what is rolled out next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from registry_pipelines.deploying.record import TIME_FORMAT, DeploymentRecord, time_after
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import CLOCKS_DIFFER

NOW = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def record(at: datetime) -> DeploymentRecord:
    return DeploymentRecord(
        deployment="web",
        image="app",
        version="v1",
        digest=Digest.of(b"release"),
        channel="prod",
        where="cluster",
        written="registry/app@sha256:0",
        outcome="running",
        time=at.strftime(TIME_FORMAT),
    )


def told(at: datetime) -> str:
    return at.strftime(TIME_FORMAT)


def test_roll_outs_of_one_second_stand_behind_each_other() -> None:
    assert time_after(NOW, None, record(NOW)) == told(NOW + SECOND)
    assert time_after(NOW, None, record(NOW + SECOND)) == told(NOW + 2 * SECOND), "the one before stands behind another"
    assert time_after(NOW, record(NOW), record(NOW)) == told(NOW + SECOND), "of one release, too"
    assert time_after(NOW, None, record(NOW - SECOND)) == time_after(NOW, None) == told(NOW)


def test_no_record_follows_a_wrong_clock_far_ahead() -> None:
    far = record(NOW + CLOCKS_DIFFER + SECOND)
    assert time_after(NOW, None, far) == told(NOW)
    assert time_after(NOW, record(NOW + SECOND), far) == told(NOW + 2 * SECOND)
