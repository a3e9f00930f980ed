"""Cloud Monitoring is told, by its own discovery document, and its own bytes are held against ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_pipelines.report.metrics.model import sample
from registry_pipelines.report.metrics.monitoring import MOST_SERIES, OWN_BYTES, OWN_RESOURCE, calls_of
from tests.doubles.google import GoogleCloud
from tests.doubles.google.monitoring import Monitoring
from tests.inventory.clouds import LOCATION, PROJECT, written
from tests.inventory.test_clouds import push, run
from tests.needs import needed_module

TELLS = "report: {metrics: {to: [monitoring], monitoring: {registry: gar}}}\n"
LAST = ".registry-pipelines/report/monitoring-last"
NOW = datetime.now(UTC)


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleCloud]:
    needed_module("google.cloud.artifactregistry_v1", "google")
    with GoogleCloud(tmp_path / "google") as cloud:
        yield cloud


def own(repository: str, size: int) -> dict[str, object]:
    """What Artifact Registry tells of a repository; the newest point is first."""
    labels = {"resource_container": PROJECT, "location": LOCATION, "repository_id": repository}
    points = [
        {
            "interval": {"endTime": f"{NOW - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"},
            "value": {"int64Value": str(each)},
        }
        for hours, each in ((1, size), (9, 1))
    ]
    return {
        "metric": {"type": OWN_BYTES},
        "resource": {"type": OWN_RESOURCE, "labels": labels},
        "metricKind": "GAUGE",
        "valueType": "INT64",
        "points": points,
    }


def filled(google: GoogleCloud, *repositories: str) -> None:
    for name in repositories:
        google.repository(PROJECT, LOCATION, name)
        push(google, name)  # all of them below `models`


def test_numbers_of_artifact_registry_are_in_cloud_monitoring(google: GoogleCloud, tmp_path: Path) -> None:
    filled(google, "models", "tools", "third")
    state = google.world.state(Monitoring)
    state.own = [own("models", 1), own("tools", 2), own("third", 3)]
    result = run(written(tmp_path, google=google, more=TELLS), "report", "metrics")
    [row] = result["rows"]
    assert (row["told"], row["left_out"], row["samples"]) == ("monitoring", 0, result["facts"]["series"])
    assert len(state.series) == row["samples"]
    kind = "custom.googleapis.com/registry_pipelines/registry_images"
    [(_, images)] = state.series[kind, (("registry", "gar"),)]
    assert images == 9 and state.descriptors[kind]["unit"] == "1"
    notes = [note for note in result["notes"] if " by Google" in note]
    assert len(notes) == 3, "each page of Google's own numbers was read"
    assert f"monitoring: models: {result['facts']['bytes']} bytes by us, 1 by Google" in notes
    assert "monitoring: third: 0 bytes by us, 3 by Google" in notes


def test_numbers_that_agree_are_said_to(google: GoogleCloud, tmp_path: Path) -> None:
    filled(google, "models")
    config = written(tmp_path, google=google, more=TELLS)
    first = run(config, "report", "metrics", "--no-send")
    google.world.state(Monitoring).own = [own("models", first["facts"]["bytes"])]
    assert any("Google's own bytes agree, of 1" in note for note in run(config, "report", "metrics")["notes"])


def test_a_clock_that_went_back_sends_nothing(google: GoogleCloud, tmp_path: Path) -> None:
    filled(google, "models")
    config = written(tmp_path, google=google, more=TELLS)
    run(config, "report", "metrics")
    last = tmp_path / LAST
    last.write_text("2999-01-01T00:00:00Z")
    state = google.world.state(Monitoring)
    before = len(state.calls)
    result = run(config, "report", "metrics", code=7)
    assert "a clock went back" in result["reasons"][0] and len(state.calls) == before


def test_points_are_five_seconds_apart(google: GoogleCloud, tmp_path: Path) -> None:
    filled(google, "models")
    config = written(tmp_path, google=google, more=TELLS)
    run(config, "report", "metrics")
    result = run(config, "report", "metrics", code=7)
    assert "takes a point every five seconds" in result["reasons"][0]
    assert [len(points) for points in google.world.state(Monitoring).series.values()].count(1) == result["facts"][
        "series"
    ]


def test_who_may_not_write_and_who_may_not_compare(google: GoogleCloud, tmp_path: Path) -> None:
    filled(google, "models")
    config = written(tmp_path, google=google, more=TELLS)
    google.world.deny("monitoring.timeSeries.list")
    result = run(config, "report", "metrics")
    assert any("Google's own bytes could not be read" in note for note in result["notes"])
    (tmp_path / LAST).unlink()  # as though it were later
    google.world.deny("monitoring.timeSeries.create")
    refused = run(config, "report", "metrics", code=7)
    assert "monitoring.timeSeries.create" in refused["reasons"][0]
    assert refused["rows"][0]["samples"] == 0 and refused["facts"]["images"] == 3
    assert not (tmp_path / LAST).exists()


def test_calls_are_within_the_limits() -> None:
    many = [
        sample("repository_bytes", number, NOW, registry="eu", repository=f"r{number}")
        for number in range(2 * MOST_SERIES + 1)
    ]
    old = sample("registry_bytes", 1, NOW - timedelta(hours=26), registry="old")
    early = sample("registry_bytes", 1, NOW + timedelta(minutes=6), registry="early")
    odd = sample("registry_bytes", float("nan"), NOW, registry="odd")
    calls, left = calls_of([*many, old, early, odd], project=PROJECT, now=NOW)
    assert [len(call["timeSeries"]) for call in calls] == [200, 200, 1]
    assert len(left) == 3 and "25 hours" in left[0] and "no number" in left[2]


def test_the_double_itself_refuses_what_google_refuses(google: GoogleCloud) -> None:
    import json
    import urllib.error
    import urllib.request

    def post(path: str, body: dict[str, object]) -> int:
        request = urllib.request.Request(f"{google.endpoint}/v3/projects/{PROJECT}/{path}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    [call], _ = calls_of([sample("registry_bytes", 1, NOW, registry="eu")], project=PROJECT, now=NOW)
    assert post("timeSeries", call) == 400, "nobody described it"
    assert post("metricDescriptors", {"type": "custom.googleapis.com/x", "metricKind": "GAUGE", "units": "1"}) == 400
