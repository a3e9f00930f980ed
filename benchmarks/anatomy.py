"""What is inside an image: ours against unpacking it and asking ``du``, and against the least that any reader does who
checks what it reads.

    pip download torch numpy -d WHEELS
    python benchmarks/anatomy.py --wheels WHEELS [--runs 3] [--work FOLDER] [--against PYTHON] [--write] torch numpy

The image is what our builder makes of the wheels, a layer for each large one. The floor is one thread that inflates
each layer by isal, the fastest library that Python has for it, and hashes both digests; nothing is looked into.
``du`` tells sizes alone: no owners, no hidden or equal bytes. ``--against``: the scan of another checkout, too.
``--work``: where the image is made, and found by the next run. Of fewer than three runs each counts, the first, too.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.progress import size_text
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place

ANATOMY = """
import sys
from pathlib import Path
from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
image_anatomy(Place(LayoutRegistry(Path(sys.argv[1])), "bench"), "v1", state=Path(sys.argv[2]))
"""
SCAN = """
import sys
from pathlib import Path
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.sbom import scan_image
place = Place(LayoutRegistry(Path(sys.argv[1])), "bench")
scan_image(place, place.registry.resolve("bench", "v1"), state=Path(sys.argv[2]))
"""
FLOOR = """
import hashlib, io, sys
from isal import igzip
class Hashed(io.RawIOBase):
    def __init__(self, path): self.file, self.sha256 = open(path, "rb", buffering=0), hashlib.sha256()
    def readable(self): return True
    def readinto(self, view):
        count = self.file.readinto(view)
        self.sha256.update(memoryview(view)[:count])
        return count
view = memoryview(bytearray(1 << 20))
for path in sys.argv[1:]:
    stored, tar = Hashed(path), hashlib.sha256()
    with igzip.IGzipFile(fileobj=stored, mode="rb") as layer:
        while count := layer.readinto(view):
            tar.update(view[:count])
"""
UNPACK = """
set -e
mkdir "$1"; number=0
for layer in "${@:2}"; do number=$((number + 1)); mkdir "$1/$number"; tar -xzf "$layer" -C "$1/$number"; done
du -ab "$1" | sort -rn | head -50 >/dev/null
rm -rf "$1"
"""
Contender = Callable[[], measure.Sample]


def make(folder: Path, wheels: Path, requirements: list[str]) -> tuple[list[str], int]:
    """The image, unless it is there; paths of its layers, and their bytes unpacked."""
    place = Place(LayoutRegistry(folder / "registry"), "bench")
    if not (folder / "first").exists():
        LayersBuilder(folder / "building").build(
            BuildSpec(name="bench", requirements=tuple(requirements), wheels=wheels, version="v1"), place
        )
        shutil.rmtree(folder / "building")
    content = place.registry.get_manifest("bench", "v1").content()
    assert isinstance(content, Manifest)
    there = {path.name: path for path in (folder / "registry").rglob("*") if path.is_file()}
    found = image_anatomy(place, "v1", state=folder / "first")
    return [str(there[layer.digest.hex]) for layer in content.layers], sum(each.unpacked for each in found.layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", nargs="+")
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--against", metavar="PYTHON", help="Of an environment with another checkout, for its scan.")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-anatomy-", dir=options.wheels.parent) as name:
        folder = Path(name)
        image = options.work or folder
        layers, size = make(image, options.wheels, options.requirements)
        registry, python = str(image / "registry"), sys.executable
        states = (str(folder / f"state{number}") for number in itertools.count())
        scanned = str(folder / "scanned")
        measure.run([python, "-c", SCAN, registry, scanned])
        contenders: dict[str, Contender] = {
            "anatomy, nothing known": lambda: measure.run([python, "-c", ANATOMY, registry, next(states)]),
            "anatomy of a scanned image": lambda: measure.run([python, "-c", ANATOMY, registry, scanned]),
            "scan": lambda: measure.run([python, "-c", SCAN, registry, next(states)]),
            "the floor: inflate, two digests": lambda: measure.run([python, "-c", FLOOR, *layers]),
            "tar -xzf each layer, du": lambda: measure.run(
                ["bash", "-c", UNPACK, "bash", str(folder / "unpacked"), *layers]
            ),
        }
        if options.against:
            contenders["scan of the other checkout"] = lambda: measure.run(
                [options.against, "-c", SCAN, registry, next(states)]
            )
        print(f"{size / 1e6:.0f} MB of tar in {len(layers)} layers")
        samples = measure.interleave(contenders, runs=options.runs, warm_up=options.runs > 2)
        kept = sum(path.stat().st_size for path in Path(scanned).rglob("*") if path.is_file())
        rates = {each: size / 1e6 / measure.median(runs).cpu_s for each, runs in samples.items()}
        section = (
            measure.comparison(samples, ours="anatomy, nothing known")
            + "\n\nMB of tar a CPU second: "
            + "; ".join(f"{each} {rate:.0f}" for each, rate in rates.items())
            + f". A scan keeps {size_text(kept)} of {size_text(size)} of tar on the disk, listings included."
        )
        print(section)
        if options.write:
            runs = f"--runs {options.runs} --write "
            command = f"python benchmarks/anatomy.py --wheels WHEELS {runs}" + " ".join(options.requirements)
            measure.write_page("anatomy", "What is inside an image", command, section)


if __name__ == "__main__":
    main()
