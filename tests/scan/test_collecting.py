"""What a scan looks for is collected where a layer is made, or read for another reason: then no blob is read again."""

from __future__ import annotations

import gzip
import io
from functools import partial
from pathlib import Path

import pytest

from registry_pipelines.errors import LayerInvalid, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.collecting import MadeLayer, collect_read
from registry_pipelines.scan.sbom import scan_image
from tests.scan.images import DEBIAN, dist_info, make_tar, push_image

PLAIN = make_tar({**DEBIAN, **dist_info("PyYAML", "5.3"), "big": bytes(range(256)) * 20_000})
UNSAFE = make_tar({**dist_info("PyYAML", "5.3"), "/etc/passwd": b"root"})


def layer_of(tar: bytes) -> tuple[bytes, Descriptor, Digest]:
    """As ``push_image`` stores it."""
    raw = gzip.compress(tar, 1, mtime=0)
    return raw, Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(raw), size=len(raw)), Digest.of(tar)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


def lose_blob(tmp_path: Path, layer: Descriptor) -> None:
    (path,) = (tmp_path / "registry").rglob(layer.digest.hex)
    path.unlink()


def push_made(state: Path, tar: bytes, *, step: int = 1 << 20) -> None:
    _, layer, diff_id = layer_of(tar)
    with MadeLayer(state) as made:
        for at in range(0, len(tar), step):
            made.write(memoryview(tar)[at : at + step])
        made.keep(diff_id, layer.digest)


@pytest.mark.parametrize("step", [100, 1 << 20, 1 << 30])
def test_a_layer_is_not_read_by_a_scan_that_saw_it_made(place: Place, tmp_path: Path, step: int) -> None:
    image = push_image(place, [PLAIN])
    expected = scan_image(place, image, state=tmp_path / "fresh")
    assert len(expected[0].components) == 3
    push_made(tmp_path / "state", PLAIN, step=step)
    lose_blob(tmp_path, layer_of(PLAIN)[1])
    assert scan_image(place, image, state=tmp_path / "state") == expected
    with pytest.raises(NotFound):
        scan_image(place, image, state=tmp_path / "other")


def test_a_layer_is_not_read_by_a_scan_when_an_index_read_it(place: Place, tmp_path: Path) -> None:
    image, state = push_image(place, [PLAIN]), tmp_path / "state"
    expected = scan_image(place, image, state=tmp_path / "fresh")
    raw, layer, diff_id = layer_of(PLAIN)
    store = LayerStore(state / "layers", collect=partial(collect_read, state=state))
    record = store.read(io.BytesIO(raw), layer, diff_id)
    lose_blob(tmp_path, layer)
    assert scan_image(place, image, state=state) == expected
    assert list(record.entries()) == list(
        LayerStore(tmp_path / "plain").read(io.BytesIO(raw), layer, diff_id).entries()
    )


def test_a_scan_asked_for_records_leaves_one_of_each_layer_for_all_images(place: Place, tmp_path: Path) -> None:
    image, state = push_image(place, [PLAIN, DEBIAN]), tmp_path / "state"
    other = push_image(place, [PLAIN], architecture="arm64")
    scan_image(place, image, state=state, records=True)
    for tar in (PLAIN, make_tar(DEBIAN)):
        raw, layer, diff_id = layer_of(tar)
        record = LayerStore(state / "layers").get(diff_id, layer.digest)
        assert record is not None
        expected = LayerStore(tmp_path / "plain").read(io.BytesIO(raw), layer, diff_id)
        assert record.checkpoints == expected.checkpoints and list(record.entries()) == list(expected.entries())
    lose_blob(tmp_path, layer_of(PLAIN)[1])
    assert scan_image(place, other, state=state)[0].components


def test_of_a_layer_that_a_scan_refuses_nothing_is_collected(place: Place, tmp_path: Path) -> None:
    image, state = push_image(place, [UNSAFE]), tmp_path / "state"
    raw, layer, diff_id = layer_of(UNSAFE)
    push_made(state, UNSAFE)
    store = LayerStore(state / "layers", collect=partial(collect_read, state=state))
    assert [entry.size for entry in store.read(io.BytesIO(raw), layer, diff_id).entries()][-1] == 4
    with pytest.raises(LayerInvalid, match="absolute"):
        scan_image(place, image, state=state)


def test_a_layer_that_was_not_finished_is_forgotten(place: Place, tmp_path: Path) -> None:
    image, state = push_image(place, [PLAIN]), tmp_path / "state"
    with MadeLayer(state) as made:
        made.write(PLAIN[: len(PLAIN) // 2])
    with pytest.raises(InterruptedError), MadeLayer(state) as made:
        made.write(PLAIN)
        raise InterruptedError
    lose_blob(tmp_path, layer_of(PLAIN)[1])
    with pytest.raises(NotFound):
        scan_image(place, image, state=state)
