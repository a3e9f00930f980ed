"""What `node serve` gives under containerd: the page docs/benchmarks/node.md, part by part.

    python benchmarks/node.py --work FOLDER --write all          # everything, eight minutes, and the page
    python benchmarks/node.py --work FOLDER --rounds 7 starts    # pull, run, second container, beside local files
    python benchmarks/node.py --work FOLDER --fill --way fuse --way local --keep starts
    python benchmarks/node.py --work FOLDER memory               # five images mounted; the agent's own start
    python benchmarks/node.py --work FOLDER plain                # pulls that it cannot serve
    python benchmarks/node.py --work FOLDER crowd                # sixteen containers of eight images at once
    python benchmarks/node.py --work FOLDER --write              # the page, of what was measured so far

As root, with the tools of ``benchmarks/start.py``, whose FOLDER it is, with its image; and containerd 2 (`--programs`:
the folder of it, its shim and ctr; `.ci/install-peers --long` makes one).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.node_agent import carriers, measure_crowd, measure_memory, measure_own_start, measure_plain
from benchmarks.node_page import sections
from benchmarks.node_starts import PROGRAM, TITLES, Bench, clear, take_turns
from benchmarks.start import place
from registry_pipelines.progress import Silent
from registry_pipelines.stream.bench.link import ADDRESS, Link
from registry_pipelines.stream.bench.machine import machine_text
from registry_pipelines.stream.bench.preparing import PACK, PLAIN, prepare
from registry_pipelines.stream.bench.serving import CountingRegistry

PARTS = ("starts", "memory", "plain", "crowd")
PLAIN_IMAGES = 15
RESULTS = Path("results") / "node"
COMMAND = "python benchmarks/node.py --work FOLDER --write all"
PROGRAMS = Path(__file__).parent.parent / ".peers" / "containerd2"


@contextmanager
def prepared(work: Path, gigabits: float, programs: Path, *, fill: bool) -> Iterator[Bench]:
    """The image with its hot pack, behind a link."""
    with place(work, PLAIN) as (source, host):
        name = f"{host}/{source.repository}:v1"
        image = prepare(source, "v1", name, work, forms=(PLAIN, PACK), command=PROGRAM, progress=Silent())
    if image.why_not:
        raise SystemExit(f"the image has no hot pack: {image.why_not}")
    (work / "nodes").mkdir(exist_ok=True)
    with (
        Link(gigabits * 1e9) as link,
        CountingRegistry(image.root, ADDRESS, link.registry.enter) as registry,
    ):
        yield Bench(image, registry, link, programs, fill)


def keep(work: Path, name: str, found: dict[str, Any], note: str = "") -> None:
    """For the page."""
    folder = work / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    said = {"machine": machine_text(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), "note": note, **found}
    (folder / f"{name}.json").write_text(json.dumps(said, indent=1))


def measure_starts(bench: Bench, rounds: int, ways: Sequence[str]) -> dict[str, Any]:
    """Once what takes a minute, and turn by turn what is compared."""
    once = [way for way in ways if way in ("docker", "pull")]
    often = [way for way in ways if way not in once]
    samples = take_turns(once, bench, 1, print) if once else {}
    return {"rounds": rounds, "samples": samples | take_turns(often, bench, rounds, print)}


def measure_parts(bench: Bench, options: argparse.Namespace) -> None:
    """What was asked for."""
    work, note = bench.image.work, options.note
    parts = PARTS if options.part == "all" else (options.part,)
    if "starts" in parts:
        ways = options.way or [way for way in TITLES if options.docker or way != "docker"]
        name = "starts-fill" if options.fill else "starts"
        keep(work, name, measure_starts(bench, options.rounds, ways), note)
    if "memory" in parts:
        kinds = [(each, True) for each in carriers(bench)] + [("fuse", False)]
        found = [measure_memory(bench, each, print, packed=packed) for each, packed in kinds]
        keep(work, "memory", {"found": found, "start_s": measure_own_start(bench, options.rounds)}, note)
    if "plain" in parts:
        keep(work, "plain", measure_plain(bench, PLAIN_IMAGES, print), note)
    if "crowd" in parts:
        keep(work, "crowd", {"found": [measure_crowd(bench, each, print) for each in carriers(bench)]}, note)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("all", *PARTS))
    parser.add_argument("--work", type=Path, help="the folder of images and results")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways (default %(default)s)")
    parser.add_argument("--link", type=float, default=1.0, help="Gbit/s (default %(default)s)")
    parser.add_argument("--way", action="append", choices=list(TITLES), help="only this one; may be repeated")
    parser.add_argument("--docker", action="store_true", help="a Docker daemon of its own, too: a minute more")
    parser.add_argument("--fill", action="store_true", help="lazy ways fetch the rest meanwhile, too")
    parser.add_argument("--programs", type=Path, default=PROGRAMS, help="folder of containerd, its shim and ctr")
    parser.add_argument("--keep", action="store_true", help="leave the pulled image there, 10 GB, for the next run")
    parser.add_argument("--note", default="", help="said above the tables")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/node.md")
    options = parser.parse_args(arguments)
    if options.work is None:
        print("It needs a folder and root, and takes eight minutes: see --help. Nothing was measured.")
        return
    work: Path = options.work.absolute()
    if options.part:
        with prepared(work, options.link, options.programs.absolute(), fill=options.fill) as bench:
            try:
                measure_parts(bench, options)
            finally:
                if not options.keep:
                    clear(bench.kept)
    if options.write:
        measure.write_page("node", "What node serve gives under containerd", COMMAND, *sections(work / RESULTS))


if __name__ == "__main__":
    main()
