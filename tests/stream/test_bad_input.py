"""Images that are not to be streamed, or not whole: each is told what it is, and nothing is half pushed.

Layers are the official builder's error vectors, and what others push; each is held against all three forms.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from registry_pipelines.errors import (
    ContentError,
    DigestMismatch,
    InputError,
    LayerInvalid,
    ManifestOutdated,
    RegistryError,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.check import check_release
from registry_pipelines.stream.conversion import NOT_CARRIED
from registry_pipelines.stream.indexing import LEFT_OUT
from registry_pipelines.stream.model import Stream
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import CutAnswer, NoRange
from tests.evidence.parts import Counted, Key
from tests.stream.releases import ESTARGZ, INDEXED, SOCI, Layer, Streamer, files, hows, layer, push
from tests.ztoc_vectors import files as vector_files

ALL = [pytest.param(INDEXED, id="index"), pytest.param(SOCI, id="soci-v2"), pytest.param(ESTARGZ, id="estargz")]
EACH = pytest.mark.parametrize("stream", ALL)


def stream_by(streamer: Streamer, image: Descriptor, stream: Stream) -> Any:
    return streamer.convert(image, stream) if stream.derives else streamer.index(image, stream)


def smallest(stream: Stream) -> Stream:
    """The vectors are small."""
    return stream if stream.format == "estargz" else msgspec.structs.replace(stream, min_layer_size=Size(1))


def unpacked(blob: bytes) -> bytes:
    """As far as it goes."""
    out = b""
    while blob:
        inflater = zlib.decompressobj(47)
        try:
            out, blob = out + inflater.decompress(blob), inflater.unused_data.lstrip(b"\0")
        except zlib.error:
            return out
        if not inflater.eof:
            return out
    return out


def vector(name: str) -> Layer:
    blob = vector_files()[f"layers/{name}.tar.gz"]
    return Layer(blob, unpacked(blob))


@EACH
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("err-truncated-gzip", "damaged or truncated"),
        ("err-bad-crc", "damaged or truncated"),
        ("err-zero-then-data", "a single zero block"),
        ("err-bad-checksum", "its checksum is wrong"),
    ],
)
def test_a_layer_that_no_runtime_unpacks_ends_it_and_nothing_is_written(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream, name: str, word: str
) -> None:
    image = push(counted.place, vector(name), layer("good"), tag="v1")
    before = counted.files()
    with pytest.raises(LayerInvalid, match=word) as caught:
        stream_by(Streamer(counted.place, tmp_path / "state", key.signer), image, smallest(stream))
    assert Digest.of(vector(name).blob) in caught.value.where
    after = counted.files()
    new = {path for path in after if path not in before}
    assert {path: after[path] for path in before} == before
    assert all("blobs" in path.parts for path in new), "what is there besides is content that nothing names"
    assert stream.format == "estargz" or not new


@EACH
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("err-gnu-sparse", "sparse file of GNU tar"),
        ("pax-sparse-1.0", "sparse file"),
        ("err-pax-global", "PAX global header"),
        ("err-type-7", "contiguous file"),
    ],
)
def test_an_entry_that_no_index_lists_leaves_its_layer_out_and_is_named(
    place: Place, streamer: Streamer, stream: Stream, name: str, word: str
) -> None:
    """The official builder ends there; here the other layers are streamed."""
    image = push(place, vector(name), layer("good"), tag="v1")
    made = stream_by(streamer, image, smallest(stream))
    left, good = made.rows
    assert left.how in ("skipped", "kept") and word in left.why and not left.made
    assert good.how == "uploaded" and good.made
    tag = made.tag if stream.derives else "v1"
    rows = {row.name: row for row in check_release(place, tag, min_layer_bytes=1, every_span=True).rows}
    told = rows["estargz-partly"] if stream.format == "estargz" else rows["layer-not-indexed"]
    assert told.severity == "warning" and not {"index-wrong", "estargz-wrong"} & rows.keys()
    again = stream_by(streamer, image, smallest(stream))
    assert not again.changed and (LEFT_OUT if stream.format != "estargz" else NOT_CARRIED) == again.rows[0].why


@EACH
def test_where_no_layer_can_be_listed_nothing_is_made_and_the_reason_is_told(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream
) -> None:
    image = push(counted.place, vector("err-gnu-sparse"), tag="v1")
    before = counted.files()
    made = stream_by(Streamer(counted.place, tmp_path / "state", key.signer), image, smallest(stream))
    assert not made.changed and counted.files() == before
    assert "sparse file of GNU tar" in made.rows[0].why
    assert made.why if stream.derives else made.platforms[0].why


def test_a_layer_that_a_conversion_leaves_as_it_is_is_held_against_its_diff_id_too(
    place: Place, streamer: Streamer
) -> None:
    """The record of the conversion is a node's proof that each layer unpacks to what the config claims."""
    odd = vector("err-gnu-sparse")
    claims = Layer(odd.blob, files("another"), odd.media_type, odd.more)
    with pytest.raises(DigestMismatch):
        streamer.convert(push(place, claims, layer("good"), tag="v1"), ESTARGZ)


def odd_layers() -> list[Layer]:
    """zstd, foreign, encrypted, and a type of nobody."""
    tar = files("zstd")
    return [
        Layer(zstandard.compress(tar), tar, media_types.OCI_LAYER_ZSTD),
        layer("foreign", more={"urls": ["https://example.com/layer"]}),
        layer("secret", media_type=f"{media_types.OCI_LAYER_GZIP}+encrypted"),
        layer("odd", media_type="application/vnd.example"),
    ]


@pytest.mark.parametrize("stream", ALL[:2])
@pytest.mark.parametrize("odd", odd_layers(), ids=["zstd", "foreign", "encrypted", "unknown"])
def test_an_image_of_layers_that_soci_has_no_form_for(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream, odd: Layer
) -> None:
    image = push(counted.place, odd, tag="v1")
    before = counted.files()
    made = stream_by(Streamer(counted.place, tmp_path / "state", key.signer), image, smallest(stream))
    assert not made.changed and hows(made.rows) == ["skipped"] and made.rows[0].why
    assert counted.files() == before
    names = {row.name for row in check_release(counted.place, "v1", min_layer_bytes=1).rows}
    assert len(names & {"zstd-layer", "foreign-layer", "encrypted-layer", "odd-layer-type"}) == 1


@pytest.mark.parametrize("odd", odd_layers()[1:], ids=["foreign", "encrypted", "unknown"])
def test_an_image_of_layers_that_nobody_can_convert(counted: Counted, key: Key, tmp_path: Path, odd: Layer) -> None:
    image = push(counted.place, odd, tag="v1")
    before = counted.files()
    made = Streamer(counted.place, tmp_path / "state", key.signer).convert(image, ESTARGZ)
    assert made.derived is None and hows(made.rows) == ["kept"] and made.rows[0].why and made.why
    assert counted.files() == before


def test_a_layer_of_zstd_that_says_gzip_is_told_by_its_bytes(place: Place, streamer: Streamer) -> None:
    tar = files("zstd")
    image = push(place, Layer(zstandard.compress(tar), tar), layer("good"), tag="v1")
    made = streamer.index(image)
    assert hows(made.rows) == ["skipped", "uploaded"] and "zstd" in made.rows[0].why
    assert hows(streamer.convert(image, ESTARGZ).rows) == ["uploaded", "uploaded"]


@pytest.mark.parametrize("stream", ALL)
def test_a_layer_that_breaks_off_on_the_way_leaves_what_was_there(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream
) -> None:
    """The registry ends each answer early: it is asked for the rest until there is no use in it."""
    image = push(counted.place, layer("one", 400_000), tag="v1")
    content = counted.place.registry.get_manifest(counted.place.repository, "v1").content()
    assert isinstance(content, Manifest)
    before = counted.files()
    with FaultRegistry(counted.server.address) as faults:
        faults.play("GET", rf".*/blobs/{content.layers[0].digest}", CutAnswer(0))
        broken = Place(DistributionRegistry(faults.address, plain_http=True), counted.place.repository)
        with pytest.raises((RegistryError, ContentError)):
            stream_by(Streamer(broken, tmp_path / "state", key.signer), image, stream)
    assert {path: counted.files()[path] for path in before} == before
    assert list(counted.place.registry.tags(counted.place.repository)) == ["v1"]
    assert stream_by(Streamer(counted.place, tmp_path / "state", key.signer), image, stream).changed


@EACH
def test_a_registry_without_ranges_is_streamed_from_and_the_check_says_that_nodes_cannot(
    counted: Counted, key: Key, tmp_path: Path, stream: Stream
) -> None:
    image = push(counted.place, layer("one", 400_000), tag="v1")
    with FaultRegistry(counted.server.address) as faults:
        faults.play("GET", r".*/blobs/.*", NoRange())
        place = Place(DistributionRegistry(faults.address, plain_http=True), counted.place.repository)
        made = stream_by(Streamer(place, tmp_path / "state", key.signer), image, stream)
        assert made.changed
        tag = made.tag if stream.derives else "v1"
        rows = {row.name: row for row in check_release(place, tag, min_layer_bytes=1).rows}
        assert rows["no-ranges"].severity == "error" and "no-index" not in rows
    assert "no-ranges" not in {row.name for row in check_release(counted.place, tag, min_layer_bytes=1).rows}


@EACH
@pytest.mark.parametrize("kind", media_types.DOCKER_SCHEMA_1)
def test_docker_schema_1_is_refused_by_name(key: Key, tmp_path: Path, stream: Stream, kind: str) -> None:
    raw = json.dumps({"schemaVersion": 1, "name": "some/app", "tag": "old", "fsLayers": [], "history": []}).encode()
    headers = {"Content-Type": kind, "Docker-Content-Digest": Digest.of(b"the payload alone")}
    digest = Digest.of(b"the payload alone")
    with ExchangeServer(Expect("GET", f"/v2/some/app/manifests/{digest}", answer=Answer(200, headers, raw))) as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "some/app")
        with pytest.raises(ManifestOutdated, match="schema 1"):
            image = Descriptor(media_type=kind, digest=digest, size=len(raw))
            stream_by(Streamer(place, tmp_path / "state", key.signer), image, stream)


def test_what_is_estargz_already_is_indexed_as_any_gzip_and_not_converted_again(
    counted: Counted, key: Key, tmp_path: Path
) -> None:
    streamer = Streamer(counted.place, tmp_path / "state", key.signer)
    made = streamer.convert(push(counted.place, layer("one", 400_000), tag="v1"), ESTARGZ)
    assert made.derived is not None
    indexed = streamer.index(made.derived)
    assert hows(indexed.rows) == ["uploaded"]
    rows = check_release(counted.place, made.tag, min_layer_bytes=1, every_span=True).rows
    assert not [row for row in rows if row.severity == "error"]
    before = counted.files()
    with pytest.raises(InputError):
        streamer.convert(made.derived, ESTARGZ, tag=made.tag)
    assert counted.files() == before


def test_layers_below_the_limit_are_left_alone_and_at_the_limit_are_not(place: Place, streamer: Streamer) -> None:
    blob = gzip.compress(files("edge"), mtime=0)
    image = push(place, Layer(blob, files("edge")), tag="v1")
    for least, hows_of in ((len(blob) + 1, ["skipped"]), (len(blob), ["uploaded"])):
        stream = Stream(span_size=INDEXED.span_size, min_layer_size=Size(least))
        assert hows(streamer.index(image, stream).rows) == hows_of


def test_the_blob_of_a_layer_that_is_not_here_is_told(counted: Counted, key: Key, tmp_path: Path) -> None:
    one = layer("one")
    image = push(counted.place, one, tag="v1")
    counted.place.registry.delete_blob(counted.place.repository, Digest.of(one.blob))
    before = counted.files()
    for stream in (INDEXED, SOCI, ESTARGZ):
        with pytest.raises((RegistryError, ContentError)):
            stream_by(Streamer(counted.place, tmp_path / stream.format, key.signer), image, stream)
    assert counted.files() == before
    assert "layer-gone" in {row.name for row in check_release(counted.place, "v1", min_layer_bytes=1).rows}
