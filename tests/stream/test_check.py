"""What is said of images that do not stream, or not everywhere: each kind of row, on an image that has it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check import check_release
from registry_pipelines.stream.check_kinds import KINDS, CheckId, CheckRow
from registry_pipelines.stream.eligible import registry_rows
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.scan.images import make_tar, push_image, push_index

TAR = make_tar({"who": b"x"})
OTHER = make_tar({"what": b"y"})
TWO_BLOCKS = bytes(1024)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with EmbeddedServer(tmp_path / "registry") as server:
        yield Place(DistributionRegistry(server.address, plain_http=True), "some/app")


def push(place: Place, layers: list[tuple[bytes, str, bytes]], **more: Any) -> Digest:
    """An image; each layer is its bytes as stored, its media type, and its tar."""
    stored = [push_blob(place, blob, media_type=kind) for blob, kind, _ in layers]
    shape = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar) for _, _, tar in layers]},
        **more,
    }
    config = push_blob(place, json.dumps(shape).encode(), media_type=media_types.OCI_CONFIG)
    lines = [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in [config, *stored]]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": lines[0], "layers": lines[1:]}
    raw = json.dumps(document).encode()
    place.registry.put_manifest(place.repository, ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw)))
    return Digest.of(raw)


def gzipped(tar: bytes, level: int = 6) -> tuple[bytes, str, bytes]:
    return gzip.compress(tar, level, mtime=0), media_types.OCI_LAYER_GZIP, tar


def plain(tar: bytes) -> tuple[bytes, str, bytes]:
    return tar, media_types.OCI_LAYER, tar


def said(place: Place, digest: str) -> dict[str, list[CheckRow]]:
    """The rows by name, without those that the registry's host alone gives, and without what all small images have."""
    rows: dict[str, list[CheckRow]] = {}
    for row in check_release(place, digest).rows:
        if not row.name.startswith(("gke-", "small-")):
            rows.setdefault(row.name, []).append(row)
    return rows


def test_each_kind_of_row_says_why_what_to_do_and_who_said_so() -> None:
    assert tuple(KINDS) == get_args(CheckId)
    for kind in KINDS.values():
        assert kind.what[0].islower() or kind.what.startswith(("GKE", "SOCI")), kind
        assert kind.why and kind.do and kind.source and kind.what[-1] != "." and kind.do[-1] != "."


def test_a_usual_image_has_nothing_against_it(place: Place) -> None:
    assert said(place, push(place, [gzipped(TAR), plain(OTHER)])) == {}


def test_layers_with_annotations_are_asked_like_others(place: Place) -> None:
    digest = push(place, [gzipped(TAR), gzipped(OTHER)])
    content = place.registry.get_manifest(place.repository, digest).content()
    assert isinstance(content, Manifest)
    noted = tuple(msgspec.structs.replace(layer, annotations={"a": "b"}) for layer in content.layers)
    stored = manifest_bytes(msgspec.structs.replace(content, layers=(*noted, noted[0])))
    place.registry.put_manifest(place.repository, stored)
    assert sorted(said(place, stored.digest)) == ["diff-ids", "repeated-layer"]


@pytest.mark.parametrize("again", [gzipped(TAR), gzipped(TAR, 1), plain(TAR)], ids=["blob", "level", "plain"])
def test_a_layer_that_is_there_twice_in_any_compression_is_named_with_its_places(
    place: Place, again: tuple[bytes, str, bytes]
) -> None:
    digest = push(place, [gzipped(TAR), gzipped(OTHER), again])
    (row,) = said(place, digest)["repeated-layer"]
    assert (row.severity, row.reader, row.platform, row.manifest) == ("warning", "gke", "linux/amd64", digest)
    assert row.layer == Digest.of(gzipped(TAR)[0])
    assert row.what == "the layer is there more than once: as layers 1, 3 of 3"


def test_without_diff_ids_only_equal_blobs_are_seen_and_that_is_said(place: Place) -> None:
    digest = push(place, [gzipped(TAR), gzipped(TAR), gzipped(OTHER)], rootfs={"type": "layers", "diff_ids": []})
    rows = said(place, digest)
    assert sorted(rows) == ["diff-ids", "repeated-layer"]
    assert rows["diff-ids"][0].severity == "unknown"


def padded() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    return buffer.getvalue()


@pytest.mark.parametrize("tar", [TWO_BLOCKS, padded(), bytes(512 * 7)], ids=["go", "python", "odd"])
@pytest.mark.parametrize("form", [gzipped, plain])
def test_a_layer_without_entries_is_empty_however_it_is_padded(place: Place, tar: bytes, form: Any) -> None:
    (row,) = said(place, push(place, [gzipped(TAR), form(tar)]))["empty-layer"]
    assert row.layer == Digest.of(form(tar)[0])
    assert "GKE" in row.why


def test_a_layer_with_one_folder_is_not_empty(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("srv")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert said(place, push(place, [gzipped(TAR), gzipped(buffer.getvalue())])) == {}


def test_a_small_layer_that_cannot_be_read_is_not_called_empty_nor_full(place: Place) -> None:
    (row,) = said(place, push(place, [(b"\x1f\x8b no gzip", media_types.OCI_LAYER_GZIP, TAR)]))["layer-unread"]
    assert row.severity == "unknown"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (media_types.OCI_LAYER_ZSTD, "zstd-layer"),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", "zstd-layer"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "encrypted-layer"),
        ("application/vnd.oci.image.layer.v1.tar+zstd+encrypted", "encrypted-layer"),
        (media_types.DOCKER_FOREIGN_LAYER, "foreign-layer"),
        ("application/vnd.example", "odd-layer-type"),
    ],
)
def test_layers_of_types_that_are_not_streamed(place: Place, kind: str, name: str) -> None:
    layer = (bytes(5000), kind, TAR)
    rows = said(place, push(place, [gzipped(OTHER), layer]))
    assert list(rows) == [name]
    assert rows[name][0].layer == Digest.of(layer[0])


def test_each_platform_is_asked_for_itself(place: Place) -> None:
    images = [
        push_image(place, [{"a": b"1"}] * count, architecture=name) for name, count in (("amd64", 1), ("arm64", 2))
    ]
    index = push_index(place, images)
    (row,) = said(place, index.digest)["repeated-layer"]
    assert row.manifest == images[1].digest


def test_an_index_of_artifacts_has_nothing_to_stream(place: Place) -> None:
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}).encode()
    place.registry.put_manifest(place.repository, ManifestBytes(raw, media_types.OCI_INDEX, Digest.of(raw)))
    assert list(said(place, Digest.of(raw))) == ["no-image"]


def test_a_child_that_is_missing_is_a_row_and_an_absent_release_an_error(place: Place) -> None:
    child = push_image(place, [{"a": b"1"}])
    index = push_index(place, [child])
    place.registry.delete_manifest(place.repository, child.digest)
    (row,) = said(place, index.digest)["unreadable"]
    assert (row.severity, row.manifest) == ("error", index.digest)
    with pytest.raises(NotFound):
        check_release(place, "v404")


def test_a_config_that_is_missing_is_a_row_of_its_image(place: Place) -> None:
    digest = push(place, [gzipped(TAR)])
    config = place.registry.get_manifest(place.repository, digest).content()
    place.registry.delete_blob(place.repository, config.config.digest)  # type: ignore[union-attr]
    (row,) = said(place, digest)["unreadable"]
    assert row.manifest == digest


SCHEMA_1 = json.dumps({"schemaVersion": 1, "name": "some/app", "tag": "old", "fsLayers": [], "history": []}).encode()


@pytest.mark.parametrize("kind", [*media_types.DOCKER_SCHEMA_1, "application/json"])
def test_schema_1_is_named_also_where_its_digest_leaves_the_signatures_out(kind: str) -> None:
    headers = {"Content-Type": kind, "Docker-Content-Digest": Digest.of(b"the payload alone")}
    if kind == "application/json":
        headers.pop("Docker-Content-Digest")
    with ExchangeServer(Expect("GET", "/v2/some/app/manifests/old", answer=Answer(200, headers, SCHEMA_1))) as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "some/app")
        assert list(said(place, "old")) == ["schema-1"]


@pytest.mark.parametrize(
    ("host", "names", "detail"),
    [
        ("europe-west1-docker.pkg.dev", ["gke-location", "gke-repository-kind"], "the image is in europe-west1"),
        ("us-docker.pkg.dev", ["gke-location", "gke-repository-kind"], "the image is in us"),
        ("eu.gcr.io", ["gke-location", "gke-repository-kind"], "the image is in europe"),
        ("docker.io", ["docker-hub"], ""),
        ("registry.example:5000", ["gke-registry"], "registry.example:5000"),
        ("docker.pkg.dev.example", ["gke-registry"], ""),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", ["gke-registry", "fargate-registry"], ""),
    ],
)
def test_what_the_host_tells_and_what_it_cannot(host: str, names: list[str], detail: str) -> None:
    rows = list(registry_rows(Place(DistributionRegistry(host), "p/r/app"), Digest.of(b"release")))
    assert [row.name for row in rows] == names
    assert rows[0].what.endswith(detail)
    assert {row.severity for row in rows} <= {"unknown", "hint"}
