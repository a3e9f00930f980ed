"""Uploads by parts that outlive a process, against S3's API by moto; and a store that reads no ranges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import DiskFull, Forbidden, InputError, NotFound, RateLimited, Unauthorized, Unavailable
from registry_pipelines.stores.parts import PartUploads
from registry_pipelines.stores.store import open_store
from tests.doubles.s3 import BUCKET, REGION, s3_server
from tests.doubles.s3_files import Files, s3_files

PART = 5 << 20
"""The least that S3 takes of a part that is not the last."""


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test")
    with s3_files(tmp_path / "s3") as found:
        yield found


def parts_of(address: str) -> PartUploads:
    found = open_store(f"s3://{BUCKET}/lasting-parts", region=REGION, endpoint=address, lasting_uploads=True).parts
    assert found is not None
    return found


def test_upload_goes_on_in_another_client(moto: str) -> None:
    content = memoryview(os.urandom(PART + 11))
    first = parts_of(moto)
    upload = first.begin("a/model")
    first.send("a/model", upload, 1, content[:PART])

    second = parts_of(moto)
    assert [(each.number, each.size) for each in second.sent("a/model", upload)] == [(1, PART)]
    second.send("a/model", upload, 2, content[PART:])
    second.complete("a/model", upload, second.sent("a/model", upload))

    store = open_store(f"s3://{BUCKET}/lasting-parts", region=REGION, endpoint=moto)
    assert store.read("a/model", limit=2 * PART) == content
    assert store.parts is None
    with pytest.raises(NotFound):
        second.sent("a/model", upload)


def test_an_upload_that_is_dropped_leaves_nothing(moto: str) -> None:
    parts = parts_of(moto)
    upload = parts.begin("gone")
    parts.send("gone", upload, 1, memoryview(b"x"))
    parts.abort("gone", upload)
    parts.abort("gone", upload)
    with pytest.raises(NotFound):
        parts.sent("gone", upload)


def test_stores_that_are_full_or_busy_are_told_apart(files: Files) -> None:
    parts = parts_of(files.address)
    upload = parts.begin("k")
    files.busy = 100
    with pytest.raises(RateLimited):
        parts.send("k", upload, 1, memoryview(b"x"))
    files.busy = 0
    files.room = 0
    with pytest.raises(DiskFull, match="Make room"):
        parts.send("k", upload, 1, memoryview(b"x"))


def test_a_lost_part_is_missed_when_the_object_is_made(files: Files) -> None:
    parts = parts_of(files.address)
    upload = parts.begin("k")
    files.lose.add(1)
    parts.send("k", upload, 1, memoryview(b"first"))
    parts.send("k", upload, 2, memoryview(b"second"))
    assert [each.number for each in parts.sent("k", upload)] == [2]


@pytest.mark.parametrize(
    ("code", "status", "kind"), [("InvalidAccessKeyId", 403, Unauthorized), ("AccessDenied", 403, Forbidden)]
)
def test_logins_that_are_wrong_are_told_from_rights_that_are_missing(
    files: Files, code: str, status: int, kind: type[Exception]
) -> None:
    files.refuse = (status, code)
    with pytest.raises(kind):
        parts_of(files.address).begin("k")


@pytest.mark.parametrize(
    ("code", "status", "kind", "said"),
    [
        ("InvalidAccessKeyId", 403, Unauthorized, "does not take the credentials"),
        ("AccessDenied", 403, Forbidden, "does not let us"),
        ("NoSuchBucket", 404, Unavailable, "there is no such bucket"),
    ],
)
def test_a_list_that_is_refused_says_why(
    files: Files, code: str, status: int, kind: type[Exception], said: str
) -> None:
    """A list is the first thing that anybody asks for."""
    files.shut = (status, code)
    store = open_store(f"s3://{BUCKET}/plain", region=REGION, endpoint=files.address)
    with pytest.raises(kind, match=said):
        list(store.below("k"))


@pytest.mark.parametrize("address", ["s3://me:s3cr3t@b/k", "s3://me:s3c/r3t@b/k", "s3://b/k?X-Amz-Signature=s3cr3t"])
def test_an_address_that_is_none_is_told_without_its_secret(address: str) -> None:
    with pytest.raises(InputError) as refused:
        open_store(address)
    assert "r3t" not in str(refused.value)


def test_a_store_without_ranges_is_read_from_its_beginning(files: Files) -> None:
    store = open_store(f"s3://{BUCKET}/plain", region=REGION, endpoint=files.address)
    store.write("k", b"0123456789")
    with store.open("k", start=3, stop=7) as reader:
        assert (reader.start, reader.size) == (3, 10)
    assert store.ranges
    files.no_ranges = True
    buffer = bytearray(10)
    with store.open("k", start=3, stop=7) as reader:
        assert reader.start == 3
        assert buffer[: reader.readinto(memoryview(buffer))] == b"3456"
        assert reader.readinto(memoryview(buffer)) == 0
    assert not store.ranges
    with store.open("k", start=8) as reader:
        assert buffer[: reader.readinto(memoryview(buffer))] == b"89"


def test_objects_are_copied_and_taken_away_at_once(files: Files, tmp_path: Path) -> None:
    for store in (
        open_store(f"s3://{BUCKET}/copies", region=REGION, endpoint=files.address),
        open_store(str(tmp_path / "folder")),
    ):
        store.write("a/b", b"content")
        store.copy("a/b", "c d")
        assert store.read("c d", limit=100) == b"content"
        store.delete_all(["a/b", "c d"])
        assert list(store.below("")) == []
