"""CloudWatch is told, by botocore's model and as moto tells it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_pipelines.measures import MEASURES
from registry_pipelines.report.metrics.cloudwatch import MOST_METRICS, calls_of
from registry_pipelines.report.metrics.model import Sample, sample
from tests.doubles.aws.front import AwsDouble
from tests.inventory.clouds import REGION, ecr_place, manifest, put, written
from tests.inventory.test_clouds import run
from tests.needs import needed_module

TELLS = "report: {metrics: {to: [cloudwatch], cloudwatch: {registry: ecr, namespace: Ours}}}\n"
NOW = datetime.now(UTC)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    needed_module("boto3", "aws")
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


def many(count: int, *, time: datetime = NOW) -> list[Sample]:
    return [
        sample("repository_bytes", number, time, registry="eu", repository=f"team/{number}") for number in range(count)
    ]


def test_numbers_of_ecr_come_back_from_cloudwatch(aws: AwsDouble, tmp_path: Path) -> None:
    import boto3

    place, now = ecr_place(aws), NOW.timestamp()
    put(place, "ml/app", manifest(1), "v1", at=now)
    put(place, "ml/app", manifest(2), at=now)
    put(place, "other", manifest(3), "v1", at=now)
    result = run(written(tmp_path, aws, more=TELLS), "report", "metrics")
    [row] = result["rows"]
    assert (row["told"], row["calls"], row["left_out"]) == ("cloudwatch", 1, 0)
    client = boto3.client("cloudwatch", region_name=REGION, endpoint_url=aws.url)
    listed = client.list_metrics(Namespace="Ours")["Metrics"]
    assert len(listed) == row["samples"] == result["facts"]["series"]
    read = client.get_metric_statistics(
        Namespace="Ours",
        MetricName="RepositoryBytes",
        Dimensions=[{"Name": "Registry", "Value": "ecr"}, {"Name": "Repository", "Value": "ml/app"}],
        StartTime=NOW - timedelta(hours=1),
        EndTime=NOW + timedelta(hours=1),
        Period=3600,
        Statistics=["Maximum"],
    )
    told = {each["labels"]: each for each in result["tables"]["samples"] if each["name"] == "repository_bytes"}
    ours = told["registry=ecr repository=ml/app"]["value"]
    assert sum(point["Maximum"] for point in read["Datapoints"]) == ours > 4000
    assert {point["Unit"] for point in read["Datapoints"]} == {"Bytes"}


def test_who_may_not_write_is_told_and_the_rest_goes_on(aws: AwsDouble, tmp_path: Path) -> None:
    aws.default.denied.add("cloudwatch:PutMetricData")
    file = tmp_path / "registries.prom"
    more = f"report: {{metrics: {{to: [cloudwatch, prometheus], file: {file}, cloudwatch: {{registry: ecr}}}}}}\n"
    result = run(written(tmp_path, aws, more=more), "report", "metrics", code=7)
    [reason] = result["reasons"]
    assert reason.startswith("cloudwatch: ") and "cloudwatch:PutMetricData" in reason
    assert [row["samples"] for row in result["rows"]] == [0, result["facts"]["series"]]
    assert 'registry_bytes{registry="ecr"} 0\n' in file.read_text()


def test_calls_are_within_the_limits() -> None:
    calls, left = calls_of(many(2 * MOST_METRICS + 1), namespace="Ours", now=NOW)
    assert not left and [len(call["MetricData"]) for call in calls] == [1000, 1000, 1]
    wide = [
        sample("repository_bytes", 1, NOW, registry="r" * 255, repository=f"{number:04}{'x' * 251}")
        for number in range(2500)
    ]
    calls, left = calls_of(wide, namespace="Ours", now=NOW)
    assert not left and sum(len(call["MetricData"]) for call in calls) == 2500
    assert all(len(call["MetricData"]) <= MOST_METRICS for call in calls)
    assert max(len(str(call)) for call in calls) < 1_000_000


@pytest.mark.parametrize(
    ("value", "labels", "time", "why"),
    [
        (float("nan"), {"registry": "eu"}, NOW, "no number"),
        (float("inf"), {"registry": "eu"}, NOW, "no number"),
        (2.0**361, {"registry": "eu"}, NOW, "no number"),
        (1, {"registry": "eu"}, NOW - timedelta(days=15), "two weeks ago"),
        (1, {"registry": "eu"}, NOW + timedelta(hours=3), "two hours ahead"),
        (1, {"registry": "zürich"}, NOW, "ASCII"),
        (1, {"registry": " "}, NOW, "ASCII"),
    ],
)
def test_what_cloudwatch_would_refuse_is_left_out_by_name(
    value: float, labels: dict[str, str], time: datetime, why: str
) -> None:
    good = sample("registry_bytes", 1, NOW, registry="us")
    calls, left = calls_of([sample("registry_bytes", value, time, **labels), good], namespace="Ours", now=NOW)
    assert [len(call["MetricData"]) for call in calls] == [1]
    assert len(left) == 1 and why in left[0]


def test_every_measure_fits_the_model_of_botocore() -> None:
    botocore = needed_module("botocore.session", "aws")
    validate = needed_module("botocore.validate", "aws")
    shape = botocore.get_session().get_service_model("cloudwatch").operation_model("PutMetricData").input_shape
    samples = [sample(name, 1, NOW, **dict.fromkeys(measure.labels, "x")) for name, measure in MEASURES.items()]
    [call], left = calls_of(samples, namespace="Ours", now=NOW)
    report = validate.ParamValidator().validate(call, shape)
    assert not left and not report.has_errors(), report.generate_report()
    units = shape.members["MetricData"].member.members["Unit"].enum
    assert {each["Unit"] for each in call["MetricData"]} <= set(units)
