"""CloudTrail and Cloud Logging asked, held against botocore's model and Google's discovery document."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from registry_pipelines.errors import Forbidden, InputError, RegistryError
from registry_pipelines.events.cloudtrail_api import CloudTrailHistory, CloudTrailLake
from registry_pipelines.events.cloudtrail_files import CloudTrailFiles
from registry_pipelines.events.google_audit import SERVICE, GoogleLogs
from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.report.audit.model import Event, LogSource, Reading
from registry_pipelines.stores.store import open_store
from tests.doubles.aws.cloudtrail import CloudTrail
from tests.doubles.aws.front import ApiError, AwsDouble
from tests.doubles.google import GoogleCloud
from tests.doubles.google.described import Logs
from tests.doubles.s3 import BUCKET, REGION, s3_server
from tests.events.test_audit_logs import DATA, of_records, records

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ONCE = Retries(attempts=2, first_wait_s=0.01, repeat_stalls=False)
STORE = "arn:aws:cloudtrail:eu-west-1:111122223333:eventdatastore/00000000-0000-4000-8000-000000000001"


def named(host: str) -> str:
    return "ecr"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        double.clock = NOW.timestamp
        double.area(CloudTrail).records = records()
        yield double


def read(source: LogSource, cursor: dict[str, str] | None = None, *, days: int = 60) -> tuple[list[Event], Reading]:
    reading = Reading(cursor=dict(cursor or {}))
    return list(source.read(reading, since=NOW - timedelta(days=days), until=NOW)), reading


def history(aws: AwsDouble, waited: list[float], **more: Any) -> CloudTrailHistory:
    calls = AwsCalls(AwsAccess(region="eu-west-1"), retries=ONCE)
    return CloudTrailHistory("trail", calls, "eu-west-1", names=named, pause=waited.append, **more)


def test_the_event_history_is_read_by_pages_within_its_limits(aws: AwsDouble) -> None:
    area, waited = aws.area(CloudTrail), list[float]()
    [push] = [each for each in records() if each["eventID"].startswith("00000003")]
    area.records += [{**push, "eventID": f"more-{count:03}"} for count in range(120)]
    events, reading = read(history(aws, waited))
    assert len({each.id for each in events}) == 13 + 120 and reading.whole and reading.unread == 0
    assert {each.values["MaxResults"] for each in aws.calls if each.action == "LookupEvents"} == {50}
    assert len(waited) >= 2 and min(waited) > 0.5  # two requests a second
    area.records.append({**push, "eventID": "late", "eventTime": "2026-11-28T23:30:00Z"})
    before = aws.count("LookupEvents")
    more, again = read(history(aws, []), reading.cursor)
    assert [each.id for each in more] == ["late"] and aws.count("LookupEvents") == before + 1
    _, ahead = read(history(aws, []), {"until": "2031-01-01T00:00:00+00:00"})  # a clock that was wrong
    assert ahead.cursor["until"] == again.cursor["until"] == NOW.isoformat()


def test_a_history_of_more_than_a_run_may_ask_for_goes_on_in_the_next(aws: AwsDouble) -> None:
    area = aws.area(CloudTrail)
    [push] = [each for each in records() if each["eventID"].startswith("00000003")]
    area.records = [
        {
            **push,
            "eventID": f"{day:02}-{count:03}",
            "eventTime": f"2026-11-{day:02}T10:{count // 60:02}:{count % 60:02}Z",
        }
        for day in (10, 20)
        for count in range(300)
    ]
    found: set[str] = set()
    cursor: dict[str, str] = {}
    for run in range(12):  # noqa: B007  it is looked at below
        events, reading = read(history(aws, [], most=9), cursor, days=25)
        found |= {each.id for each in events}
        cursor = reading.cursor
        if reading.whole:
            break
        assert "two requests a second" in reading.notes[0]
    assert len(found) == 600 and 1 <= run < 11


def test_who_may_not_read_the_history_is_told_the_action_that_is_missing(aws: AwsDouble) -> None:
    aws.deny("cloudtrail:LookupEvents")
    with pytest.raises(Forbidden, match="cloudtrail:LookupEvents"):
        read(history(aws, []))
    aws.default.denied.clear()
    aws.fail("LookupEvents", ApiError("ThrottlingException", "Rate exceeded"))
    assert len(read(history(aws, []))[0]) == 13


def test_a_store_of_lake_tells_the_same_as_the_records(aws: AwsDouble) -> None:
    waited = list[float]()
    calls = AwsCalls(AwsAccess(region="eu-west-1"), retries=ONCE)
    lake = CloudTrailLake("trail", calls, "eu-west-1", STORE, names=named, pause=waited.append)
    events, reading = read(lake)
    wanted = of_records(Reading(), records())
    assert [(each.id, each.who, each.action, each.digest, each.tag, each.service, each.refused) for each in events] == [
        (each.id, each.who, each.action, each.digest, each.tag, each.service, each.refused) for each in wanted
    ]
    assert len(waited) == 1 and reading.cursor["until"] == NOW.isoformat()
    [sql] = aws.area(CloudTrail).queries.values()
    assert "eventSource = 'ecr.amazonaws.com'" in sql and "eventTime >= '2026-09-30 00:00:00'" in sql
    aws.area(CloudTrail).failure = "the store is gone"
    with pytest.raises(RegistryError, match="the store is gone"):
        read(lake)
    with pytest.raises(InputError, match="no event data store"):
        CloudTrailLake("trail", calls, "eu-west-1", "x; DROP TABLE y", names=named)


def test_log_files_of_a_bucket_are_read() -> None:
    with s3_server() as address:
        client = boto3.Session().client("s3", endpoint_url=address, region_name=REGION)
        key = "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/11/28/x.json.gz"
        client.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress((DATA / "cloudtrail.json").read_bytes()))
        where = f"s3://{BUCKET}/AWSLogs/111122223333/CloudTrail"
        store = open_store(where, region=REGION, endpoint=address)
        events, reading = read(CloudTrailFiles("files", store, names=named), days=3)
        assert len(events) == 13 and reading.unread == 0
        assert read(CloudTrailFiles("files", store, names=named), reading.cursor, days=3)[0] == []


def test_cloud_logging_is_read_by_pages_and_says_which_permission_is_missing(tmp_path: Path) -> None:
    with GoogleCloud(tmp_path) as google:
        entries = json.loads((DATA / "google.json").read_text())
        push = entries[1]
        entries += [
            {**push, "insertId": f"more{count:04}", "timestamp": "2026-11-20T12:00:00Z"} for count in range(1500)
        ]
        google.world.state(Logs).entries = entries
        rest = GoogleRest(GoogleAccess(project="ml-prod", endpoint=google.endpoint), SERVICE, retries=ONCE)
        logs = GoogleLogs("google", rest, "ml-prod", "europe-west1", names=named)
        events, reading = read(logs)
        assert len({each.id for each in events}) == 9 + 1500 and reading.whole
        assert google.world.calls["logging.entries.list"] == 2
        late = {**push, "insertId": "late", "timestamp": "2026-11-28T23:50:00Z"}
        google.world.state(Logs).entries.append(late)
        assert [each.id for each in read(logs, reading.cursor)[0]] == ["late"]
        google.world.deny("logging.privateLogEntries.list")
        with pytest.raises(Forbidden, match="403"):
            read(logs)
