"""LayoutRegistry: the contract, and what only folders have."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.errors import ContentError, ReferenceInvalid, RegistryError, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.layout import LayoutRegistry
from tests.registry.contract import RegistryContract, blob_of, image, read, upload


class TestContract(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> LayoutRegistry:
        return LayoutRegistry(tmp_path / "root")


def test_reading_creates_nothing(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path / "root")
    assert list(registry.repositories()) == []
    assert registry.blob_size("a", Digest.of(b"")) is None
    assert registry.referrers("a", Digest.of(b"")) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/blobs", "a/index.json/b", "a/oci-layout", "../a", "a/../b", "/a", "A", ""])
def test_names_that_cannot_be_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReferenceInvalid):
        upload(LayoutRegistry(tmp_path), name, b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_upload_leaves_no_file(tmp_path: Path) -> None:
    class Breaking(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            raise Unavailable("the source is gone")

    registry = LayoutRegistry(tmp_path)
    with pytest.raises(Unavailable, match="the source is gone"):
        registry.upload_blob("a", blob_of(b"content"), Breaking())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_damaged_manifest_is_not_given_out(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    manifest = image(registry, "a", "text", tag="v1")
    path = tmp_path / "a/blobs/sha256" / manifest.digest.hex
    path.write_bytes(manifest.raw.replace(b"2", b"3", 1))
    with pytest.raises(ContentError):
        registry.get_manifest("a", "v1")


def test_a_range_behind_the_end(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    digest = upload(registry, "a", b"0123456789").digest
    with pytest.raises(RegistryError) as caught:
        registry.open_blob("a", digest, start=10)
    assert caught.value.status == 416


def test_an_index_json_that_is_none(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    image(registry, "a", "text", tag="v1")
    (tmp_path / "a/index.json").write_text("{")
    with pytest.raises(ContentError):
        registry.resolve("a", "v1")


def test_mounted_content_is_stored_once(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    digest = upload(registry, "a", b"content").digest
    assert registry.mount_blob("b", digest, source="a")
    first, second = (tmp_path / name / "blobs/sha256" / digest.hex for name in "ab")
    assert first.stat().st_ino == second.stat().st_ino


@pytest.mark.peer("skopeo")
def test_skopeo_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path, peer: Callable[[str], str]) -> None:
    registry = LayoutRegistry(tmp_path)
    manifest = image(registry, "team/app", "layer", tag="v1.0")
    image(registry, "team/app", "another", tag="v2.0")
    skopeo = peer("skopeo")
    shown = subprocess.run(
        [skopeo, "inspect", "--raw", f"oci:{tmp_path}/team/app:v1.0"], check=True, capture_output=True
    )
    assert shown.stdout == manifest.raw
    copied = f"oci:{tmp_path}/copied:kept"
    subprocess.run(
        [skopeo, "--insecure-policy", "copy", "-q", "--preserve-digests", f"oci:{tmp_path}/team/app:v1.0", copied],
        check=True,
    )
    assert registry.get_manifest("copied", "kept") == manifest
    layer = json.loads(manifest.raw)["layers"][0]["digest"]
    assert read(registry, "copied", Digest.parse(layer)) == b"layer"
    image(registry, "copied", "ours beside theirs", tag="ours")
    assert sorted(registry.tags("copied")) == ["kept", "ours"]
