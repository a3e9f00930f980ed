"""An eStargz image held against its tables: by a sample, whole, and by who converted it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable

import msgspec
import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.estargz_footer import footer
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check import check_release
from registry_pipelines.stream.check_kinds import CheckRow
from tests.evidence.parts import Key
from tests.stream.releases import ESTARGZ, Streamer, layer, push


@pytest.fixture
def image(place: Place, streamer: Streamer) -> Descriptor:
    """Two layers, converted."""
    made = streamer.convert(push(place, layer("one"), layer("two"), tag="v1"), ESTARGZ)
    assert made.derived is not None
    return made.derived


def said(place: Place, image: Digest | str, *, every_span: bool = False, key: Key | None = None) -> list[CheckRow]:
    found = check_release(place, image, every_span=every_span, verifier=key.verifier if key else None)
    return [row for row in found.rows if row.reader == "estargz"]


def manifest_of(place: Place, image: Descriptor) -> Manifest:
    content = place.registry.get_manifest(place.repository, image.digest).content()
    assert isinstance(content, Manifest)
    return content


def test_what_we_converted_is_right_by_sample_and_whole(place: Place, image: Descriptor, key: Key) -> None:
    for every_span in (False, True):
        assert said(place, image.digest, every_span=every_span, key=key) == []
    found = check_release(place, image.digest)
    assert "no-index" not in {row.name for row in found.rows}
    assert [(each.form, each.spans, each.largest_span) for each in found.layers] == [("estargz", 2, 200_000)] * 2
    assert all(each.index_bytes > 100 for each in found.layers)


def test_an_image_that_nobody_says_to_have_converted(place: Place, image: Descriptor, key: Key, other_key: Key) -> None:
    content = manifest_of(place, image)
    copy = manifest_bytes(msgspec.structs.replace(content, annotations={"by": "others"}))
    place.registry.put_manifest(place.repository, copy)
    (row,) = said(place, copy.digest, key=key)
    assert (row.name, row.severity, row.manifest) == ("estargz-unrecorded", "hint", copy.digest)
    assert [row.name for row in said(place, image.digest, key=other_key)] == ["estargz-unrecorded"]
    assert said(place, copy.digest) == []


def rebuilt(place: Place, image: Descriptor, change: Callable[[bytes, dict[str, object]], bytes]) -> Digest:
    """The image with its first layer changed, under the digests that are then right. change: from what stands before
    the table, and the table, which it may change, to what stands before it then."""
    content = manifest_of(place, image)
    blob = read_blob(place, content.layers[0], limit=1 << 24)
    offset = int(blob[-51:][16:32], 16)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob[offset:-51]))) as tar:
        table = json.loads(tar.extractfile("stargz.index.json").read())  # type: ignore[union-attr]
    head = change(blob[:offset], table)
    raw, info = json.dumps(table).encode(), tarfile.TarInfo("stargz.index.json")
    info.size = len(raw)
    packed = info.tobuf() + raw + bytes(-len(raw) % 512) + bytes(1024)
    made = head + gzip.compress(packed) + footer(len(head))
    pushed = push_blob(place, made, media_type=media_types.OCI_LAYER_GZIP)
    notes = {TOC_ANNOTATION: str(Digest.of(raw))}
    diff_id = Digest.of(gzip.decompress(made[:-51]))
    shape = json.loads(read_blob(place, content.config, limit=1 << 20))
    shape["rootfs"]["diff_ids"][0] = diff_id
    config = push_blob(place, json.dumps(shape).encode(), media_type=content.config.media_type)
    layers = (msgspec.structs.replace(pushed, annotations=notes), *content.layers[1:])
    stored = manifest_bytes(msgspec.structs.replace(content, layers=layers, config=config))
    place.registry.put_manifest(place.repository, stored)
    return stored.digest


def entries(table: dict[str, object]) -> list[dict[str, object]]:
    found = table["entries"]
    assert isinstance(found, list)
    return found


def test_a_table_that_was_written_by_others_is_right_when_it_is(place: Place, image: Descriptor) -> None:
    assert said(place, rebuilt(place, image, lambda head, table: head), every_span=True) == []


def test_a_table_that_shows_other_names_than_the_tar_is_found_where_all_is_read(
    place: Place, image: Descriptor
) -> None:
    def renamed(head: bytes, table: dict[str, object]) -> bytes:
        for entry in entries(table):
            if entry["name"] == "data/one":
                entry["name"] = "data/evil"
        return head

    digest = rebuilt(place, image, renamed)
    assert said(place, digest) == []
    (row,) = said(place, digest, every_span=True)
    assert (row.name, row.severity) == ("estargz-wrong", "error") and row.layer


def test_content_that_is_not_the_tables_is_found_by_sample(place: Place, image: Descriptor) -> None:
    def swapped(head: bytes, table: dict[str, object]) -> bytes:
        for entry in entries(table):
            if entry.get("chunkDigest"):
                entry["chunkDigest"] = entry["digest"] = str(Digest.of(b"other"))
        return head

    (row,) = said(place, rebuilt(place, image, swapped))
    assert row.name == "estargz-wrong" and "another digest" in row.what


@pytest.mark.parametrize("annotation", ["sha256:" + "2" * 64, "none"])
def test_an_annotation_that_is_not_the_tables(place: Place, image: Descriptor, annotation: str) -> None:
    content = manifest_of(place, image)
    first = msgspec.structs.replace(content.layers[0], annotations={TOC_ANNOTATION: annotation})
    stored = manifest_bytes(msgspec.structs.replace(content, layers=(first, content.layers[1])))
    place.registry.put_manifest(place.repository, stored)
    (row,) = said(place, stored.digest)
    assert (row.name, row.layer) == ("estargz-wrong", first.digest)
    assert [each.form for each in check_release(place, stored.digest).layers] == ["", "estargz"]


def test_a_diff_id_of_something_else_is_found_where_all_is_read(place: Place, image: Descriptor) -> None:
    content = manifest_of(place, image)
    shape = json.loads(read_blob(place, content.config, limit=1 << 20))
    shape["rootfs"]["diff_ids"][1] = "sha256:" + "3" * 64
    config = push_blob(place, json.dumps(shape).encode(), media_type=content.config.media_type)
    stored = manifest_bytes(msgspec.structs.replace(content, config=config))
    place.registry.put_manifest(place.repository, stored)
    assert said(place, stored.digest) == []
    (row,) = said(place, stored.digest, every_span=True)
    assert "the uncompressed layer hashes to" in row.what and row.layer == content.layers[1].digest
