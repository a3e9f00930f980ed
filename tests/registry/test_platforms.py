"""Every image below an index is found, once, whatever the index says about it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.platforms import platform_images, read_entries
from registry_pipelines.registry.protocol import Place

IMAGES = 5

PLATFORMS = st.one_of(
    st.none(),
    st.builds(
        Platform,
        os=st.sampled_from(["linux", "windows", "unknown", "Linux", ""]),
        architecture=st.sampled_from(["amd64", "arm64", "arm", "x86_64", "unknown", ""]),
        variant=st.sampled_from(["", "v1", "v2", "v3", "v7", "v8"]),
    ),
)
NOTES = st.sampled_from([None, {"vnd.docker.reference.type": "attestation-manifest"}, {"x": "y"}])
LINES = st.tuples(st.integers(0, IMAGES - 1), PLATFORMS, NOTES, st.sampled_from(["", "application/vnd.example"]))
TREES = st.recursive(st.lists(LINES, min_size=1, max_size=4), lambda inner: st.lists(inner, min_size=1, max_size=3))


@contextmanager
def empty_place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield Place(LayoutRegistry(Path(folder)), "app")


def image(place: Place, number: int) -> Descriptor:
    config = push_blob(
        place, b'{"os":"linux","architecture":"amd64","n":%d}' % number, media_type=media_types.OCI_CONFIG
    )
    made = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=()))
    place.registry.put_manifest(place.repository, made)
    return made.descriptor


def grow(place: Place, images: list[Descriptor], tree: object, reached: set[str]) -> Descriptor:
    """An index of a tree's lines; a list within is a nested index."""
    lines = []
    assert isinstance(tree, list)
    for node in tree:
        if isinstance(node, list):
            lines.append(grow(place, images, node, reached))
            continue
        number, platform, notes, artifact_type = node
        reached.add(images[number].digest)
        lines.append(
            Descriptor(
                media_type=images[number].media_type,
                digest=images[number].digest,
                size=images[number].size,
                platform=platform,
                annotations=notes,
                artifact_type=artifact_type,
            )
        )
    made = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(lines)))
    place.registry.put_manifest(place.repository, made)
    return made.descriptor


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_no_image_below_any_index_is_lost_or_counted_twice(tree: object) -> None:
    with empty_place() as place:
        reached: set[str] = set()
        top = grow(place, [image(place, number) for number in range(IMAGES)], tree, reached)
        stored = place.registry.get_manifest(place.repository, top.digest)
        assert set(platform_images(place, stored)) == reached
        entries = read_entries(place, stored)
        assert len({each.digest for each in entries}) == len(entries)
        assert {each.digest for each in entries if each.kind == "image"} == reached
        assert entries[0].digest == top.digest
