"""Events of both clouds, as their guides print them, and whatever else may lie in a queue."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.events import model
from registry_pipelines.events.eventbridge import MAX_SEVERITIES, read_eventbridge
from registry_pipelines.events.gcr_topic import read_gcr
from registry_pipelines.events.source import read
from registry_pipelines.events.told import fact_of
from tests.events import messages
from tests.events.messages import CACHED, DIGEST, HOST, bridge, gcr, image_action, scan

AT = "2026-01-02T03:04:05Z"
ID = "5d1c6f0e-0000-4000-8000-000000000001"
ABOUT: dict[str, Any] = {"at": AT, "registry": HOST, "id": ID}
APP: dict[str, Any] = {**ABOUT, "repository": "app", "digest": DIGEST}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (image_action(), model.Pushed(**ABOUT, repository="team/app", digest=DIGEST, tag="v1")),
        (image_action(tag=""), model.Pushed(**ABOUT, repository="team/app", digest=DIGEST)),
        (image_action("DELETE"), model.Deleted(**ABOUT, repository="team/app", digest=DIGEST, tag="v1")),
        (
            image_action("UPDATE_STORAGE_CLASS", tag="", **{"target-storage-class": "ARCHIVE"}),
            model.Archived(**ABOUT, repository="team/app", digest=DIGEST),
        ),
        (
            image_action(
                "UPDATE_STORAGE_CLASS", tag="", **{"target-storage-class": "STANDARD", "last-activated-at": AT}
            ),
            model.Restored(**ABOUT, repository="team/app", digest=DIGEST),
        ),
        (image_action(result="FAILURE"), model.Unconcerned(**ABOUT, kind="PUSH that failed")),
        (
            messages.REFERRER,
            model.ReferrerChanged(**APP, action="UPDATE_STORAGE_CLASS STANDARD", artifact_type="text/spdx+json"),
        ),
        (
            bridge("ECR Pull Through Cache Action", CACHED),
            model.Pushed(**ABOUT, repository="dh/alpine", digest=DIGEST, tag="3", upstream="registry-1.docker.io"),
        ),
        (
            bridge(
                "ECR Pull Through Cache Action",
                {
                    **CACHED,
                    "sync-status": "FAILED",
                    "failure-code": "UpstreamUnavailable",
                    "failure-reason": "it  is\ndown",
                },
            ),
            model.PullThroughFailed(
                **ABOUT,
                repository="dh/alpine",
                digest=DIGEST,
                tag="3",
                upstream="registry-1.docker.io",
                code="UpstreamUnavailable",
                reason="it is down",
            ),
        ),
        (
            messages.replication(),
            model.Replicated(**APP, tag="v1", ok=True, source="us-west-2", source_account="111122223333"),
        ),
        (
            messages.replication("FAILED"),
            model.Replicated(**APP, tag="v1", ok=False, source="us-west-2", source_account="111122223333"),
        ),
        (
            messages.scan(),
            model.Scanned(**APP, scanner="ecr", state="complete", status="COMPLETE", counts={"HIGH": 2}, tags=("v1",)),
        ),
        (
            messages.scan("FAILED"),
            model.Scanned(**APP, scanner="ecr", state="failed", status="FAILED", counts={"HIGH": 2}, tags=("v1",)),
        ),
        (
            messages.INSPECTOR,
            model.Scanned(
                **ABOUT,
                repository="team/app",
                digest=DIGEST,
                scanner="inspector",
                state="complete",
                status="INITIAL_SCAN_COMPLETE",
                counts={"CRITICAL": 7, "HIGH": 61},
                tags=("latest",),
            ),
        ),
        (
            messages.SETTINGS,
            model.ScanSettingsChanged(**ABOUT, scan_type="ENHANCED", repositories={"app": "CONTINUOUS_SCAN"}),
        ),
        (bridge("ECR Artifact Action", {"any": 1}), model.Unconcerned(**ABOUT, kind="ECR Artifact Action of aws.ecr")),
        (
            bridge("EC2 Instance State-change Notification", {}, source="aws.ec2"),
            model.Unconcerned(**ABOUT, kind="EC2 Instance State-change Notification of aws.ec2"),
        ),
    ],
)
def test_every_kind_of_event_of_ecr_is_typed(raw: bytes, expected: model.Event) -> None:
    assert read_eventbridge(raw) == expected
    around = json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": raw.decode()}).encode()
    assert read_eventbridge(around) == expected
    assert model.kind_of(expected)


def test_of_made_up_severities_little_is_kept() -> None:
    """What a scan told is kept in a file of some size, and shown."""
    made_up = {"X" * 5000: 1, "\x1b[2J": 2, "HIGH": 3, **{f"A{'B' * (at % 19)}_{'C' * at}": at for at in range(500)}}
    event = read_eventbridge(scan(**made_up))
    assert isinstance(event, model.Scanned) and event.counts["HIGH"] == 3 and len(event.counts) == MAX_SEVERITIES
    fact = fact_of(event)
    assert fact is not None and len(fact.said) < 500


def test_a_region_of_another_partition_has_its_own_host() -> None:
    raw = json.dumps({**json.loads(image_action()), "region": "cn-north-1"}).encode()
    assert read_eventbridge(raw).registry == "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"Type": "Notification", "Message": "hello"}',
        bridge("ECR Image Action", {}),
        bridge("ECR Image Action", {"repository-name": "../etc", "image-digest": DIGEST, "action-type": "PUSH"}),
        bridge("ECR Image Action", {"repository-name": "app", "image-digest": "sha256:1", "action-type": "PUSH"}),
        image_action(tag="bad tag"),
        bridge("ECR Image Scan", {"scan-status": "COMPLETE"}),
        json.dumps({**json.loads(image_action()), "account": "../../x"}).encode(),
        b'{"detail-type": "ECR Image Action"}' + b" " * (1 << 20),
    ],
)
def test_what_is_no_event_says_so(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid) as raised:
        read_eventbridge(raw)
    assert raised.value.what
    received = read(read_eventbridge, raw, "receipt")
    assert received.event is None and received.problem == raised.value.what and len(received.raw) <= 65536


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (gcr(tag="1"), {"digest": DIGEST, "tag": "1"}),
        (gcr(), {"digest": DIGEST}),
        (gcr(digest="", tag="v1.2"), {"tag": "v1.2"}),
        (gcr("DELETE", digest="", tag="1"), {"tag": "1"}),
        (gcr("DELETE"), {"digest": DIGEST}),
    ],
)
def test_messages_of_the_topic_gcr_are_typed(raw: bytes, expected: dict[str, str]) -> None:
    kind = model.Deleted if b"DELETE" in raw else model.Pushed
    about = {"registry": "europe-west1-docker.pkg.dev", "repository": "ml-prod/images/app", "at": AT}
    assert read_gcr(raw, published=AT) == kind(**about, **expected)


def test_other_messages_of_google() -> None:
    old = gcr(host="eu.gcr.io", image="example.com:team/app", tag="1")
    assert read_gcr(old) == model.Pushed(
        at="", registry="eu.gcr.io", repository="example.com:team/app", digest=DIGEST, tag="1"
    )
    told = {"name": "projects/p/occurrences/1f", "kind": "DISCOVERY", "notificationTime": "2026-01-02T04:04:05.1+01:00"}
    assert read_gcr(json.dumps(told).encode()) == model.OccurrenceTold(
        at="2026-01-02T03:04:05Z", registry="", name="projects/p/occurrences/1f", kind="DISCOVERY"
    )
    assert isinstance(read_gcr(gcr("UPDATE")), model.Unconcerned)


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"action": "INSERT"}',
        b'{"action": "INSERT", "digest": "app"}',
        b'{"action": "INSERT", "digest": "https://x/y@sha256:1"}',
        gcr(image="../x"),
        json.dumps({**json.loads(gcr()), "tag": "europe-west1-docker.pkg.dev/ml-prod/images/other:1"}).encode(),
        b'{"name": "projects/p/notes/n", "kind": "X"}',
        json.dumps({"action": "INSERT", "digest": f"a/{'b/' * 5000}c@{DIGEST}"}).encode(),
    ],
)
def test_what_is_no_message_of_google_says_so(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        read_gcr(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
KINDS = ["ECR Image Action", "ECR Referrer Action", "ECR Pull Through Cache Action", "ECR Replication Action"]
KINDS += ["ECR Image Scan", "ECR Scan Resource Change"]
FIELDS = ["repository-name", "image-digest", "image-tag", "action-type", "result", "scan-status", "repositories"]


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), values | st.sampled_from(["app", DIGEST])))
def test_any_detail_is_read_or_refused(kind: str, detail: dict[str, Any]) -> None:
    raw = json.dumps({**json.loads(image_action()), "detail-type": kind, "detail": detail}).encode()
    try:
        event = read_eventbridge(raw)
    except ManifestInvalid:
        return
    assert model.kind_of(event)


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for decode in (read_eventbridge, read_gcr):
        received = read(decode, raw, "r")
        assert (received.event is None) == bool(received.problem)
