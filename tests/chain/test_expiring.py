"""An image that asks a registry to delete it: whoever copies it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.expiring import expiry_notes
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place

CONFIG = """
registries:
  outside: {{kind: layout, root: {root}/outside}}
  dmz: {{kind: layout, root: {root}/dmz}}
  inside: {{kind: layout, root: {root}/inside}}
mirrors:
  across: {{via: dmz, to: inside, upstreams: [{{image: outside/lib/tool, tags: [v1, v2]}}]}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "outside"), "lib/tool")


def push(place: Place, tag: str, labels: dict[str, str], annotations: dict[str, str] | None = None) -> Descriptor:
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": labels}, "rootfs": {"diff_ids": []}}
    image = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=(push_blob(place, tag.encode(), media_type=media_types.OCI_LAYER),),
            annotations=annotations,
        )
    )
    place.registry.put_manifest(place.repository, image, tag=tag)
    return image.descriptor


def test_a_mirror_says_which_of_its_copies_may_vanish_once(place: Place, tmp_path: Path) -> None:
    push(place, "v1", {"quay.expires-after": "2w"})
    push(place, "v2", {"maintainer": "somebody"})
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(CONFIG.format(root=tmp_path))
    chain = Chain(load(path))
    told = chain.mirror("across")
    said = [note for note in told.notes if "expires-after" in note]
    assert told.ok and len(said) == 1 and ":v1 has the label quay.expires-after=2w" in said[0]
    again = chain.mirror("across")
    assert not again.changed and not any("expires-after" in note for note in again.notes)


def test_platforms_and_annotations_count(place: Place) -> None:
    child = push(place, "", {}, {"quay.expires-after": "1d"})
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(child,)))
    place.registry.put_manifest(place.repository, index, tag="both")
    [said] = expiry_notes(place, index.digest)
    assert "quay.expires-after=1d" in said


def test_what_cannot_be_read_is_said(place: Place) -> None:
    image = push(place, "v1", {})
    place.registry.delete_manifest(place.repository, image.digest)
    [said] = expiry_notes(place, image.digest)
    assert "could not be read" in said
