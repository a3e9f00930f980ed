"""How long a CUDA image takes to start: the page docs/benchmarks/start.md, part by part.

    python3.12 benchmarks/start.py --work FOLDER image          # fetches 3 GB of public wheels, builds; 3 minutes
    python benchmarks/start.py --work FOLDER unoptimised        # what nobody made smaller, of the same; needs 8 GB more
    python benchmarks/start.py --work FOLDER --rounds 7 product # `import torch`, one product of two matrices
    python benchmarks/start.py --work FOLDER --rounds 7 replays # of starts that an H100 made
    python benchmarks/start.py --work FOLDER --nodes 16 nodes   # so many cold nodes at once
    python benchmarks/start.py --work FOLDER next               # the next release, on a node that has the last one
    python benchmarks/start.py --work FOLDER --write            # the page, of what was measured so far

As root, with iproute2, util-linux, /dev/fuse, and Docker for its rows. ``image`` wants Python 3.12, since replays touch
its byte code. ``--way`` measures some ways only, ``--trace`` some replays. FOLDER keeps the images and the results,
some 40 GB with everything: give it a local disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure, next_release
from benchmarks.start_images import multi, unoptimised
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.preparing import BASELINE_PLACE, OURS, PLAIN
from registry_pipelines.stream.bench.report import MISLED, crowd_table, heading, table

DATA = Path(__file__).with_name("data")
TRACES = ("torch-gpu-4", "resnet-4", "bert-4", "llama-4", "train-4", "jax-4")
REPLAYED = ("pull", "spans-fuse", "estargz-fuse", "pack-fuse", "pack-fanotify", "local")
CROWDS = ("pull", "spans-fuse", "pack-fuse", "pack-fanotify")
COMMAND = "python benchmarks/start.py --work FOLDER --write"
FIELD = {
    "docker-baseline": "unoptimised image",
    "docker": "multi-stage build",
    "docker-cached": "+ layer caching",
    "pack-fuse": "+ streaming (hot pack, FUSE)",
    "pack-fanotify": "+ streaming (hot pack, fanotify)",
}
"""The field's own table of what makes starts faster, row by row."""


@contextmanager
def place(work: Path, name: str) -> Iterator[tuple[Place, str]]:
    """A repository of the registry that ``stream bench start`` measures, and its host: what is there already is not
    copied again."""
    with EmbeddedServer(work / "registry") as server:
        registry = DistributionRegistry(server.address, plain_http=True)
        yield Place(registry, f"{name}/image"), server.address
        registry.close()


def make_image(work: Path) -> None:
    wheels = work / "wheels"
    pins = (DATA / "cuda-starts-requirements.txt").read_text().split()
    if sys.version_info[:2] != (3, 12):
        raise SystemExit("the image is for Python 3.12, and this is another: run it with that")
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(wheels)]
    subprocess.run([*download, *pins], check=True)
    with place(work, PLAIN) as (target, _):
        multi(target, wheels, pins, work / "building")


def make_unoptimised(work: Path) -> None:
    if not (work / "unpacked").is_dir():
        raise SystemExit("it is made of the unpacked image: measure `product` with the way `local` first")
    with place(work, BASELINE_PLACE) as (target, _):
        unoptimised(target, work / "unpacked", work / "wheels", work)


def bench(work: Path, name: str, words: Sequence[str], command: Sequence[str] = ()) -> None:
    """Run ``stream bench start`` on the image, and keep what it found as ``results/NAME``."""
    out = work / "results" / name
    with place(work, PLAIN) as (source, host):
        target = f"{host}/{source.repository}:v1"
        said = [*OURS, "stream", "bench", "start", target, "--work", str(work), "--out", str(out), *words]
        if (work / "registry" / BASELINE_PLACE).is_dir() and not name.startswith(("replay", "nodes")):
            said += ["--baseline", f"{host}/{BASELINE_PLACE}/image:v1"]
        subprocess.run([*said, *(("--", *command) if command else ())], check=True)


def read(work: Path, name: str) -> dict[str, Any] | None:
    path = work / "results" / name / "start.json"
    return json.loads(path.read_text()) if path.exists() else None


def field_table(said: dict[str, Any]) -> str:
    """The rows of the field's table that were measured."""
    rows = {row["way"]: row for row in said["rows"] if row["result_s"] is not None}
    first = next((rows[way] for way in FIELD if way in rows), None)
    lines = ["| | pull and start, RESULT s | times faster | STARTED s |", "|---|---|---|---|"]
    for way, title in FIELD.items():
        if way not in rows:
            why = next((row["why"] for row in said["rows"] if row["way"] == way), "not asked for")
            lines.append(f"| {title} | not measured: {why} | | |")
        elif first is not None:
            row = rows[way]
            cached = f" ({said['cached_share']:.0%} of the bytes there)" if way == "docker-cached" else ""
            times = first["result_s"] / row["result_s"]
            lines.append(f"| {title}{cached} | {row['result_s']:.2f} | {times:.1f}x | {row['started_s']:.2f} |")
    return "\n".join(lines)


def replay_text(said: dict[str, Any]) -> str:
    """What was replayed, with both factors."""
    told = said["workload"]
    parts = [
        f"{told['pages_found']:,} of {told['pages']:,} pages are in the image ({told['files_missing']} files are not, "
        f"{told['files_resized']} have another size; {told['driver_pages']:,} more are the driver's).",
        f"Of {told['disk_s'] + told['work_s']:.2f} s recorded {told['disk_s']:.2f} s are gaps below 1 ms, dropped; the "
        f"other {told['work_s']:.2f} s are multiplied by {told['scale']:.3f}, for {told['warm_s']:.2f} s from memory",
    ]
    parts.append(f"(tried: {told['from_memory_s']:.2f} s)." if "from_memory_s" in told else "(not tried).")
    return " ".join(parts)


def page(work: Path) -> list[str]:
    sections = [MISLED]
    if product := read(work, "product"):
        sections += ["## `import torch`, one product of two matrices, its sum", heading(product)]
        sections += [field_table(product), "All ways:", table(product)]
        for name, text in (
            ("bars", "Both clocks of each way"),
            ("line", "Bytes over the wire by time, one start each"),
        ):
            source = work / "results" / "product" / f"start-{name}.svg"
            if source.exists():
                shutil.copy(source, measure.DOCS / f"start-{name}.svg")
                sections.append(f"![{text}](start-{name}.svg)")
    replays = [said for trace in TRACES if (said := read(work, f"replay-{trace}"))]
    if replays:
        sections.append("## Starts of an H100, replayed")
        sections.append(
            "Pages are touched in the order in which the start read them, libraries by mapping and other files by "
            "reading, with its pauses, on an image of the same public packages. While it pauses a replay takes no "
            "processor, which a real start does; looking for files that are not there is not replayed."
        )
    for said in replays:
        sections += [f"### {said['workload']['workload']}", heading(said), replay_text(said), table(said)]
    if following := read(work, "next"):
        sections += ["## The next release, one wheel changed, where the last one is", next_release.table(following)]
    if crowd := read(work, "nodes"):
        sections += [
            "## Many cold nodes at once: one image, one registry, one link",
            heading(crowd),
            crowd_table(crowd),
        ]
        sections.append("All nodes share the processors of one machine here; real ones have their own.")
    return sections


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("image", "unoptimised", "product", "replays", "nodes", "next"))
    parser.add_argument("--work", type=Path, help="the folder of images and results")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=16, help="that start at once (default %(default)s)")
    parser.add_argument("--link", default="1", help="Gbit/s (default %(default)s)")
    parser.add_argument("--way", action="append", help="only this one; may be repeated")
    parser.add_argument("--trace", action="append", choices=TRACES, help="only this replay; may be repeated")
    parser.add_argument("--note", default="", help="said above the tables")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/start.md")
    options = parser.parse_args(arguments)
    if options.work is None:
        print("It needs a folder and root, and takes an hour: see --help. Nothing was measured.")
        return
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)

    def ways(default: Sequence[str] = ()) -> list[str]:
        chosen = [word for way in options.way or default for word in ("--way", way)]
        return [*chosen, "--link", options.link]

    if options.part == "image":
        make_image(work)
    elif options.part == "unoptimised":
        make_unoptimised(work)
    elif options.part == "product":
        program = ("/usr/local/bin/python3", "/app/matmul.py")
        bench(work, "product", ["--rounds", str(options.rounds), *ways()], program)
    elif options.part == "replays":
        for trace in options.trace or TRACES:
            replay = ["--replay", f"{DATA / 'cuda-starts.tar.xz'}:{trace}"]
            bench(work, f"replay-{trace}", ["--rounds", str(options.rounds), *replay, *ways(REPLAYED)])
    elif options.part == "nodes":
        program = ("/usr/local/bin/python3", "/app/matmul.py")
        bench(work, "nodes", ["--nodes", str(options.nodes), *ways(CROWDS)], program)
    elif options.part == "next":
        out = work / "results" / "next"
        out.mkdir(parents=True, exist_ok=True)
        (out / "start.json").write_text(json.dumps(next_release.measure_next(work), indent=1))
        print(next_release.table(json.loads((out / "start.json").read_text())))
    if options.write:
        noted = [options.note] if options.note else []
        measure.write_page("start", "How long a CUDA image takes to start", COMMAND, *noted, *page(work))


if __name__ == "__main__":
    main()
