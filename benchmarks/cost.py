"""`report cost` over 100,000 images with 1,000,000 layers of their own, on layers that teams share; the sums are held
against plain dictionaries. Writes docs/benchmarks/cost.md.

    python benchmarks/cost.py [--images 100000] [--layers 10] [--runs 3] [--write]

Each run is a process of its own: it reads the inventory's two Parquet files, splits the bytes, and prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.inventory.parts import Parts
from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Source, now
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest

PROGRAM = str(Path(sys.executable).with_name("registry-pipelines"))
TEAMS, REPOSITORIES, SHARED = 20, 1000, 4
"""Teams, repositories (each of one team), and layers below each image that are shared: two by all, two by a team."""
SETTINGS = """\
registries: {{prod: {{kind: distribution, host: registry.example.com}}}}
report: {{prices: prices.json, teams: {{{teams}}}}}
"""
BOOK = """{"currency": "USD", "date": "2026-11-29", "source": "made up",
 "prices": [{"id": "own/prod/storage", "usd": 0.1, "per": "GB-month", "what": "made up"}]}"""
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "cost.md"

Image = tuple[int, int, dict[int, int]]
"""Team, repository, and bytes by the number of a blob."""


def images(count: int, layers: int) -> Iterator[Image]:
    """Blobs below 1,000 are shared; each image has its config, its manifest and its layers besides."""
    for at in range(count):
        repository = at % REPOSITORIES
        team = repository % TEAMS
        blobs = {each: 50_000_000 + each for each in (0, 1, 10 + 2 * team, 11 + 2 * team)}
        first = 1000 + at * (layers + 2)
        blobs |= {first: 900, first + 1: 4000}
        blobs |= {first + 2 + each: 1_000_000 + at % 977 for each in range(layers)}
        yield team, repository, blobs


def write_inventory(path: Path, count: int, layers: int) -> None:
    answered, rows = now(), Rows()
    for at, (team, repository, blobs) in sorted(enumerate(images(count, layers)), key=lambda each: each[1][1]):
        needs = {Digest(f"sha256:{blob:064x}"): size for blob, size in blobs.items()}
        rows.add(
            Row(
                "prod", f"team-{team}/app-{repository}", Digest(f"sha256:{at + (1 << 200):064x}"), answered,
                tags=[f"v{at}"], size_bytes=sum(blobs.values()), media_type=media_types.OCI_MANIFEST,
                artifact_type=media_types.OCI_CONFIG, children=(), parts=Parts(needs),
            )
        )  # fmt: skip
    rows.inventory([Source(registry="prod", kind="distribution", answered=answered)], ordered=False).write(path)


def long_way(count: int, layers: int) -> tuple[int, dict[str, Fraction]]:
    """Bytes stored, and each team's part, by dictionaries."""
    sizes: dict[int, int] = {}
    teams: dict[int, set[int]] = defaultdict(set)
    for team, _, blobs in images(count, layers):
        sizes |= blobs
        for blob in blobs:
            teams[blob].add(team)
    parts: dict[str, Fraction] = defaultdict(Fraction)
    for blob, size in sizes.items():
        for team in teams[blob]:
            parts[f"team-{team}"] += Fraction(size, len(teams[blob]))
    return sum(sizes.values()), parts


def check(folder: Path, count: int, layers: int) -> None:
    """Raises AssertionError where the program says something else."""
    command = [PROGRAM, "report", "cost", "--from", "stored.parquet", "--by", "team", "--json", "--quiet"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)["result"]["results"]
    stored, parts = long_way(count, layers)
    assert found["facts"]["bytes"] == stored, (found["facts"]["bytes"], stored)
    told = {row["team"]: row["fair_bytes"] for row in found["rows"]}
    assert told.keys() == parts.keys()
    assert all(abs(told[name] - part) <= 1 for name, part in parts.items())


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--layers", type=int, default=10)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--write", action="store_true")
    chosen = options.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teams = ", ".join(f"team-{team}: ['team-{team}/*']" for team in range(TEAMS))
        (folder / "registry-pipelines.yaml").write_text(SETTINGS.format(teams=teams))
        (folder / "prices.json").write_text(BOOK)
        write_inventory(folder / "stored.parquet", chosen.images, chosen.layers)
        command = [PROGRAM, "report", "cost", "--from", "stored.parquet", "--json", "--quiet"]
        samples = [measure.run(command, cwd=folder) for _ in range(chosen.runs)]
        check(folder, chosen.images, chosen.layers)
    middle = measure.median(samples)
    text = measure.beside(
        "# What registries cost\n\n"
        f"`python benchmarks/cost.py`: {chosen.images:,} images in {REPOSITORIES:,} repositories of {TEAMS} teams, "
        f"{chosen.layers * chosen.images:,} layers of their own and {SHARED} shared ones below each. One process reads "
        "the stored inventory, splits every byte over teams, repositories and images, and prints JSON. Bytes and the "
        "teams' parts are held against plain dictionaries.\n\n"
        "| | median | aim |\n|---|--:|--:|\n"
        f"| seconds | {middle.wall_s:.1f} | 60 |\n"
        f"| seconds of CPU | {middle.cpu_s:.1f} | |\n"
        f"| peak memory, MB | {middle.peak_mb:.0f} | 1000 |"
    )
    print(text)
    if chosen.write:
        PAGE.write_text(text + "\n")


if __name__ == "__main__":
    main()
