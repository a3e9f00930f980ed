"""After a change of one line of code the next bundle is a small part of the first: the layer that changed crosses."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, encode_json, manifest_bytes
from registry_pipelines.registry.blobs import BytesSource, push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.evidence.parts import Key
from tests.mirror.bundle.gap import far_layout, whole
from tests.mirror.bundle.nearside import Near

MIB = 1024 * 1024


def push_model(place: Place, layer_bytes: int, code: str) -> None:
    """An image of four layers of random bytes, as wheels and weights are, and one of code."""
    layers = []
    for number in range(4):
        source = random.Random(number)
        content = b"".join(source.randbytes(min(MIB, layer_bytes - at)) for at in range(0, layer_bytes, MIB))
        layer = Descriptor(media_type=media_types.OCI_LAYER, digest=Digest.of(content), size=len(content))
        if place.registry.blob_size(place.repository, layer.digest) is None:
            place.registry.upload_blob(place.repository, layer, BytesSource(content))
        layers.append(layer)
    layers.append(push_blob(place, code.encode(), media_type=media_types.OCI_LAYER))
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layers[-1].digest]}}
    made = push_blob(place, encode_json(config), media_type=media_types.OCI_CONFIG)
    manifest = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=made, layers=tuple(layers))
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag="latest")


@pytest.mark.parametrize(
    ("layer_bytes", "part_size"), [(400_000, 300_000), pytest.param(512 * MIB, 700_000_000, marks=pytest.mark.long)]
)
def test_one_line_of_code_crosses_in_less_than_two_percent(
    tmp_path: Path, make_key: Callable[[str], Key], layer_bytes: int, part_size: int
) -> None:
    registry = LayoutRegistry(tmp_path / "near")
    place = Place(registry, "ml/model")
    near = Near(registry, tmp_path / "state", make_key("near").signer, [(place, "latest")], part_size=part_size)
    far = far_layout(tmp_path / "far")
    push_model(place, layer_bytes, "print('one')\n")
    first = near.make(tmp_path / "first")
    assert first.bundle.stream_size > 4 * layer_bytes
    far.load(tmp_path / "first")
    push_model(place, layer_bytes, "print('two')\n")
    second = near.make(tmp_path / "second", receipt=far.receipt(make_key("far").signer))
    assert second.bundle.stream_size < first.bundle.stream_size * 0.02
    assert len(second.bundle.needs) == 4 and {need.number for need in second.bundle.needs} == {1}
    far.load(tmp_path / "second")
    assert whole(far.registry) == whole(registry)
    print(f"full {first.bundle.stream_size} bytes, incremental {second.bundle.stream_size}")
