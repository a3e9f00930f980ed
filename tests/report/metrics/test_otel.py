"""A collector of OpenTelemetry is told, and reads it with OpenTelemetry's own messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.measures import MEASURES
from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.http_server import HttpServer
from registry_pipelines.report.metrics.model import sample
from registry_pipelines.report.metrics.otel import MOST_POINTS, requests_of
from tests.inventory.test_clouds import run
from tests.needs import needed_module

NOW = datetime.now(UTC)
WORD = "a-word-that-nobody-sees"


@pytest.fixture(scope="module")
def proto() -> Any:
    return needed_module("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", "otel")


@contextmanager
def collector(answer: Callable[[bytes], Response]) -> Iterator[tuple[str, list[Request]]]:
    asked: list[Request] = []

    def take(request: Request) -> Response:
        asked.append(request)
        return answer(request.body.read(8 * 1024 * 1024) or b"")

    with HttpServer(take) as server:
        yield server.url, asked


def config(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OTLP_TOKEN", WORD)
    path = folder / "registry-pipelines.yaml"
    (folder / "content").mkdir()
    path.write_text(
        "registries:\n  here: {kind: layout, root: content}\n"
        f"report: {{metrics: {{to: [otlp], otlp: {{url: '{url}', headers: {{authorization: '${{OTLP_TOKEN}}'}}}}}}}}\n"
    )
    return path


def test_a_collector_reads_every_sample(proto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    def answer(body: bytes) -> Response:
        taken.append(proto.ExportMetricsServiceRequest.FromString(body))
        return Response(200, [("Content-Type", "application/x-protobuf")], b"")

    with collector(answer) as (url, asked):
        result = run(config(tmp_path, url, monkeypatch), "report", "metrics")
    [request] = asked
    assert (request.path, request.headers["content-type"]) == ("/v1/metrics", "application/x-protobuf")
    assert request.headers["authorization"] == WORD
    [scope] = taken[0].resource_metrics[0].scope_metrics
    found = {
        (metric.name, tuple(sorted((each.key, each.value.string_value) for each in point.attributes))): point.as_double
        for metric in scope.metrics
        for point in metric.gauge.data_points
    }
    assert len(found) == result["rows"][0]["samples"] == result["facts"]["series"]
    assert found["registry_pipelines.registry_images", (("registry", "here"),)] == 0
    assert WORD not in str(result)


@pytest.mark.parametrize(
    ("status", "told"), [(403, "it answered 403"), (503, "it answered 503"), (302, "it answered 302")]
)
def test_a_collector_that_refuses_is_told_without_what_was_sent(
    proto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    with collector(lambda body: Response(status, [("Location", "http://127.0.0.1:1/")], b"no")) as (url, _):
        result = run(config(tmp_path, url, monkeypatch), "report", "metrics", code=7)
    [reason] = [each for each in result["reasons"] if each.startswith("otlp was not told")]
    assert told in reason and WORD not in str(result)


def test_points_that_a_collector_rejects_and_answers_that_are_none(
    proto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partly = proto.ExportMetricsServiceResponse()
    partly.partial_success.rejected_data_points, partly.partial_success.error_message = 3, "too many"
    answers = [partly.SerializeToString(), b"\xff" * 40]
    with collector(lambda body: Response(200, [], answers.pop(0))) as (url, _):
        path = config(tmp_path, url, monkeypatch)
        assert "otlp: 3 points were rejected: too many" in run(path, "report", "metrics", code=7)["reasons"]
        assert any("none of OTLP" in each for each in run(path, "report", "metrics", code=7)["reasons"])


def test_every_measure_is_a_metric_and_requests_are_bounded(proto: Any) -> None:
    samples = [sample(name, 1, NOW, **dict.fromkeys(measure.labels, "x")) for name, measure in MEASURES.items()]
    [body] = requests_of(samples)
    read = proto.ExportMetricsServiceRequest.FromString(body)
    metrics = read.resource_metrics[0].scope_metrics[0].metrics
    assert {metric.name for metric in metrics} == {f"registry_pipelines.{name}" for name in MEASURES}
    assert {metric.unit for metric in metrics} == {"By", "1", "s"}
    assert metrics[0].gauge.data_points[0].time_unix_nano == int(NOW.timestamp() * 1e9)
    many = [
        sample("repository_bytes", number, NOW, registry="r" * 255, repository=f"{'x' * 240}{number}")
        for number in range(MOST_POINTS + 1)
    ]
    bodies = requests_of(many)
    assert len(bodies) == 2 and max(map(len, bodies)) < 4 * 1024 * 1024
