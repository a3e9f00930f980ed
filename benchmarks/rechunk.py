"""Rechunking: a PyTorch image of one fat layer, the same with the next numpy, and the same again; against unpacking it
and packing it with tar and ``gzip -6``.

``python benchmarks/rechunk.py``: fetches about 2.7 GB of public wheels (``--wheels FOLDER`` takes those of a folder),
needs 25 GB of free disk for some minutes, and writes docs/benchmarks/rechunk.md. In parts, where a machine is quiet for
minutes at a time only: ``prepare``, ``classic``, ``ours``, ``write``, each with ``--work FOLDER``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import astuple
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.measure import Sample, machine, run, write_page
from benchmarks.wheel_builds import EmbeddedServerProcess
from registry_pipelines.anatomy.rechunk.engine import read_layouts, rechunk
from registry_pipelines.anatomy.rechunk.model import Rechunked
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.progress import size_text
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place

COMMAND = "python benchmarks/rechunk.py"
REQUIREMENT = "torch==2.11.0"
NUMPY = ("numpy==2.4.6", "numpy==2.4.5")
PACKED = 'mkdir -p "$2" && tar -C "$2" -xzf "$1" && tar -C "$2" -cf - . | gzip -6 > "$3"'
STEPS = ("all", "prepare", "classic", "ours", "write", "once")
MOST_MOVED, MOST_TIME, MOST_AGAIN_S, MOST_WALL = 0.03, 0.15, 2.0, 0.5


class Measured(msgspec.Struct):
    """What a part found, for the page."""

    samples: dict[str, tuple[float, float, float]]
    size: int = 0
    made: dict[str, Rechunked] = {}
    machine: str = ""


def once(arguments: argparse.Namespace) -> None:
    """One rechunking, in a process of its own so that its memory can be measured."""
    place = Place(DistributionRegistry(arguments.registry), "bench/app")
    target = Place(DistributionRegistry(arguments.target), "bench/rechunked")
    previous = read_layouts(target, arguments.previous) if arguments.previous else {}
    made = rechunk(place, arguments.image, target, previous=previous, state=arguments.state)
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
    arguments.write.write_bytes(encode_json(made))
    arguments.write.with_suffix(".peak").write_text(str(peak // 1024))


def one(
    work: Path, address: str, target: str, image: str, *, state: str, previous: str = ""
) -> tuple[Sample, Rechunked]:
    answer = work / "answer.json"
    command = [sys.executable, __file__, "once", "--registry", address, "--target", target, "--image", image]
    told = ["--state", str(work / state), "--write", str(answer), "--previous", previous]
    sample = run([*command, *told])
    made = decode_json(answer.read_bytes(), Rechunked)
    sample = Sample(sample.wall_s, sample.cpu_s, float(answer.with_suffix(".peak").read_text()))
    print(f"  {made.derived[:19]} {sample.wall_s:8.2f} s {sample.cpu_s:8.2f} CPU-s {sample.peak_mb:6.0f} MB "
          f"{made.bytes_sent:,} sent", flush=True)  # fmt: skip
    return sample, made


def install(wheels: Path, root: Path, numpy: str) -> None:
    """What ``RUN pip install`` leaves: with the times of now, and with byte code that names them."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--ignore-installed"]
    others = [str(each) for each in sorted(wheels.glob("*.whl")) if not each.name.startswith("numpy-")]
    told = ["--find-links", str(wheels), "--root", str(root), "--prefix", "/usr/local", numpy]
    subprocess.run([*command, *told, *others], check=True)


def image(work: Path, wheels: Path, place: Place, numpy: str) -> tuple[Digest, Path]:
    """One layer of all wheels, compressed fast. What Docker and BuildKit write inflates in two thirds of the time, so
    whoever reads theirs waits less than is measured here."""
    from tests.anatomy.rechunk.images import push_archives  # brings pytest, which no measured process should load

    root, archive = work / "root", work / f"{numpy}.tar.gz"
    if not archive.is_file():
        install(wheels, root, numpy)
        pack = f'tar -C "$1" --owner 0 --group 0 --sort=name -cf - usr | {sys.executable} -m isal.igzip -1 > "$2.part"'
        subprocess.run(["sh", "-c", pack, "sh", str(root), str(archive)], check=True)
        archive.with_name(f"{archive.name}.part").rename(archive)
        shutil.rmtree(root)
    return push_archives(place, [archive]).digest, archive


def fetch(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*command, REQUIREMENT, NUMPY[0]], check=True)
    subprocess.run([*command, "--no-deps", NUMPY[1]], check=True)
    return folder


def row(name: str, sample: Sample, sent: int | None, note: str = "") -> str:
    moved = f"{sent:,}" if sent is not None else ""
    return f"| {name} | {sample.wall_s:.1f} | {sample.cpu_s:.1f} | {sample.peak_mb:.0f} | {moved} | {note} |"


def prepare(work: Path, wheels: Path | None) -> None:
    """Both images in a registry."""
    wheels = wheels or fetch(work / "wheels")
    with EmbeddedServerProcess(work / "registry") as address:
        place = Place(DistributionRegistry(address), "bench/app")
        made = [image(work, wheels, place, numpy)[0] for numpy in NUMPY]
    (work / "images").write_text(" ".join(made))


def classic(work: Path) -> None:
    """Unpack it and pack it again."""
    archive, unpacked, packed = work / f"{NUMPY[0]}.tar.gz", work / "unpacked", work / "packed.tar.gz"
    sample = run(["sh", "-c", PACKED, "sh", str(archive), str(unpacked), str(packed)])
    print(f"  unpack, tar, gzip -6 {sample.wall_s:8.2f} s", flush=True)
    found = Measured({"classic": astuple(sample)}, size=packed.stat().st_size, machine=str(machine()))
    (work / "classic.json").write_bytes(encode_json(found))
    packed.unlink()
    shutil.rmtree(unpacked)


def ours(work: Path) -> None:
    """From nothing, with nothing changed, the next numpy, and the same by who knows nothing."""
    for folder in ("made", "state", "other"):
        shutil.rmtree(work / folder, ignore_errors=True)
    first_image, next_image = (work / "images").read_text().split()
    found = Measured({})
    with EmbeddedServerProcess(work / "registry") as address, EmbeddedServerProcess(work / "made") as target:

        def step(name: str, image: str, state: str = "state", previous: str = "") -> None:
            sample, found.made[name] = one(work, address, target, image, state=state, previous=previous)
            found.samples[name] = astuple(sample)

        step("first", first_image)
        step("again", first_image)
        step("next", next_image, previous=found.made["first"].derived)
        found.machine = str(machine())
        step("other", next_image, state="other")
    (work / "ours.json").write_bytes(encode_json(found))


def page(work: Path) -> None:
    """What both parts found, as the page."""
    theirs, found = (decode_json((work / f"{name}.json").read_bytes(), Measured) for name in ("classic", "ours"))
    packed = Sample(*theirs.samples["classic"])
    first, again, bumped, other = (Sample(*found.samples[name]) for name in ("first", "again", "next", "other"))
    made, changed, elsewhere = (found.made[name] for name in ("first", "next", "other"))
    [before] = made.images
    same = {each.digest for each in before.layers} & {each.digest for each in elsewhere.images[0].layers}
    share = changed.bytes_sent / before.size_after
    rows = [
        "| what | wall s | CPU s | peak MB | bytes sent | |",
        "|---|---|---|---|---|---|",
        row("unpack, tar, `gzip -6`", packed, None, f"{theirs.size:,} bytes"),
        row("rechunk", first, made.bytes_sent, f"{first.wall_s / packed.wall_s:.2f} x; at most {MOST_WALL} is wanted"),
        row("the same image again", again, 0, f"at most {MOST_AGAIN_S:.0f} s is wanted"),
        row(
            "the next numpy",
            bumped,
            changed.bytes_sent,
            f"{bumped.wall_s / first.wall_s:.0%} of the first run's time, {share:.2%} of its bytes; at most "
            f"{MOST_TIME:.0%} and {MOST_MOVED:.0%} are wanted",
        ),
        row(
            "the next numpy, by who knows nothing", other, elsewhere.bytes_sent, f"{len(same)} layers came out the same"
        ),
    ]
    facts = (
        f"The image: {size_text(before.size_before)} in 1 layer, "
        f"{size_text(sum(each.tar_size for each in before.layers))} unpacked. Rechunked: "
        f"{before.size_after:,} bytes in {len(before.layers)} layers, {before.size_after / theirs.size:.4f} of what "
        f"`gzip -6` makes of the same files; {before.rewritten:,} compiled modules rewritten. One round of each."
    )
    moments = f"This machine after the first line: {theirs.machine}; after the fourth: {found.machine}."
    text = "\n".join([facts, "", *rows, "", moments])
    print(text)
    write_page("rechunk", "Rechunking", COMMAND, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", default="all", choices=STEPS)
    for name in ("--registry", "--target", "--image", "--previous"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--work", type=Path)
    told = parser.parse_args()
    if told.step == "once":
        once(told)
        return
    with tempfile.TemporaryDirectory(prefix="rechunk-") as folder:
        work = told.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        steps = {"classic": classic, "ours": ours, "write": page}
        if told.step in ("all", "prepare"):
            prepare(work, told.wheels)
        for name, step in steps.items():
            if told.step in ("all", name):
                step(work)


if __name__ == "__main__":
    main()
