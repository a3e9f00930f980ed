"""StoredRegistry: the contract on a folder and on S3, and what only object stores have."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from registry_pipelines.errors import (
    Forbidden,
    InputError,
    NotFound,
    RegistryError,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.registry.stored import MARKER, StoredRegistry
from registry_pipelines.stores.store import PART_BYTES, ObjectStore, open_store
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.doubles.s3 import BUCKET, REGION, SECRET, s3_server
from tests.registry.contract import RegistryContract, blob_of, image, note, read, upload


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


Open = Callable[[str], ObjectStore]


@pytest.fixture
def bucket(s3: str) -> Open:
    return lambda prefix: open_store(f"s3://{BUCKET}/{prefix}", region=REGION, endpoint=s3)


class TestFolder(RegistryContract):
    deletes_blobs = False

    @pytest.fixture
    def registry(self, tmp_path: Path) -> StoredRegistry:
        return StoredRegistry(open_store(str(tmp_path / "store")))


class TestS3(RegistryContract):
    deletes_blobs = False

    @pytest.fixture
    def registry(self, bucket: Open) -> StoredRegistry:
        return StoredRegistry(bucket("contract/of"))


def test_reading_creates_nothing(tmp_path: Path) -> None:
    registry = StoredRegistry(open_store(str(tmp_path / "store")))
    assert list(registry.repositories()) == [] and registry.blob_size("a", Digest.of(b"")) is None
    assert registry.referrers("a", Digest.of(b"")) == []
    with pytest.raises(NotFound):
        registry.resolve("a", "v1")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_blob_of_several_parts_is_there_whole_or_not_at_all(bucket: Open, s3: str) -> None:
    registry, client = (
        StoredRegistry(bucket("parts")),
        boto3.Session().client("s3", endpoint_url=s3, region_name=REGION),
    )
    content = bytes(range(256)) * (2 * PART_BYTES // 256 + 3)
    descriptor = upload(registry, "team/app", content)
    assert (
        read(registry, "team/app", descriptor.digest, start=PART_BYTES - 5, stop=PART_BYTES + 5)
        == content[PART_BYTES - 5 : PART_BYTES + 5]
    )
    assert "-" in client.head_object(Bucket=BUCKET, Key=f"parts/blobs/sha256/{descriptor.digest.hex}")["ETag"]

    class Breaks(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            if self.tell() > PART_BYTES + BUFFER_BYTES:
                raise Unavailable("the source went away")
            return super().readinto(buffer)

    other = content[::-1]
    with pytest.raises(Unavailable, match="the source went away"):
        registry.upload_blob("team/app", blob_of(other), Breaks(other))
    assert registry.blob_size("team/app", Digest.of(other)) is None
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_what_two_repositories_have_lies_there_once(tmp_path: Path) -> None:
    registry = StoredRegistry(open_store(str(tmp_path / "store")))
    first, second = image(registry, "a/one", "same", tag="v1"), image(registry, "b", "same", tag="v1")
    assert first == second
    assert len(list((tmp_path / "store" / "blobs" / "sha256").iterdir())) == 3
    registry.delete_manifest("b", second.digest)
    assert registry.get_manifest("a/one", "v1") == first
    assert list(registry.repositories()) == ["a/one"]


def test_a_second_program_sees_what_the_first_one_wrote(tmp_path: Path) -> None:
    address = str(tmp_path / "store")
    first = image(StoredRegistry(open_store(address)), "team/app", "one", tag="v1")
    registry = StoredRegistry(open_store(address))
    told = [note(registry, "team/app", first.descriptor, f"note {number}") for number in range(3)]
    again = StoredRegistry(open_store(address))
    assert {each.digest for each in again.referrers("team/app", first.digest)} == {each.digest for each in told}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("", "something else lies there, for instance report.csv"),
        ('{"kind": "registry-pipelines: images in an object store", "format": 99}', "format 99"),
        ('{"kind": "another tool", "format": 1}', "another tool"),
        ("{", "is none of ours"),
    ],
)
def test_a_place_that_is_not_ours_is_left_alone(tmp_path: Path, there: str, said: str) -> None:
    (tmp_path / "report.csv").write_text("1,2")
    if there:
        (tmp_path / MARKER).write_text(there)
    registry = StoredRegistry(open_store(str(tmp_path)))
    for ask in (lambda: list(registry.tags("a")), lambda: upload(registry, "a", b"content")):
        with pytest.raises(InputError, match=said):
            ask()
    assert {each.name for each in tmp_path.iterdir()} <= {"report.csv", MARKER}


def test_a_manifest_that_was_changed_in_the_store_is_not_believed(tmp_path: Path) -> None:
    registry = StoredRegistry(open_store(str(tmp_path)))
    made = image(registry, "a", "one", tag="v1")
    path = tmp_path / "blobs" / "sha256" / made.digest.hex
    path.write_bytes(made.raw.replace(b"sha256", b"sha512", 1))
    with pytest.raises(RegistryPipelinesError, match="expected"):
        registry.get_manifest("a", "v1")


def test_a_store_that_fails_says_where_and_no_secret(s3: str) -> None:
    with FaultRegistry(s3.removeprefix("http://")) as faults:
        store = open_store(f"s3://{BUCKET}/f", region=REGION, endpoint=f"http://{faults.address}")
        registry = StoredRegistry(store)
        image(registry, "a", "one", tag="v1")
        faults.play("GET", r"/backups/f/.*_tags.*", Status(503), times=2)
        assert registry.resolve("a", "v1").size  # it is asked again
        faults.play("GET", r"/backups/f/.*_tags.*", Status(403))
        with pytest.raises(Forbidden) as told:
            registry.resolve("a", "v1")
        assert SECRET not in str(told.value) and "a/_tags/v1" in str(told.value)
    with pytest.raises(RegistryError):
        open_store("s3://no-such-bucket-here/x", region=REGION, endpoint=s3).write("a", b"1")


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://", "s3://bucket/x?token=SECRET", "https://host/x"])
def test_other_addresses_are_refused_before_anything_is_asked(address: str) -> None:
    with pytest.raises(InputError) as told:
        open_store(address)
    assert "SECRET" not in str(told.value)


def test_the_marker_is_json_that_others_can_read(tmp_path: Path) -> None:
    upload(StoredRegistry(open_store(str(tmp_path))), "a", b"content")
    assert json.loads((tmp_path / MARKER).read_text())["format"] == 1
