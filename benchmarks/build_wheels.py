"""Building: wheels to layers, what a bumped wheel moves, how long a new application takes, peak memory.

``python benchmarks/build_wheels.py``: fetches about 1.2 GB of public wheels, needs 12 GB of free disk for some minutes,
and writes docs/benchmarks/build.md. ``--against PYTHON --wheels FOLDER`` compares with another build of ours instead.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import Sample, beside, comparison, interleave, median, run, write_page
from benchmarks.wheel_builds import EmbeddedServerProcess, against
from registry_pipelines.build.builder import BuildResult, BuildSpec
from registry_pipelines.build.interpreter import interpreter_scheme
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.record import encode_hash
from registry_pipelines.build.splice import LayerWriter
from registry_pipelines.build.wheel import open_wheel
from registry_pipelines.build.wheel_layer import WheelLayer
from registry_pipelines.build.wheel_store import read_sha256
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place

COMMAND = "python benchmarks/build_wheels.py"
CUDA = ("nvidia-cublas-cu12==12.9.1.4", "nvidia-cusparse-cu12==12.5.10.65")
SMALL = ("packaging==24.2", "click==8.1.8", "jinja2==3.1.6", "markupsafe==3.0.2", "requests==2.32.3")
NUMPY = ("numpy==2.2.5", "numpy==2.2.6")
GIB = 1024**3


def make_layer(wheel: Path, target: Path, *, byte_code: bool) -> None:
    """One wheel to one layer with everything a build checks: sha256, RECORD, CRC, both digests."""
    with ThreadPoolExecutor(1) as pool, target.open("wb") as out, LayerWriter(out.write) as writer:
        check = pool.submit(read_sha256, wheel)
        layer = WheelLayer(writer, interpreter_scheme(), byte_code=byte_code, advance=lambda count: None)
        layer.add(open_wheel(wheel))
        writer.finish()
        if check.result() != os.environ["WHEEL_SHA256"]:
            raise SystemExit(f"{wheel} has another hash")


def build(arguments: argparse.Namespace) -> None:
    """One whole build, in a process of its own so that its memory can be measured."""
    spec = BuildSpec(
        name="bench", requirements=tuple(arguments.requirements), wheels=arguments.wheels, version=arguments.version
    )
    place = Place(DistributionRegistry(arguments.registry), arguments.repository)
    LayersBuilder(arguments.state).build(spec, place)
    # VmHWM and not ru_maxrss: the latter starts with the size of the process that forked.
    status = Path("/proc/self/status").read_text()
    print(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


def child(*arguments: str) -> Sample:
    return run([sys.executable, __file__, *arguments])


def fetch(folder: Path, *requirements: str) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*command, *requirements], check=True)
    return sorted(folder.glob("*.whl"))


def compare_layers(wheel: Path, folder: Path, runs: int) -> tuple[str, float]:
    """Ours against unzip, tar and gzip -6, which make no digest and check no RECORD."""
    ours, theirs, unpacked = folder / "ours.tar.gz", folder / "theirs.tar.gz", folder / "unpacked"
    os.environ["WHEEL_SHA256"] = hashlib.file_digest(wheel.open("rb"), "sha256").hexdigest()

    def classic() -> Sample:
        shutil.rmtree(unpacked, ignore_errors=True)
        script = 'unzip -q "$1" -d "$2" && tar -C "$2" -cf - . | gzip -6 > "$3"'
        return run(["sh", "-c", script, "sh", str(wheel), str(unpacked), str(theirs)])

    def spliced() -> Sample:
        return child("layer", str(wheel), str(ours))

    def complete() -> Sample:
        return child("layer", "--byte-code", str(wheel), str(folder / "complete.tar.gz"))

    print(wheel.name)
    samples = interleave(
        {"splice": spliced, "splice, byte code": complete, "unzip, tar, gzip -6": classic}, runs=runs, warm_up=False
    )
    subprocess.run(["gzip", "-t", ours], check=True)
    ratio = median(samples["unzip, tar, gzip -6"]).wall_s / median(samples["splice"]).wall_s
    whole = folder / "complete.tar.gz"
    sizes = (
        f"{ours.stat().st_size:,} bytes against {theirs.stat().st_size:,} ({whole.stat().st_size:,} with byte code); "
        f"the wheel has {wheel.stat().st_size:,}."
    )
    text = f"`{wheel.name}`\n\n{comparison(samples, ours='splice')}\n\nLayer: {sizes}"
    for path in (ours, theirs, whole):
        path.unlink()
    shutil.rmtree(unpacked)
    return text, ratio


def rows_of(result: BuildResult) -> str:
    lines = ["| layer | bytes | how |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.contents} | {row.size:,} | {row.how} |" for row in result.layers)])


def bump(folder: Path) -> list[str]:
    """A 1 GB image, then the same with the next numpy, then with another application."""
    application = folder / "application"
    application.mkdir()
    (application / "app.py").write_text("print(1)\n")
    builder = LayersBuilder(folder / "state")
    with EmbeddedServer(folder / "registry") as server:
        place = Place(DistributionRegistry(server.address), "bench/cuda")

        def make(version: str, numpy: str) -> BuildResult:
            pins = (*CUDA, *SMALL, numpy, "nvidia-nvjitlink-cu12==12.9.86", *_REQUESTS)
            return builder.build(
                BuildSpec(name="cuda", requirements=pins, application=application, version=version), place
            )

        first = make("v1", NUMPY[0])
        again = make("v1", NUMPY[0])
        bumped = make("v2", NUMPY[1])
        (application / "app.py").write_text("print(2)\n")
        changed = make("v3", NUMPY[1])
        total = sum(row.size for row in first.layers)
        moved = [row for row in bumped.layers if not row.reused]
        assert [row.contents for row in moved] == [NUMPY[1].replace("==", " ")], moved
        assert not again.changed
        rest = bumped.bytes_uploaded - moved[0].size
        return [
            f"Image of {total:,} bytes in {len(first.layers)} layers, wheels fetched, converted and pushed in "
            f"{first.seconds:.1f} s.",
            f"The same again: nothing moved, {again.seconds:.2f} s.",
            f"{NUMPY[0]} to {NUMPY[1]}: **{bumped.bytes_uploaded:,} bytes** "
            f"({100 * bumped.bytes_uploaded / total:.2f} %) in {bumped.seconds:.1f} s with pip and download: "
            f"numpy's layer {moved[0].size:,}, config, manifest and provenance {rest:,}.",
            f"Another application: {changed.bytes_uploaded:,} bytes, **{changed.seconds:.2f} s**.",
            beside(rows_of(bumped)),
        ]


_REQUESTS = ("certifi==2025.1.31", "charset-normalizer==3.4.1", "idna==3.10", "urllib3==2.3.0")


def memory(folder: Path) -> str:
    """Peak memory of a build whose one wheel makes a layer of 2 GiB."""
    wheels = folder / "wheels"
    wheels.mkdir()
    path = wheels / "huge-1.0-py3-none-any.whl"
    write_huge_wheel(path)
    with EmbeddedServerProcess(folder / "registry") as address:
        command = [
            *(sys.executable, __file__, "build", "--registry", address, "--repository", "bench/huge"),
            *("--state", str(folder / "state"), "--wheels", str(wheels), "--version", "v1", "huge==1.0"),
        ]
        peak_kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    return (
        f"A wheel of {path.stat().st_size:,} bytes, converted and pushed to the embedded server: "
        f"**{peak_kib / 1024:.0f} MB** peak memory of the building process."
    )


def write_huge_wheel(path: Path) -> None:
    """Two files of 1 GiB that do not compress, as deflate streams."""
    noise = random.Random(1).randbytes(64 * 1024 * 1024)
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(2):
            digest = hashlib.sha256()
            with archive.open(f"huge/part{number}.bin", "w", force_zip64=True) as member:
                for _ in range(GIB // len(noise)):
                    digest.update(noise)
                    member.write(noise)
            rows.append((f"huge/part{number}.bin", digest.digest(), GIB))
        metadata = {
            "huge-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: huge\nVersion: 1.0\n",
            "huge-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, content in metadata.items():
            archive.writestr(name, content)
            rows.append((name, hashlib.sha256(content).digest(), len(content)))
        record = "".join(f"{name},sha256={encode_hash(raw)},{size}\n" for name, raw, size in rows)
        archive.writestr("huge-1.0.dist-info/RECORD", record + "huge-1.0.dist-info/RECORD,,\n")


def measure_all(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="build-bench-") as name:
        folder = Path(name)
        sections = [
            "## One wheel to one layer\n\nOurs also checks the wheel's sha256, RECORD and CRC-32 and gives both "
            "digests; the other side does none of it. Byte code is compiled, so it costs what compiling costs."
        ]
        for number, requirement in enumerate((CUDA[0], NUMPY[1])):
            (wheel,) = fetch(folder / f"wheel{number}", requirement)
            text, ratio = compare_layers(wheel, folder, runs)
            print(f"  ratio {ratio:.1f}")
            sections.append(text)
        (folder / "bump").mkdir()
        sections.append("## A bumped wheel\n\n" + "\n\n".join(bump(folder / "bump")))
        shutil.rmtree(folder / "bump")
        (folder / "memory").mkdir()
        sections.append("## Memory\n\n" + memory(folder / "memory"))
        write_page("build", "Building: wheels to layers", COMMAND, *sections)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", metavar="PYTHON", help="compare with the build that this interpreter runs")
    parser.add_argument("--rounds", type=int, default=3, help="of --against (default %(default)s)")
    parser.add_argument("--wheels", dest="folder", type=Path, help="a folder of wheels, for --against")
    parser.add_argument("--requirement", action="append", help="for --against (default torch)")
    commands = parser.add_subparsers(dest="command")
    layer = commands.add_parser("layer")
    layer.add_argument("--byte-code", action="store_true")
    layer.add_argument("wheel", type=Path)
    layer.add_argument("target", type=Path)
    whole = commands.add_parser("build")
    for option in ("--registry", "--repository", "--version"):
        whole.add_argument(option)
    for option in ("--state", "--wheels"):
        whole.add_argument(option, type=Path)
    whole.add_argument("requirements", nargs="+")
    told = parser.parse_args(arguments)
    started = time.monotonic()
    if told.command == "layer":
        make_layer(told.wheel, told.target, byte_code=told.byte_code)
    elif told.command == "build":
        build(told)
    elif told.against:
        with tempfile.TemporaryDirectory(prefix="build-bench-") as name:
            table = against(Path(name), told.against, told.folder, told.requirement or ["torch"], told.rounds)
        print(table)
    else:
        measure_all(told.runs)
        print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
