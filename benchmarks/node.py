"""What `node serve` gives under containerd: the page docs/benchmarks/node.md, part by part.

    python benchmarks/node.py --work FOLDER --rounds 3 starts    # pull, run, second container, beside local files
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

from benchmarks.node_starts import PROGRAM, TITLES, Bench, clear, take_turns
from benchmarks.start import place
from registry_pipelines.progress import Silent
from registry_pipelines.stream.bench.link import ADDRESS, Link
from registry_pipelines.stream.bench.machine import machine_text
from registry_pipelines.stream.bench.preparing import PACK, PLAIN, prepare
from registry_pipelines.stream.bench.serving import CountingRegistry

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


def keep(work: Path, name: str, found: dict[str, Any]) -> None:
    """For the page."""
    folder = work / "results" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    said = {"machine": machine_text(), "date": datetime.now(UTC).strftime("%Y-%m-%d"), **found}
    (folder / f"{name}.json").write_text(json.dumps(said, indent=1))


def measure_starts(bench: Bench, rounds: int, ways: Sequence[str]) -> dict[str, Any]:
    """Once what takes a minute, and turn by turn what is compared."""
    once = [way for way in ways if way in ("docker", "pull")]
    often = [way for way in ways if way not in once]
    samples = take_turns(once, bench, 1, print) if once else {}
    return {"rounds": rounds, "samples": samples | take_turns(often, bench, rounds, print)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("starts",))
    parser.add_argument("--work", type=Path, help="the folder of images and results")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways (default %(default)s)")
    parser.add_argument("--link", type=float, default=1.0, help="Gbit/s (default %(default)s)")
    parser.add_argument("--way", action="append", choices=list(TITLES), help="only this one; may be repeated")
    parser.add_argument("--fill", action="store_true", help="lazy ways fetch the rest meanwhile, too")
    parser.add_argument("--programs", type=Path, default=PROGRAMS, help="folder of containerd, its shim and ctr")
    parser.add_argument("--keep", action="store_true", help="leave the pulled image there for the next run")
    options = parser.parse_args(arguments)
    if options.work is None:
        print("It needs a folder and root, and takes ten minutes: see --help. Nothing was measured.")
        return
    work: Path = options.work.absolute()
    if options.part:
        with prepared(work, options.link, options.programs.absolute(), fill=options.fill) as bench:
            try:
                if options.part == "starts":
                    keep(work, "starts", measure_starts(bench, options.rounds, options.way or list(TITLES)))
            finally:
                if not options.keep:
                    clear(bench.kept)


if __name__ == "__main__":
    main()
