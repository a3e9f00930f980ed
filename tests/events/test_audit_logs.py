"""Logs of registries as events of an audit: records in the shape of the guides, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.events.access_log import AccessLog
from registry_pipelines.events.cloudtrail import events_of_record
from registry_pipelines.events.cloudtrail_files import CloudTrailFiles
from registry_pipelines.events.google_audit import events_of_entry
from registry_pipelines.events.notifications import Notifications, event_of_notification
from registry_pipelines.report.audit.model import Event, Reading
from registry_pipelines.stores.store import open_store

DATA = Path(__file__).parents[1] / "data" / "audit"
ECR = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
GAR = "europe-west1-docker.pkg.dev"
NAMES = {ECR: "ecr", GAR: "gar"}
NOW = datetime(2026, 11, 29, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def digest(byte: int) -> str:
    return "sha256:" + f"{byte:02x}" * 32


def named(host: str) -> str:
    return NAMES.get(host, host)


def records() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / "cloudtrail.json").read_text())["Records"]
    return found


def of_records(reading: Reading, raw: list[dict[str, Any]]) -> list[Event]:
    return [
        event
        for each in raw
        for event in events_of_record(json.dumps(each).encode(), reading, source="trail", names=named)
    ]


def short(event: Event) -> tuple[str, str, str, str]:
    return event.action, event.repository, event.digest[:9], event.tag


def test_records_of_cloudtrail_tell_who_did_what() -> None:
    reading = Reading()
    events = of_records(reading, records())
    assert [short(each) for each in events] == [
        ("login", "", "", ""),
        ("push", "team/vision", "sha256:a1", "v1"),
        ("pull", "team/vision", "", "v1"),
        ("layer", "team/vision", "sha256:b2", ""),
        ("delete", "team/vision", "sha256:a1", "v1"),
        ("delete", "team/vision", "sha256:a2", ""),
        ("delete", "team/vision", "sha256:a3", "old"),
        ("push", "team/vision", "sha256:a5", "v3"),
        ("settings", "team/vision", "", ""),
        ("settings", "team/vision", "", ""),
        ("push", "team/vision", "", "v4"),
        ("delete", "team/vision", "", ""),
        ("settings", "team/vision", "", ""),
    ]
    assert {each.registry for each in events} == {"ecr"} and reading.unread == 0
    assert reading.other == 4  # an upload, a preview of a policy, a list, another service
    push, denied = events[1], events[10]
    assert push.who == "arn:aws:sts::111122223333:assumed-role/ci-push/run-7" and push.service == ""
    assert denied.refused == "AccessDenied" and denied.who.endswith("user/mallory")
    assert [each.service for each in events if each.service] == ["lifecycle", "replication"]
    assert "policyText" in events[8].detail and events[12].operation == "PutFutureThing"
    assert len({each.id for each in events}) == len(events)


def test_a_preview_of_a_lifecycle_policy_is_no_deletion() -> None:
    [preview] = [each for each in records() if each["eventName"] == "DryRunEvent"]
    assert of_records(Reading(), [preview]) == []
    assert [each.action for each in of_records(Reading(), [{**preview, "eventName": "PolicyExecutionEvent"}])] == [
        "delete"
    ]


def test_a_caller_cannot_pass_for_a_service_of_aws() -> None:
    [push] = [each for each in records() if each["eventID"].startswith("00000003")]
    arn = "arn:aws:sts::111122223333:assumed-role/AWSServiceRoleForECRReplication/x"
    role = "arn:aws:iam::111122223333:role/mine/AWSServiceRoleForECRReplication"
    who = {"type": "AssumedRole", "arn": arn, "sessionContext": {"sessionIssuer": {"arn": role}}}
    [event] = of_records(Reading(), [{**push, "userIdentity": who}])
    assert event.service == "" and event.who == arn


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(records()), st.data())
def test_whatever_stands_in_a_record_or_an_entry_is_read_or_said(record: dict[str, Any], data: st.DataObject) -> None:
    broken = dict(record)
    broken[data.draw(st.sampled_from(sorted(record)))] = data.draw(_JSON)
    reading = Reading()
    for event in of_records(reading, [broken]):
        assert event.who.isprintable() and len(event.detail) <= 1000
    entry = dict(json.loads((DATA / "google.json").read_text())[1])
    entry["protoPayload"] = {
        **entry["protoPayload"],
        **{data.draw(st.sampled_from(sorted(entry["protoPayload"]))): data.draw(_JSON)},
    }
    list(events_of_entry(json.dumps(entry).encode(), reading, source="g", names=named))
    raw = json.dumps(data.draw(_JSON)).encode()
    assert list(events_of_record(raw, reading, source="t", names=named)) == []
    assert event_of_notification(raw, reading, source="n", registry="r") is None


def files(folder: Path) -> CloudTrailFiles:
    return CloudTrailFiles("files", open_store(str(folder)), names=named)


def test_log_files_are_read_once_and_a_cut_one_as_far_as_it_goes(tmp_path: Path) -> None:
    day = tmp_path / "eu-west-1" / "2026" / "11" / "28"
    day.mkdir(parents=True)
    whole = gzip.compress((DATA / "cloudtrail.json").read_bytes())
    (day / "a.json.gz").write_bytes(whole)
    late = {"Records": [{**each, "eventID": f"late-{place}"} for place, each in enumerate(records())]}
    cut = gzip.compress(json.dumps(late).encode())[:-900]
    (day / "b.json.gz").write_bytes(cut)
    (day / "c.json.gz").write_bytes(b"no gzip at all")
    (day / "d.txt").write_bytes(b"no log file")
    reading = Reading()
    events = list(files(tmp_path).read(reading, since=LONG_AGO, until=NOW))
    good = [each for each in events if not each.id.startswith("late-")]
    assert len(good) == 13 and 0 < len(events) - 13 < 13
    assert reading.unread == 2 and "b.json.gz is cut or damaged: the file ends early" in reading.notes[0]
    again = Reading(cursor=dict(reading.cursor))
    more = list(files(tmp_path).read(again, since=LONG_AGO, until=NOW))
    assert {each.id for each in more} == {each.id for each in events} - {each.id for each in good}
    (day / "b.json.gz").write_bytes(gzip.compress(json.dumps(late).encode()))
    (day / "c.json.gz").unlink()
    healed = Reading(cursor=dict(again.cursor))
    assert len(list(files(tmp_path).read(healed, since=LONG_AGO, until=NOW))) == 13 and healed.unread == 0
    quiet = Reading(cursor=dict(healed.cursor))
    assert list(files(tmp_path).read(quiet, since=LONG_AGO, until=NOW + timedelta(days=9))) == []
    assert quiet.cursor["day"] > healed.cursor["day"]


def test_entries_of_cloud_logging_tell_who_did_what() -> None:
    reading = Reading()
    events = [
        event
        for each in json.loads((DATA / "google.json").read_text())
        for event in events_of_entry(json.dumps(each).encode(), reading, source="google", names=named)
    ]
    assert [(*short(each), each.service) for each in events] == [
        ("push", "ml-prod/models/vision/app", "sha256:a1", "v1", ""),
        ("pull", "ml-prod/models/vision/app", "sha256:a1", "", ""),
        ("pull", "ml-prod/models/vision/app", "sha256:a1", "", "scan"),
        ("delete", "ml-prod/models/vision/app", "sha256:a1", "", ""),
        ("delete", "ml-prod/models/vision/app", "sha256:b1", "", "lifecycle"),
        ("delete", "ml-prod/models/vision/app", "sha256:b2", "", "lifecycle"),
        ("settings", "ml-prod/models", "", "", ""),
        ("delete", "ml-prod/models/vision/app", "", "prod", ""),
        ("push", "ml-prod/models/vision/app", "sha256:b3", "prod", ""),
    ]
    assert events[0].who == "ci@ml-prod.iam.gserviceaccount.com" and "not_found" in events[2].refused
    assert reading.unread == 0 and reading.other == 3 and {each.registry for each in events} == {"gar"}


def envelope(*events: dict[str, Any]) -> bytes:
    return json.dumps({"events": list(events)}).encode()


def notification(number: int, action: str, media_type: str, **more: Any) -> dict[str, Any]:
    target = {"mediaType": media_type, "digest": digest(0xA1), "length": 500, "repository": "team/app", "tag": "v1"}
    return {
        "id": f"n{number}",
        "timestamp": "2026-11-28T10:00:00.123456789Z",
        "action": action,
        "target": target,
        "request": {"addr": "10.0.0.7:33000", "method": more.get("method", "GET"), "useragent": "docker/28.5"},
        "actor": {"name": more.get("who", "ci")},
        "source": {"addr": "registry:5000"},
    }


def test_notifications_of_files_are_read_on_from_where_they_were_read_to(tmp_path: Path) -> None:
    manifest = "application/vnd.docker.distribution.manifest.v2+json"
    path = tmp_path / "told.jsonl"
    lines = [
        envelope(notification(1, "push", manifest), notification(2, "push", "application/octet-stream")),
        json.dumps(notification(3, "pull", manifest)).encode(),
        envelope(notification(4, "pull", "application/octet-stream", who="")),
        json.dumps(notification(5, "pull", manifest, method="HEAD")).encode(),
        b'{"events": [',
    ]
    path.write_bytes(b"\n".join(lines) + b"\n" + json.dumps(notification(6, "delete", "")).encode())
    reading = Reading()
    source = Notifications("hub", "dmz", str(tmp_path / "*.jsonl"))
    found = list(source.read(reading, since=LONG_AGO, until=NOW))
    assert [(each.action, each.id, each.who) for each in found] == [
        ("push", "n1", "ci"), ("pull", "n3", "ci"), ("layer", "n4", "anonymous"),
    ]  # fmt: skip
    assert (reading.unread, reading.other) == (1, 2)
    path.rename(tmp_path / "told-1.jsonl")  # put aside: the line that had no end has it now, and a new file begins
    with (tmp_path / "told-1.jsonl").open("ab") as file:
        file.write(b"\n")
    path.write_bytes(envelope(notification(7, "push", manifest)) + b"\n")
    again = Reading(cursor=dict(reading.cursor))
    assert [each.id for each in source.read(again, since=LONG_AGO, until=NOW)] == ["n6", "n7"]
    path.write_bytes(b"")
    shorter = Reading(cursor=dict(again.cursor))
    assert list(source.read(shorter, since=LONG_AGO, until=NOW)) == [] and "shorter" in shorter.notes[0]


def test_a_file_that_got_the_number_of_a_deleted_one_is_read_from_its_begin(tmp_path: Path) -> None:
    manifest = "application/vnd.docker.distribution.manifest.v2+json"
    path = tmp_path / "told.jsonl"
    source = Notifications("hub", "dmz", str(path))
    path.write_bytes(json.dumps(notification(1, "push", manifest)).encode() + b"\n")
    first = Reading()
    assert [each.id for each in source.read(first, since=LONG_AGO, until=NOW)] == ["n1"]
    two = [json.dumps(notification(number, "delete", manifest)).encode() for number in (2, 3)]
    path.write_bytes(b"\n".join(two) + b"\n")  # rotated by another program, and longer than what was read
    again = Reading(cursor=dict(first.cursor))
    assert [each.id for each in source.read(again, since=LONG_AGO, until=NOW)] == ["n2", "n3"]
    assert any("begins otherwise" in each for each in again.notes)
    assert list(source.read(Reading(cursor=dict(again.cursor)), since=LONG_AGO, until=NOW)) == []
    old = {key: value.partition(" ")[0] for key, value in again.cursor.items()}  # as a cursor was before
    assert list(source.read(Reading(cursor=old), since=LONG_AGO, until=NOW)) == []


def test_a_year_that_cannot_be_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    wrong = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z"]
    lines = [{**notification(number, "delete", ""), "timestamp": at} for number, at in enumerate(wrong)]
    path.write_text("".join(json.dumps(each) + "\n" for each in [*lines, notification(7, "delete", "")]))
    reading = Reading()
    found = list(Notifications("hub", "dmz", str(path)).read(reading, since=LONG_AGO, until=NOW))
    assert [each.id for each in found] == ["n7"] and reading.unread == 3 and "year 9999" in " ".join(reading.notes)


def test_lines_that_a_registry_could_not_write_are_said(tmp_path: Path) -> None:
    path = tmp_path / "us.jsonl"
    line = {"id": "r-1", "time": "2026-11-28T10:00:00Z", "method": "HEAD", "what": "blobs", "repository": "team/app"}
    path.write_text(json.dumps({**line, "status": 200, "lost": 3}) + "\n")
    reading = Reading()
    assert list(AccessLog("own", "us", path).read(reading, since=LONG_AGO, until=NOW)) == []
    assert reading.unread == 3 and "could not write" in reading.notes[0]
    path.unlink()
    gone = Reading(cursor=dict(reading.cursor))
    assert (
        list(AccessLog("own", "us", path).read(gone, since=LONG_AGO, until=NOW)) == [] and "not there" in gone.notes[0]
    )
