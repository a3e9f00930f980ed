"""ECR Public, read by anybody and published to with a log-in, and the bytes that it gives in a month."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry_pipelines.chain.places import Places
from registry_pipelines.config import load
from registry_pipelines.errors import Forbidden, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.limits.limited import quota_notes
from registry_pipelines.transfer.limits.months import MonthOfBytes
from registry_pipelines.transfer.verify import compare
from tests.doubles.aws.ecr_public import ALIAS, EcrPublic, PublicDoor
from tests.doubles.aws.front import AwsDouble
from tests.scan.images import push_image


@dataclass
class Public:
    aws: AwsDouble
    door: PublicDoor
    places: Places
    source: Place


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Public]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with (
        EmbeddedServer(tmp_path / "behind") as behind,
        EmbeddedServer(tmp_path / "source") as source,
        AwsDouble() as aws,
        PublicDoor(aws, behind.address) as door,
    ):
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        path = tmp_path / "registry-pipelines.yaml"
        path.write_text(
            "registries:\n"
            f"  out: {{kind: ecr-public, endpoint: '{aws.url}', reachable_as: '{door.address}'}}\n"
            f"  here: {{kind: distribution, host: '{source.address}'}}\n"
        )
        places = Places(load(path, {}))
        yield Public(aws, door, places, Place(places.registry("here"), "app"))


def test_images_are_published_with_a_log_in_from_us_east_1(public: Public) -> None:
    push_image(public.source, [{"etc/hostname": "x"}], tag="v1")
    out = Place(public.places.registry("out"), f"{ALIAS}/team/app")
    public.aws.area(EcrPublic).repositories["team/app"] = 0.0
    copy_closure(public.source, "v1", [out])
    assert compare(public.source, out, "v1", content=True) == []
    [call] = public.aws.calls
    assert (call.service, call.action, call.region) == ("ecr-public", "GetAuthorizationToken", "us-east-1")
    assert str(out) == f"public.ecr.aws/{ALIAS}/team/app"


def test_a_repository_is_made_before_the_first_push(public: Public) -> None:
    push_image(public.source, [{"etc/hostname": "x"}], tag="v1")
    out = Place(public.places.registry("out"), f"{ALIAS}/team/other")
    with pytest.raises(NotFound):
        copy_closure(public.source, "v1", [out])


def test_a_role_without_the_right_is_told_which(public: Public) -> None:
    public.aws.deny("ecr-public:GetAuthorizationToken")
    with pytest.raises(Forbidden) as caught:
        public.places.registry("out").resolve(f"{ALIAS}/team/app", "v1")
    assert "Allow ecr-public:GetAuthorizationToken" in caught.value.do


def test_what_was_read_this_month_is_told_with_what_is_left(public: Public, tmp_path: Path) -> None:
    public.aws.area(EcrPublic).repositories["team/app"] = 0.0
    out = Place(public.places.registry("out"), f"{ALIAS}/team/app")
    content = b"x" * 3_000_000
    push_blob(out, content, media_type="application/x")
    with out.registry.open_blob(out.repository, Digest.of(content)) as reader:
        buffer = memoryview(bytearray(1_000_000))
        while reader.readinto(buffer):
            pass
    month = public.places.limits.month("public.ecr.aws")
    assert month is not None and month.so_far() == len(content)
    [note] = quota_notes([out.registry])
    assert note.startswith("public.ecr.aws: 0.0 GB of 500.0 GB this month read from here, 500.0 GB left until 1 ")
    assert quota_notes([public.source.registry]) == []
    again = Places(load(tmp_path / "registry-pipelines.yaml", {})).limits.month("public.ecr.aws")
    assert again is not None and again.so_far() == len(content)  # another process


def test_a_month_begins_anew(tmp_path: Path) -> None:
    now = [datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp()]
    month = MonthOfBytes(tmp_path / "bytes", "public.ecr.aws", 500 * 1000**3, clock=lambda: now[0])
    month.add(480 * 1000**3)
    assert "20.0 GB left until 1 January" in month.note()
    month.add(30 * 1000**3)
    assert "none left: log in, or use a cache until 1 January" in month.note()
    now[0] += 120
    assert month.so_far() == 0
    month.add(1)
    assert month.so_far() == 1
