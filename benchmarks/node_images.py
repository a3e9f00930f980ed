"""More images for ``benchmarks/node.py``: the one that is started with another small layer on top each, indexed, and
with hot packs or without."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Sequence

from isal import igzip
from msgspec.structs import replace

from benchmarks.start_images import MTIME
from registry_pipelines.evidence.keys import load_signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES, manifest_bytes
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.preparing import PLAIN, Prepared
from registry_pipelines.stream.bench.serving import CountingRegistry
from registry_pipelines.stream.hot.cutting import make_pack
from registry_pipelines.stream.hot.recording import Recording, decode
from registry_pipelines.stream.hot.touched import WINDOW_BYTES
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.publish import index_release
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine

PACKED, INDEXED, SMALL = f"node-packed-{WINDOW_BYTES >> 10}k", "node-indexed", "node-small"
"""Repositories: images with hot packs; with indexes alone; and what nobody can serve."""
OWN_BYTES = 1 << 20
"""Of the layer that an image has alone; it does not compress."""
SMALL_LAYERS, SMALL_BYTES = 12, 64 << 10


def make_images(image: Prepared, count: int, *, packed: bool) -> list[str]:
    """Names of so many images in the benchmark's registry; what is there already is not made again."""
    repository = f"{PACKED if packed else INDEXED}/image"
    names = [f"{repository}:n{number}" for number in range(count)]
    folder = image.root / PACKED if packed else image.root / INDEXED
    done = folder / "made.json"
    if done.exists() and set(names) <= set(json.loads(done.read_text())):
        return names
    with CountingRegistry(image.root) as server:
        registry = DistributionRegistry(server.address, plain_http=True)
        place, engine = Place(registry, repository), Engine(state=image.work / "transfer")
        copy_closure(Place(registry, f"{PLAIN}/image"), "v1", [place], tags=["v1"], engine=engine)
        first = image_for(place, "v1")
        recording = _recording(image) if packed else None
        earlier: tuple[Digest, ...] = ()
        for number in range(count):
            made = _derived(place, first, number)
            _publish(image, place, made, engine, recording, earlier)
            earlier = (made.descriptor.digest,)
        registry.close()
    done.write_text(json.dumps(names))
    return names


def make_small(image: Prepared, count: int) -> list[str]:
    """Names of so many images of some small layers that have no index; each layer is in one of them alone."""
    names = [f"{SMALL}/image:s{number}" for number in range(count)]
    with CountingRegistry(image.root) as server:
        registry = DistributionRegistry(server.address, plain_http=True)
        place = Place(registry, f"{SMALL}/image")
        first = image_for(Place(registry, f"{PLAIN}/image"), "v1")
        for number in range(count):
            layers = [_layer(f"small-{number}-{each}", SMALL_BYTES) for each in range(SMALL_LAYERS)]
            _push(place, first, layers, f"s{number}", base=False)
        registry.close()
    return names


def _recording(image: Prepared) -> Recording:
    path = image.work / f"recording-{image.started}-{image.image.descriptor.digest.hex[:12]}"
    return decode(path.read_bytes(), where=str(path))


def _publish(
    image: Prepared,
    place: Place,
    made: NodeImage,
    engine: Engine,
    recording: Recording | None,
    earlier: Sequence[Digest],
) -> None:
    state, signer = image.work / "state", load_signer(image.work / "bench.key")
    records = LayerStore(state / "layers")
    index_release(place, made.descriptor, Stream(), state=state, store=records, signer=signer, engine=engine)
    if recording is not None:
        digest = made.descriptor.digest
        make_pack(
            place, digest, recording, state=state, store=records, signer=signer, engine=engine, earlier=tuple(earlier)
        )


def _derived(place: Place, first: NodeImage, number: int) -> NodeImage:
    return _push(place, first, [_layer(f"own-{number}", OWN_BYTES)], f"n{number}")


def _layer(name: str, size: int) -> tuple[bytes, Digest]:
    """A gzip layer with one file, and its diffID."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(f"opt/{name}")
        info.size, info.mtime = size, MTIME
        tar.addfile(info, io.BytesIO(random.Random(name).randbytes(size)))
    return igzip.compress(plain.getvalue(), 1, mtime=0), Digest.of(plain.getvalue())


def _push(
    place: Place, first: NodeImage, layers: Sequence[tuple[bytes, Digest]], tag: str, *, base: bool = True
) -> NodeImage:
    """An image of layers, above those of another (base) or alone."""
    config = json.loads(read_blob(first.place, first.manifest.config, limit=MAX_CONFIG_BYTES))
    below = config["rootfs"]["diff_ids"] if base else []
    config["rootfs"]["diff_ids"] = [*below, *(str(diff_id) for _, diff_id in layers)]
    config.pop("history", None)
    pushed = [push_blob(place, content, media_type=OCI_LAYER_GZIP) for content, _ in layers]
    settings = push_blob(place, json.dumps(config).encode(), media_type=first.manifest.config.media_type)
    all_layers = (*(first.manifest.layers if base else ()), *pushed)
    manifest = replace(first.manifest, config=settings, layers=all_layers, annotations=None)
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag=tag)
    return image_for(place, tag)


__all__ = ["INDEXED", "PACKED", "SMALL", "make_images", "make_small"]
