"""Building and scanning one image from a folder of wheels, by this build and another of ours in turns.

Run by ``build_wheels.py --against PYTHON --wheels FOLDER``; ``builds.py`` tells how to get PYTHON. For the folder:
``pip download torch -d FOLDER`` (30 wheels, 3 GB).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.builds import Build, Figures, alternate

BUILD = """
import sys
from pathlib import Path
try:
    from registry_pipelines.build.builder import BuildSpec
except ImportError:  # a build of before December 2026
    from registry_pipelines.build.interface import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.registry.client import DistributionRegistry
try:
    from registry_pipelines.registry.protocol import Place
except ImportError:
    from registry_pipelines.registry.interface import Place
address, state, wheels, *requirements = sys.argv[1:]
spec = BuildSpec(name="bench", requirements=tuple(requirements), wheels=Path(wheels), version="v1")
LayersBuilder(Path(state)).build(spec, Place(DistributionRegistry(address, plain_http=True), "bench/image"))
"""
SCAN = """
import sys
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
try:
    from registry_pipelines.registry.protocol import Place
except ImportError:
    from registry_pipelines.registry.interface import Place
from registry_pipelines.scan.sbom import scan_image
address, state = sys.argv[1:]
place = Place(DistributionRegistry(address, plain_http=True), "bench/image")
scan_image(place, place.registry.resolve("bench/image", "v1"), state=Path(state))
"""


class Bench:
    """A state folder and a registry for each build. The server, which is this build's for both, is a process of its
    own: its work is in the wall time, not in CPU seconds."""

    def __init__(self, folder: Path, wheels: Path, requirements: Sequence[str]) -> None:
        self._folder = folder
        self._arguments = [str(wheels), *requirements]

    def cold(self, build: Build) -> Figures:
        """Nothing is known and nothing is there."""
        shutil.rmtree(self._of(build), ignore_errors=True)
        return self._measure(build, BUILD, *self._arguments)

    def unchanged(self, build: Build) -> Figures:
        """The same once more."""
        return self._measure(build, BUILD, *self._arguments)

    def scan(self, build: Build) -> Figures:
        """The image this build made; nothing is known of its layers."""
        return self._measure(build, SCAN)

    def _of(self, build: Build) -> Path:
        return self._folder / ("this" if build.path else "other")

    def _measure(self, build: Build, program: str, *arguments: str) -> Figures:
        folder = self._of(build)
        state = folder / "state"
        shutil.rmtree(state / "scan", ignore_errors=True)
        with EmbeddedServerProcess(folder / "registry") as address:
            sample = build.run(program, [address, str(state), *arguments], {})
        return {"s": sample.wall_s, "CPU s": sample.cpu_s, "peak MB": sample.peak_mb}


class EmbeddedServerProcess:
    """The registry in its own process, so that its memory and work do not count."""

    def __init__(self, root: Path) -> None:
        code = (
            "import sys, pathlib; from registry_pipelines.registry.embedded import EmbeddedServer\n"
            "with EmbeddedServer(pathlib.Path(sys.argv[1])) as s: print(s.address, flush=True); sys.stdin.read()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def __exit__(self, *error: object) -> None:
        self._process.communicate("")


def against(folder: Path, python: str, wheels: Path, requirements: Sequence[str], rounds: int) -> str:
    """A table: built from nothing, built again, scanned; by this build and the one of another interpreter."""
    bench = Bench(folder, wheels, requirements)
    works = {"from nothing": bench.cold, "unchanged": bench.unchanged, "scan": bench.scan}
    return alternate(works, Build(python), rounds)
