"""Walk a layer: ours against GNU tar and Python's tarfile; and a whole image scan with its peak memory.

    python benchmarks/scan.py [--gib 2] [--runs 3] [--write]

The layer is a third small files (those of this Python environment under new names), a third shared libraries, a third
one file that does not compress, as images with models have it. Ours also hashes both digests and reads wanted files;
the others do neither.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import os
import shutil
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import zstandard
from zlib_ng import gzip_ng

from benchmarks import measure
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place

WALK = """
import sys
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER
with open(sys.argv[1], "rb", buffering=0) as stream:
    walk = open_layer(stream, OCI_LAYER)
    sum(1 for _ in walk)
    walk.finish()
"""
COLLECT = """
import sys
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.media_types import OCI_LAYER
from registry_pipelines.scan.collect import read_layer
with open(sys.argv[1], "rb", buffering=0) as stream:
    read_layer(open_layer(stream, OCI_LAYER))
"""
TARFILE = """
import sys, tarfile
with tarfile.open(sys.argv[1], sys.argv[2]) as tar:
    sum(1 for _ in tar)
"""
SCAN = """
import sys, tempfile
from pathlib import Path
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.scan.sbom import cyclonedx, scan_image
place = Place(LayoutRegistry(Path(sys.argv[1])), "bench")
image = place.registry.resolve("bench", "v1")
for packages in scan_image(place, image, state=Path(sys.argv[2])):
    cyclonedx(packages)
"""


def make_layer(target: Path, size: int) -> None:
    """An uncompressed tar of about ``size`` bytes: a third small files, a third shared libraries, a third noise."""
    root = Path(sysconfig.get_path("purelib"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    libraries = [path for path in files if ".so" in path.name and path.stat().st_size > 1 << 20]
    # Without dereference a file that is added again becomes a hard link without content.
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT, dereference=True) as tar:
        for share, paths in ((1, files), (2, libraries)):
            for number, path in enumerate(itertools.cycle(paths)):
                turn = number // len(paths)
                info = tar.gettarinfo(path, f"opt/{share}-{turn}/lib/python3.11/site-packages/{path.relative_to(root)}")
                # Image builders write whole seconds; tarfile keeps every member it wrote in memory.
                info.mtime, tar.members = int(info.mtime), []
                with path.open("rb") as stream:
                    tar.addfile(info, stream)
                if tar.offset > size * share // 3:
                    break
        info = tarfile.TarInfo("opt/model.bin")
        info.size = size // 3
        tar.addfile(info, Noise(info.size))  # type: ignore[arg-type]


class Noise(io.RawIOBase):
    """Bytes that do not compress, from one block of 8 MiB beginning at another place each time."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = os.urandom(8 << 20)
        self._turn = 0

    def read(self, count: int = -1) -> bytes:
        count = min(count, self._left)
        self._left -= count
        self._turn += 4099
        start = self._turn % (len(self._block) // 2)
        return self._block[start : start + count]


def compress(source: Path) -> dict[str, Path]:
    """The tar itself, gzip level 6 and zstd level 3."""
    gz, zst = source.with_suffix(".tar.gz"), source.with_suffix(".tar.zst")
    with source.open("rb") as stream, gzip_ng.open(gz, "wb", compresslevel=6) as target:
        shutil.copyfileobj(stream, target, 1 << 20)
    with source.open("rb") as stream, zst.open("wb") as raw:
        zstandard.ZstdCompressor(level=3).copy_stream(stream, raw)
    return {"gzip": gz, "plain": source, "zstd": zst}


def push(root: Path, layer: Path, tar: Path) -> None:
    """An image of one layer in a layout folder."""
    place = Place(LayoutRegistry(root), "bench")
    with layer.open("rb") as stream:
        digest = Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    with tar.open("rb") as stream:
        diff_id = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=digest, size=layer.stat().st_size)
    with layer.open("rb", buffering=0) as stream:
        place.registry.upload_blob(place.repository, descriptor, stream)  # type: ignore[arg-type]
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    config = push_blob(place, msgspec.json.encode(document), media_type=OCI_CONFIG)
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(descriptor,))
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag="v1")


def contenders(kind: str, layer: Path) -> dict[str, Callable[[], measure.Sample]]:
    """What walks this form of the layer."""
    python, path = sys.executable, str(layer)
    mode, flag = {"gzip": ("r|gz", "tzf"), "plain": ("r|", "tf"), "zstd": ("", "")}[kind]
    found = {
        "ours, walk and both digests": [python, "-c", WALK, path],
        "ours, with package databases read": [python, "-c", COLLECT, path],
    }
    if mode:
        found[f"tar {flag}"] = ["tar", flag, path]
        found["Python tarfile, streamed"] = [python, "-c", TARFILE, path, mode]
    elif shutil.which("zstd"):
        found["tar --zstd -tf"] = ["tar", "--zstd", "-tf", path]
    return {name: lambda command=command: measure.run(command) for name, command in found.items()}  # type: ignore[misc]


def speeds(size: int, samples: dict[str, list[measure.Sample]]) -> str:
    """MB of uncompressed tar per CPU second."""
    rows = [f"{name}: {size / 1e6 / measure.median(runs).cpu_s:.0f}" for name, runs in samples.items()]
    return "MB of tar a CPU second: " + "; ".join(rows) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-scan-") as name:
        folder = Path(name)
        tar = folder / "layer.tar"
        make_layer(tar, int(options.gib * 2**30))
        size = tar.stat().st_size
        sections = []
        forms = compress(tar)
        for kind, layer in forms.items():
            print(f"{kind}: {layer.stat().st_size / 1e6:.0f} MB of {size / 1e6:.0f} MB")
            samples = measure.interleave(contenders(kind, layer), runs=options.runs)
            sections.append(
                f"## {kind}: {layer.stat().st_size / 1e6:.0f} MB of {size / 1e6:.0f} MB of tar\n\n"
                + measure.comparison(samples, ours="ours, walk and both digests")
                + "\n\n"
                + speeds(size, samples)
            )
        push(folder / "registry", forms["gzip"], tar)
        states = (str(folder / f"state{number}") for number in itertools.count())
        first = {
            "first scan": lambda: measure.run([sys.executable, "-c", SCAN, str(folder / "registry"), next(states)]),
            "second scan": lambda: measure.run(
                [sys.executable, "-c", SCAN, str(folder / "registry"), str(folder / "state0")]
            ),
        }
        samples = measure.interleave(first, runs=options.runs)
        sections.append(
            "## The whole scan of an image with this layer (gzip), SBOM included\n\n"
            + measure.comparison(samples, ours="first scan")
            + "\n\nThe second scan finds the layer in the state folder and reads no blob; what remains is starting"
            " Python and writing the CycloneDX document. Peak memory has a floor: the harness's own, before it starts a"
            " program."
        )
        if options.write:
            command = f"python benchmarks/scan.py --gib {options.gib:g} --runs {options.runs} --write"
            measure.write_page("scan", "Scanning layers", command, *sections)


if __name__ == "__main__":
    main()
