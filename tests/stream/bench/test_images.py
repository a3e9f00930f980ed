"""Images that the benchmarks make of files on this machine are what unpacks to these files."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.start_images import unoptimised, write_layer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for


def test_a_layer_of_files_has_the_digests_that_it_says(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("a")
    made = write_layer(
        tmp_path / "layer", [("top/a", tmp_path / "a"), ("top/l", tmp_path / "link"), ("top/a", tmp_path)]
    )
    raw = made.path.read_bytes()
    plain = subprocess.run(["gzip", "-dc"], input=raw, capture_output=True, check=True).stdout
    assert (made.descriptor.digest, made.diff_id) == (Digest.of(raw), Digest.of(plain))
    listed = subprocess.run(["tar", "-tv"], input=plain, capture_output=True, check=True).stdout.decode().splitlines()
    assert [line.split(None, 5)[5] for line in listed] == ["top/a", "top/l -> a"]


def test_what_nobody_made_smaller_has_all_packages_in_one_layer_and_pips_cache(tmp_path: Path) -> None:
    (tmp_path / "unpacked/lib/site-packages/p").mkdir(parents=True)
    (tmp_path / "unpacked/lib/site-packages/p/m.py").write_text("1")
    (tmp_path / "unpacked/sh").write_text("#!")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/p.whl").write_text("wheel")
    with EmbeddedServer(tmp_path / "registry") as server:
        place = Place(DistributionRegistry(server.address), "baseline/image")
        unoptimised(place, tmp_path / "unpacked", tmp_path / "wheels", tmp_path, system=("nothing",))
        image = image_for(place, "v1")
        names = []
        for layer, _ in image.layers:
            with place.registry.open_blob(place.repository, layer.digest) as blob:
                raw = bytearray(layer.size)
                assert blob.readinto(memoryview(raw)) == layer.size
            told = subprocess.run(["tar", "-tz"], input=bytes(raw), capture_output=True, check=True).stdout
            names.append(sorted(told.decode().split()))
    assert names[0] == ["lib/", "lib/site-packages/", "sh"]
    assert names[1] == [
        "lib/site-packages/p/",
        "lib/site-packages/p/m.py",
        "root/.cache/pip/wheels/",
        "root/.cache/pip/wheels/p.whl",
    ]
    assert not list(tmp_path.glob("system"))
