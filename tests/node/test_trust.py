"""Whoever stands between a node and its registry, or may push there, gives a container no other content: each image is
served as it is, or left to the normal pull, or reads end with an error."""

from __future__ import annotations

import gzip
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from registry_pipelines.errors import ContentError
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.lazy_images import LAYER_LABEL, MANIFEST_LABEL
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.model import Stream
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt
from tests.evidence.parts import Counted, Key
from tests.node.test_images import chain, labels, node
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import file
from tests.stream.releases import ESTARGZ, INDEXED, SOCI, Layer, Streamer, push, put

CONTENT = {"app/main": os.urandom(300_000), "app/other": b"other\n" * 4000}

OTHER = os.urandom(300_000)


def pushed(place: Place, tag: str = "v1", **content: bytes) -> Descriptor:
    tar = pack([file(name, data) for name, data in (content or CONTENT).items()])
    return push(place, Layer(gzip.compress(tar, 1, mtime=0), tar), tag=tag)


def outcome(images: NodeImages, image: Descriptor, chain_id: str) -> str:
    """``pulled``, ``error``, or ``right``; anything else is the content of another file."""
    served = images.find(labels(image), chain_id)
    if served is None:
        return "pulled"
    folder = served.mount(chain_id)
    for name, content in CONTENT.items():
        try:
            read = (folder / name).read_bytes()
        except OSError:
            return "error"
        assert read == content
    return "right"


@pytest.mark.parametrize("what", ["manifest", "config", "referrers", "any small blob", "the layer"])
@pytest.mark.parametrize("at_byte", [0, 40])
def test_what_is_changed_on_the_way_is_never_read(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, what: str, at_byte: int
) -> None:
    need_fuse()
    image = pushed(counted.place)
    streamer.index(image, INDEXED)
    [top] = chain(counted.place, image)
    manifest = counted.place.registry.get_manifest("team/app", image.digest).content()
    assert isinstance(manifest, Manifest)
    layer, config = manifest.layers[0].digest, manifest.config.digest
    targets = {
        "manifest": r".*/manifests/.*",
        "config": rf".*/blobs/{config}",
        "referrers": r".*/referrers/.*",
        "any small blob": rf".*/blobs/(?!{layer}|{config}).*",
        "the layer": rf".*/blobs/{layer}",
    }
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address, retries=NEVER), "team/app")
        faults.play("GET", targets[what], Corrupt(at_byte))
        with node(place, tmp_path / "node", key) as images:
            found = outcome(images, image, top)
            # A list of referrers names only what is signed: a changed one hides, or is no list.
            assert any(each.fault for each in faults.seen) and (at_byte or found != "right" or what == "referrers")
        place.registry.close()  # type: ignore[attr-defined]


def test_an_index_of_another_image_or_of_other_bytes_is_not_served_by(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    """Whoever may push can attach what somebody signed for another image, and put other bytes beside a signed index."""
    good, evil = pushed(counted.place), pushed(counted.place, "v2", **{"app/main": b"evil" * 90_000})
    done = streamer.index(evil, INDEXED)
    assert done is not None
    listed = counted.place.registry.referrers("team/app", evil.digest)
    moved = 0
    for each in listed:  # the same artifacts once more, as if they were about the good image
        raw = counted.place.registry.get_manifest("team/app", each.digest)
        document = json.loads(raw.raw)
        with suppress(KeyError):
            document["subject"] = {"mediaType": good.media_type, "digest": good.digest, "size": good.size}
            put(counted.place, document)
            moved += 1
    assert moved >= 2
    said: list[str] = []
    with node(counted.place, tmp_path / "node", key, said) as images:
        assert images.find(labels(good), chain(counted.place, good)[0]) is None
    assert "no index of the image is believed" in said[-1]


def test_labels_that_lie_give_the_content_of_the_manifest_or_none(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    first, second = pushed(counted.place), pushed(counted.place, "v2", **{"app/main": OTHER})
    for each in (first, second):
        streamer.index(each, INDEXED)
    one, two = chain(counted.place, first)[0], chain(counted.place, second)[0]
    elsewhere = Place(counted.place.registry, "other/app")
    third = pushed(elsewhere, "v3")
    assert third.digest == first.digest
    with node(counted.place, tmp_path / "node", key) as images:
        assert images.find(labels(first), two) is None  # the manifest has no such layer
        assert images.find({**labels(second), LAYER_LABEL: first.digest}, one) is None
        served = images.find(labels(first), one)
        assert served is not None and (served.mount(one) / "app/main").read_bytes() == CONTENT["app/main"]
        wrong = {**labels(first), MANIFEST_LABEL: second.digest}
        assert images.find(wrong, one) is None
        found = images.find(wrong, two)
        assert found is not None and (found.mount(two) / "app/main").read_bytes() == OTHER


@pytest.mark.parametrize("stream", [INDEXED, SOCI, ESTARGZ])
def test_an_indexer_vouches_for_no_image_that_claims_the_layers_of_another_one(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, stream: Stream
) -> None:
    """Its word is what a node takes in place of reading a layer whole."""
    victim, evil = (pack([file("app/main", os.urandom(300_000))]) for _ in range(2))
    claims = push(counted.place, Layer(gzip.compress(evil, 1, mtime=0), victim), tag="v1")
    made: Descriptor | None = None
    with suppress(ContentError):
        if stream is INDEXED:
            streamer.index(claims, stream)
        else:
            made = streamer.convert(claims, stream).derived
    [name] = chain(counted.place, claims)
    with node(counted.place, tmp_path / "node", key) as images:
        for each in filter(None, (claims, made)):
            assert images.find(labels(each), name) is None
