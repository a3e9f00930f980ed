"""Nobody reads a layer that we built: what a scan and an index ask was kept as it was made."""

from __future__ import annotations

import random
from pathlib import Path

from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.registry.platforms import image_config, read_images
from registry_pipelines.release import Release
from registry_pipelines.scan.sbom import scan_image
from tests.build.wheels import make_wheel
from tests.chain.fleet import Fleet, push
from tests.doubles.fault_registry import FaultRegistry

BUILD = (
    "targets: [eu, gcp], stream: {span_size: 1MiB}, build: {version: v1.0.0, base: 'us/team/tool:base', python: '3.11',"
    " libc: none, wheels: wheels, platforms: [linux/amd64], requirements: [bulk==1.0, little==2.0],"
    " application: application}}"
)
ELF = b"\x7fELF" + random.Random(1).randbytes(3 << 20) + b"\0 deflate 1.2.11 Copyright \0" + bytes(2 << 20)
"""A library whose version stands behind much that nobody looks at."""


def test_a_scan_of_what_was_built_reads_no_layer(fleet: Fleet, tmp_path: Path) -> None:
    push(fleet.chain.place("tool"), "base", package="base", provenance=False)
    # A wheel that has a layer of its own; of its largest file nothing is looked at.
    bulk = {"bulk/data.bin": random.Random(2).randbytes(8 << 20), "bulk/libz.so.1": ELF, "bulk/__init__.py": b""}
    make_wheel(tmp_path / "wheels", "bulk", "1.0", bulk, level=1)
    make_wheel(tmp_path / "wheels", "little", "2.0", {"little.py": b"print(1)\n"})
    (tmp_path / "application").mkdir()
    (tmp_path / "application" / "package.json").write_text('{"name": "web", "version": "3.0.0"}')
    with FaultRegistry(fleet.chain.registry("us").name) as wire:
        port = fleet.chain.registry("us").name.rpartition(":")[2]
        chain = fleet.reload(
            ("targets: [eu, gcp]}", BUILD),
            (f"  us: {{kind: embedded, port: {port}}}\n", f'  us: {{kind: distribution, host: "{wire.address}"}}\n'),
        )
        release = Release.parse(chain.build("app").subject)
        wire.reset_counts()
        chain.sbom(release)
        asked = {one.target.rpartition("/")[2] for one in wire.seen if one.method == "GET" and "/blobs/" in one.target}

    place = fleet.chain.place("app")
    image = place.registry.resolve(place.repository, release.digest)
    (entry,) = read_images(place, place.registry.get_manifest(place.repository, release.digest))
    manifest = entry.manifest
    layers = [layer.digest for layer in manifest.layers]
    assert len(layers) == 4
    assert asked & {str(layer) for layer in layers} == {str(layers[0])}, "the base is foreign, so it is read"

    here = scan_image(place, image, state=fleet.config.state)
    assert here == scan_image(place, image, state=tmp_path / "elsewhere"), "as if they had been read"
    assert {"bulk", "little", "zlib"} <= {component.name for component in here[0].components}

    store = LayerStore(fleet.config.state / "layers")
    config = image_config(place, manifest)
    records = [
        store.get(diff_id, digest, span_bytes=1 << 20) for diff_id, digest in zip(config.diff_ids, layers, strict=True)
    ]
    assert [record is not None for record in records] == [False, True, True, True]
    assert sum(len(record.checkpoints) for record in records if record) > 10
