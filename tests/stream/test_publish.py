"""Indexes beside a release: found by its manifests, signed, made once, and nothing half attached."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from registry_pipelines.errors import DigestMismatch, LayerInvalid, ManifestInvalid
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import ROLES, STREAMING_INDEX_TYPE
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes, encode_json
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.signed_index import UNSIGNED, find_index
from registry_pipelines.stream.soci_index import read_soci_index
from registry_pipelines.transfer.copying import copy_closure
from tests.evidence.parts import Counted, Key
from tests.stream.releases import INDEXED, Layer, Streamer, files, hows, layer, push, push_index

MakeKey = Callable[[str], Key]


def two_platforms(place: Place) -> tuple[Descriptor, Descriptor, Descriptor]:
    """A release of two platforms that share a layer; the top first."""
    shared = layer("shared")
    images = {name: push(place, shared, layer(name), architecture=name) for name in ("amd64", "arm64")}
    return push_index(place, images, tag="v1", attested=True), images["amd64"], images["arm64"]


def test_each_platform_gets_an_index_that_refers_to_it_and_is_signed(
    any_place: Place, key: Key, tmp_path: Path
) -> None:
    """Also where a registry knows no referrers, and lists stand under a tag."""
    top, *images = two_platforms(any_place)
    streamer = Streamer(any_place, tmp_path / "state", key.signer)
    made = streamer.index(top)
    assert (made.changed, made.indexed, made.release) == (True, 2, top.digest)
    assert hows(made.rows) == ["uploaded", "uploaded", "present", "uploaded"]
    assert [row.platform for row in made.rows] == ["linux/amd64"] * 2 + ["linux/arm64"] * 2
    assert all(row.spans and row.spans > 1 and row.made_bytes for row in made.rows)
    assert made.bytes_sent > sum(row.bytes_sent for row in made.rows) > 0
    for image, platform in zip(images, made.platforms, strict=True):
        [found] = find_index(any_place, image.digest, key.verifier).signed
        document = read_soci_index(found.stored)
        assert (document.version, document.exact) == (1, True)
        assert document.subject is not None and document.subject.digest == image.digest == platform.image
        assert (found.descriptor, found.statement) == (platform.index, platform.statement)
        assert found.note.release == top.digest and found.note.options["span_size"] == INDEXED.span_size
        for ztoc in found.ztocs.values():
            assert len(read_blob(any_place, ztoc, limit=10_000_000)) == ztoc.size
        assert len(found.ztocs) == 2
    # The tag names what was pushed, and that has the digest it had.
    assert any_place.registry.resolve(any_place.repository, "v1").digest == top.digest


def test_a_second_run_writes_nothing_and_reads_no_layer_even_without_its_state(
    counted: Counted, key: Key, tmp_path: Path
) -> None:
    top, *_ = two_platforms(counted.place)
    Streamer(counted.place, tmp_path / "one", key.signer).index(top)
    before = counted.files()
    place = Place(Unreadable(counted.place), counted.place.repository)
    again = Streamer(place, tmp_path / "two", key.signer).index(top)
    assert (again.changed, again.bytes_sent, again.indexed) == (False, 0, 2)
    assert hows(again.rows) == ["present"] * 4
    assert counted.files() == before


class Unreadable:
    """A registry none of whose large blobs can be read."""

    def __init__(self, place: Place) -> None:
        self._registry, self.name = place.registry, place.registry.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def open_blob(self, repository: str, digest: Digest, **options: Any) -> Any:
        assert (self._registry.blob_size(repository, digest) or 0) < 10_000, "a layer is read"
        return self._registry.open_blob(repository, digest, **options)


class Opened:
    """A registry that notes each manifest that is asked for."""

    def __init__(self, place: Place) -> None:
        self._registry, self.name = place.registry, place.registry.name
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        self.asked.append(reference)
        return self._registry.get_manifest(repository, reference)


def test_what_refers_to_an_image_is_opened_once_to_find_its_index(place: Place, streamer: Streamer, key: Key) -> None:
    image = push(place, layer("a"), tag="v1")
    [made] = streamer.index(image).platforms
    opened = Opened(place)
    assert find_index(Place(opened, place.repository), image.digest, key.verifier).signed
    assert opened.asked.count(str(made.statement)) == 1


def test_other_sizes_make_another_index_and_a_lost_part_is_sent_again(
    place: Place, streamer: Streamer, key: Key
) -> None:
    image = push(place, layer("a"), tag="v1")
    first = streamer.index(image)
    coarse = streamer.index(image, msgspec.structs.replace(INDEXED, span_size=Size(1 << 20)))
    assert coarse.changed and coarse.platforms[0].index != first.platforms[0].index
    assert len(find_index(place, image.digest, key.verifier).signed) == 2
    assert not streamer.index(image).changed
    place.registry.delete_blob(place.repository, Digest(first.rows[0].made))
    again = streamer.index(image)
    assert (again.changed, hows(again.rows)) == (True, ["uploaded"])
    assert again.platforms == (replace(first.platforms[0], changed=True),)


def test_files_to_fetch_first_are_listed_and_those_that_are_nowhere_are_said(
    place: Place, streamer: Streamer, key: Key
) -> None:
    image = push(place, layer("a"), layer("b"), tag="v1")
    wanted = msgspec.structs.replace(INDEXED, prioritize=("data/b", "data/none"))
    made = streamer.index(image, wanted)
    assert made.missing == ("data/none",)
    assert made.platforms[0].index is not None
    stored = place.registry.get_manifest(place.repository, made.platforms[0].index.digest)
    [listed] = read_soci_index(stored).prefetches
    assert listed.layer == made.rows[1].layer
    [found] = find_index(place, image.digest, key.verifier).signed
    assert [each.digest for each in found.ztocs.values()] == [row.made for row in made.rows]


def test_an_image_of_docker_is_indexed_as_it_is(place: Place, streamer: Streamer, key: Key) -> None:
    kind = media_types.DOCKER_LAYER_GZIP
    image = push(place, layer("a", media_type=kind), docker=True, tag="v1")
    streamer.index(image)
    [found] = find_index(place, image.digest, key.verifier).signed
    assert found.manifest.subject is not None and found.manifest.subject.media_type == media_types.DOCKER_MANIFEST


def test_a_copy_brings_index_parts_and_signature(place: Place, streamer: Streamer, key: Key, tmp_path: Path) -> None:
    top, *images = two_platforms(place)
    streamer.index(top)
    away = Place(LayoutRegistry(tmp_path / "away"), "copy")
    copy_closure(place, "v1", [away])
    for image in images:
        [found] = find_index(away, image.digest, key.verifier).signed
        assert all(away.registry.blob_size("copy", ztoc.digest) == ztoc.size for ztoc in found.ztocs.values())


def test_an_index_that_nobody_vouches_for_is_not_served(
    place: Place, streamer: Streamer, key: Key, other_key: Key
) -> None:
    image = push(place, layer("a"), tag="v1")
    streamer.signer = other_key.signer
    made = streamer.index(image).platforms[0].index
    assert made is not None
    found = find_index(place, image.digest, key.verifier)
    assert found.signed == ()
    reasons = {each.where: each.reason for each in found.not_served}
    assert reasons.pop(made.digest) == UNSIGNED
    [refused] = reasons.values()
    assert "was made by a trusted key" in refused
    streamer.signer = key.signer
    assert streamer.index(image).changed
    assert len(find_index(place, image.digest, key.verifier).signed) == 1


@pytest.mark.parametrize("role", [role for role in ROLES if role != "indexer"])
def test_the_key_of_another_role_vouches_for_no_index(
    place: Place, streamer: Streamer, key: Key, make_key: MakeKey, role: Any
) -> None:
    image = push(place, layer("a"), tag="v1")
    streamer.signer = make_key(role).signer
    streamer.index(image)
    split = load_verifier([key.public], {role: [make_key(role).public]})
    found = find_index(place, image.digest, split)
    assert not found.signed
    assert any(f"not as indexer for {STREAMING_INDEX_TYPE}" in each.reason for each in found.not_served)


GONE = Digest.of(b"gone")


def _plain(value: Any) -> Any:
    return json.loads(encode_json(value))


@pytest.mark.parametrize(
    ("tampered", "reason"),
    [
        ({"index": str(GONE)}, "it is signed, and is not here any more"),
        ({"image": str(GONE)}, f"the signed note is about an index of {GONE}, not of sha256:"),
        ({"format": "soci-v2"}, "it is no index of the form soci-v2, as the signed note says"),
        ({"format": "zip"}, "the signed note about an index cannot be read"),
    ],
)
def test_a_signed_note_that_says_something_else_serves_nothing(
    place: Place, streamer: Streamer, key: Key, tampered: dict[str, Any], reason: str
) -> None:
    image = push(place, layer("a"), tag="v1")
    streamer.index(image)
    [honest] = find_index(place, image.digest, key.verifier).signed
    place.registry.delete_manifest(place.repository, honest.statement)
    attest(place, image, STREAMING_INDEX_TYPE, {**_plain(honest.note), **tampered}, key.signer)
    found = find_index(place, image.digest, key.verifier)
    assert not found.signed
    assert any(reason in each.reason for each in found.not_served)


def test_an_index_of_another_image_is_not_served_for_this_one(place: Place, streamer: Streamer, key: Key) -> None:
    image, other = push(place, layer("a")), push(place, layer("b"))
    streamer.index(image)
    [foreign] = find_index(place, image.digest, key.verifier).signed
    note = msgspec.structs.replace(foreign.note, image=other.digest)
    attest(place, other, STREAMING_INDEX_TYPE, _plain(note), key.signer)
    found = find_index(place, other.digest, key.verifier)
    assert not found.signed
    assert f"it is an index of {image.digest}, not of {other.digest}" in [each.reason for each in found.not_served]


def test_layers_that_cannot_be_indexed_are_said_and_others_are_indexed(place: Place, streamer: Streamer) -> None:
    tar = files("zstd")
    image = push(
        place,
        layer("good"),
        layer("small", 100),
        Layer(zstandard.compress(tar), tar, media_types.OCI_LAYER_ZSTD),
        layer("foreign", more={"urls": ["https://example.com/layer"]}),
        layer("secret", media_type=f"{media_types.OCI_LAYER_GZIP}+encrypted"),
        tag="v1",
    )
    made = streamer.index(image)
    assert hows(made.rows) == ["uploaded", "skipped", "skipped", "skipped", "skipped"]
    for row, word in zip(made.rows[1:], ("less than", "zstd", "not this registry", "has its key"), strict=True):
        assert word in row.why
    assert made.platforms[0].index is not None
    again = streamer.index(image)  # which finds the index, and says the same
    assert not again.changed and [row.why for row in again.rows] == [row.why for row in made.rows]


def test_an_image_of_small_layers_has_nothing_to_index_and_that_is_no_error(
    counted: Counted, streamer: Streamer
) -> None:
    image = push(counted.place, layer("a"), tag="v1")
    before = counted.files()
    made = streamer.index(image, Stream())
    assert (made.changed, made.indexed, made.bytes_sent, hows(made.rows)) == (False, 0, 0, ["skipped"])
    assert "no layer of it can be indexed, or all are smaller" in made.platforms[0].why
    assert counted.files() == before


def test_what_names_its_own_index_is_left_alone(place: Place, streamer: Streamer) -> None:
    image = push(place, layer("a"), tag="v1", annotations={"com.amazon.soci.index-digest": GONE})
    made = streamer.index(image)
    assert (made.indexed, made.platforms[0].why) == (0, f"it names a SOCI index of its own, {GONE}")


def _cut(good: Layer) -> Layer:
    return replace(good, blob=good.blob[:-100])


def _lies(good: Layer) -> Layer:
    return replace(good, tar=good.tar + bytes(512))


@pytest.mark.parametrize(
    ("harm", "error"), [(_cut, LayerInvalid), (_lies, DigestMismatch)], ids=["cut", "another diffID"]
)
def test_a_damaged_layer_leaves_every_platform_as_it_is(
    counted: Counted, streamer: Streamer, harm: Callable[[Layer], Layer], error: type[Exception]
) -> None:
    place = counted.place
    good = push(place, layer("good"))
    bad = push(place, harm(layer("bad")), architecture="arm64")
    top = push_index(place, {"amd64": good, "arm64": bad}, tag="v1")
    before = counted.files()
    with pytest.raises(error):
        streamer.index(top)
    assert counted.files() == before


def test_docker_schema_1_and_what_is_no_image_are_refused(place: Place, streamer: Streamer) -> None:
    raw = json.dumps({"schemaVersion": 1, "name": "old", "fsLayers": [], "signatures": []}).encode()
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    with pytest.raises(ManifestInvalid, match="schema 1"):
        ManifestBytes(raw, kind, Digest.of(raw)).content()
    empty = push_index(place, {}, tag="empty")
    with pytest.raises(ManifestInvalid, match="no image that could be started"):
        streamer.index(empty)
    odd = push(place, layer("a"), config={})
    content = json.loads(place.registry.get_manifest(place.repository, odd.digest).raw)
    content["layers"] *= 2
    raw = json.dumps(content).encode()
    place.registry.put_manifest(place.repository, ManifestBytes(raw, odd.media_type, Digest.of(raw)), tag="twice")
    with pytest.raises(ManifestInvalid, match="the manifest has 2 layers, its config names 1"):
        streamer.index(place.registry.resolve(place.repository, "twice"))
