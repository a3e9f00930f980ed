"""Indexing and converting layers: ours beside GNU gzip, the official SOCI builder and ctr-remote.

    python benchmarks/stream.py [--mb 1094] [--runs 3] [--wheels FOLDER --requirement torch] [--write]
    python benchmarks/stream.py --against PYTHON [--rounds 5]

One run is everything: the ztoc of a layer, with and without what the other stages want of the same pass; eStargz;
building with records and without; the scan of what was built; memory by size. Without ``--wheels`` some public wheels
are fetched. ``--against``: the scan of a fresh image of two layers, by this build and another of ours (``builds.py``).
Programs that are missing are left out, and said.
"""

from __future__ import annotations

import argparse
import filecmp
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.build_wheels import NUMPY, SMALL, fetch
from benchmarks.builds import Build, Figures, alternate
from benchmarks.measure import Sample
from benchmarks.stream_peers import (
    Layer,
    anonymous_peak_mb,
    ctr_remote_estargz,
    gzip_dc,
    make_layer,
    official_ztoc,
    push_layers,
)
from benchmarks.wheel_builds import SCAN, EmbeddedServerProcess
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.sbom import scan_image
from tests.conftest import find_peer
from tests.doubles.fault_registry import FaultRegistry

COMMAND = "python benchmarks/stream.py --write"
OURS = Path(__file__).with_name("stream_ours.py")
WHEELS = (NUMPY[1], "scipy==1.15.2", *SMALL)
DEPENDENCIES = ("certifi==2025.1.31", "charset-normalizer==3.4.1", "idna==3.10", "urllib3==2.3.0")
GZIP, OWN, RECORD, ALL = "gzip -dc", "ours, a ztoc alone", "ours, the shared record", "ours, with a scan, 2 threads"


def ours(*arguments: str) -> list[str]:
    return [sys.executable, str(OURS), *arguments]


class Fresh:
    """A new empty folder each time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = itertools.count()

    def __call__(self) -> str:
        folder = self._root / f"fresh{next(self._numbers)}"
        folder.mkdir()
        return str(folder)


def index(layer: Layer, fresh: Fresh, runs: int) -> tuple[str, dict[str, float]]:
    """A table, and each one's wall time beside that of gzip."""
    known, last = [str(each) for each in layer.digests()], ""

    def run(what: str) -> Sample:
        nonlocal last
        shutil.rmtree(last, ignore_errors=True)
        last = fresh()
        return measure.run(ours(what, str(layer.path), *known, last), env={"TZ": "UTC"})

    contenders: dict[str, Callable[[], Sample]] = {
        GZIP: lambda: gzip_dc(layer.path),
        OWN: lambda: run("own"),
        RECORD: lambda: run("record"),
        ALL: lambda: run("all"),
    }
    same = "The official builder is missing (`.ci/build-go-peers`)."
    if find_peer("soci-ztoc"):
        official = Path(fresh()) / "ztoc"
        contenders["official SOCI builder"] = lambda: official_ztoc(layer.path, official)
    samples = measure.interleave(contenders, runs=runs)
    if find_peer("soci-ztoc"):
        run("all")
        equal = filecmp.cmp(official, Path(last) / "ztoc", shallow=False)
        same = "Ours is the official ztoc byte for byte." if equal else "**Ours is not the official ztoc.**"
    return f"{measure.comparison(samples, ours=GZIP)}\n\n{same}", ratios(samples, GZIP)


def ratios(samples: Mapping[str, Sequence[Sample]], base: str) -> dict[str, float]:
    least = measure.median(samples[base]).wall_s
    return {name: measure.median(runs).wall_s / least for name, runs in samples.items()}


def convert(layer: Layer, fresh: Fresh, runs: int) -> tuple[str, dict[str, float]]:
    """eStargz: ours so many times, ctr-remote once, since it takes minutes."""
    target = Path(fresh()) / "blob"
    samples = measure.interleave(
        {"ours": lambda: measure.run(ours("estargz", str(layer.path), str(target)))}, runs=runs, warm_up=False
    )
    size = target.stat().st_size
    if not all(find_peer(name) for name in ("ctr-remote", "containerd", "ctr")):
        return f"{measure.comparison(samples, ours='ours')}\n\nctr-remote is missing (`.ci/install-peers`).", {}
    theirs, their_size = ctr_remote_estargz(layer)
    samples["ctr-remote, its default level"] = [theirs]
    said = f"Ours has {size:,} bytes, theirs {their_size:,}: **{size / their_size:.3f}** of it."
    return f"{measure.comparison(samples, ours='ours')}\n\n{said}", ratios(samples, "ours")


def building(wheels: Path, requirements: Sequence[str], fresh: Fresh, runs: int) -> tuple[str, dict[str, float]]:
    """The same image with and without records, each time from nothing; then its scan."""
    folder = ""

    def build(keep: str) -> Sample:
        nonlocal folder
        shutil.rmtree(folder, ignore_errors=True)
        folder = fresh()
        with EmbeddedServerProcess(Path(folder) / "registry") as address:
            return measure.run(ours("build", address, f"{folder}/state", keep, str(wheels), *requirements))

    alone = "building alone"
    contenders: dict[str, Callable[[], Sample]] = {
        alone: lambda: build("nothing"),
        "building, recorded": lambda: build("record"),
        "building, recorded and scanned": lambda: build("scan"),
    }
    samples = measure.interleave(contenders, runs=runs)
    build("scan")
    asked, layers = blobs_read(Path(folder))
    said = f"The scan after building read **{asked} of {layers} layers**."
    return f"{measure.comparison(samples, ours=alone)}\n\n{said}", ratios(samples, alone)


def blobs_read(folder: Path) -> tuple[int, int]:
    """Layers that a scan asked the registry for, and how many the image has."""
    with EmbeddedServerProcess(folder / "registry") as address, FaultRegistry(address) as wire:
        place = Place(DistributionRegistry(wire.address, plain_http=True), "bench/image")
        image = place.registry.resolve(place.repository, "v1")
        manifest = place.registry.get_manifest(place.repository, image.digest).content()
        layers = {str(layer.digest) for layer in manifest.layers}  # type: ignore[union-attr]
        scan_image(place, image, state=folder / "state")
        asked = [one.target for one in wire.seen if one.method == "GET" and one.target.rpartition("/")[2] in layers]
        return len(asked), len(layers)


def memory(layers: Sequence[Layer], fresh: Fresh) -> str:
    """Peak anonymous memory of each act by the layer's size."""
    lines = ["| MB of tar | ztoc alone | record and ztoc | with a scan | eStargz |", "|---|---|---|---|---|"]
    for layer in layers:
        known = [str(each) for each in layer.digests()]
        commands = [ours(what, str(layer.path), *known, fresh()) for what in ("own", "record", "all")]
        commands.append(ours("estargz", str(layer.path), f"{fresh()}/blob"))
        peaks = [f"{anonymous_peak_mb(command):.0f} MB" for command in commands]
        lines.append(f"| {layer.tar_size / 1e6:.0f} | {' | '.join(peaks)} |")
    return "\n".join(lines)


def against(folder: Path, python: str, layers: Sequence[Layer], rounds: int) -> str:
    """The scan of an image that nothing is known of, by two builds of ours."""
    with EmbeddedServerProcess(folder / "registry") as address:
        push_layers(Place(DistributionRegistry(address, plain_http=True), "bench/image"), layers)
        fresh = Fresh(folder)

        def scan(build: Build) -> Figures:
            sample = build.run(SCAN, [address, fresh()], {})
            return {"s": sample.wall_s, "CPU s": sample.cpu_s}

        return alternate({"scan of two layers": scan}, Build(python), rounds)


def measure_all(options: argparse.Namespace, folder: Path) -> list[str]:
    fresh, pages, bars = Fresh(folder), [], {}

    def take(title: str, found: tuple[str, dict[str, float]]) -> None:
        pages.append(f"## {title}\n\n{found[0]}")
        bars[title] = found[1]
        print(pages[-1], flush=True)

    made = []
    for number, share in enumerate((0.1, 1)):
        (folder / f"layer{number}").mkdir()
        made.append(make_layer(folder / f"layer{number}", int(options.mb * share * 1e6)))
    layer = made[-1]
    take(f"The ztoc of a layer: {layer}", index(layer, fresh, options.runs))
    take("The same layer to eStargz", convert(layer, fresh, options.runs))
    wheels = options.wheels
    if wheels is None:
        wheels = folder / "wheels"
        fetch(wheels, *WHEELS, *DEPENDENCIES)
    requirements = options.requirement or list(WHEELS)
    take(f"Building {' '.join(requirements)}", building(wheels, requirements, fresh, options.runs))
    pages.append("## Peak anonymous memory\n\n" + memory(made, fresh))
    print(pages[-1])
    picture = measure.bars("stream", bars) if options.write else ""
    return [picture, *pages] if picture else pages


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=1094, help="of the layer's tar (default %(default)s)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to build from")
    parser.add_argument("--requirement", action="append", help="of the image that is built")
    parser.add_argument("--against", metavar="PYTHON", help="compare with the build that this interpreter runs")
    parser.add_argument("--rounds", type=int, default=5, help="of --against (default %(default)s)")
    parser.add_argument("--folder", help="where the layers lie meanwhile")
    parser.add_argument("--note", default="", help="said above the tables")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/stream.md")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-stream-", dir=options.folder) as name:
        folder = Path(name)
        if options.against:
            layers = []
            for number in range(2):
                (folder / str(number)).mkdir()
                layers.append(make_layer(folder / str(number), int(options.mb * 1e6 / (2 + number))))
            print(against(folder, options.against, layers, options.rounds))
            return
        sections = measure_all(options, folder)
    if options.write:
        noted = [options.note] if options.note else []
        measure.write_page("stream", "Indexing and converting layers", COMMAND, *noted, *sections)


if __name__ == "__main__":
    main()
