"""How long a retention plan of a million images takes by a stored inventory, and how much memory.

    python benchmarks/collect.py [--images 1000000] [--repositories 1000] [--write]

The inventory is written before: ten blobs a manifest, of which five are shared within the repository and one with all;
of the manifests 10 % are indexes with two images each, 5 % signatures (referrers). Who plans is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.collect.plan_file import open_plan
from registry_pipelines.inventory import parts as second
from registry_pipelines.inventory.schema import SCHEMA
from registry_pipelines.inventory.value import ROWS_IN_A_GROUP, Source, metadata_of
from registry_pipelines.oci import media_types

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BLOBS = 10
SHARED = 6

CONFIG = """
registries:
  here: {kind: layout, root: content}
signing: {generate: true}
retention:
  - {registry: here, tags: ["v*", "prod*"], keep_newest: 20, keep_days: 90, protect: [prod]}
  - {registry: here, tags: ["dev-*"], keep_newest: 10, keep_days: 14, untagged_days: 7, orphans_days: 0}
"""
PLAN = "from registry_pipelines.cli import main; main()"


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=1_000_000)
    options.add_argument("--repositories", type=int, default=1_000)
    options.add_argument("--runs", type=int, default=1)
    options.add_argument("--write", action="store_true", help="write docs/benchmarks/collect.md")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        write(folder / "images.parquet", chosen.images, chosen.repositories)
        files = [path.stat().st_size / 1e6 for path in sorted(folder.glob("*.parquet"))]
        print(f"inventory written in {time.perf_counter() - began:.0f} s")
        samples = [measure.run(command(folder)) for _ in range(chosen.runs)]
        plan = folder / "plan.json"
        [whole] = [each for each in open_plan(plan).totals if each.of == "registry"]
        images, going, before, freed = whole.images, whole.going, whole.before, whole.freed
        plan_mb = (folder / "plan.json").stat().st_size / 1e6
    best = sorted(samples, key=lambda sample: sample.wall_s)[len(samples) // 2]
    rows = [
        ["images judged", f"{images:,}"],
        ["that go", f"{going:,}"],
        ["bytes before, freed", f"{before / 1e12:.1f} TB, {freed / 1e12:.1f} TB"],
        ["wall, CPU", f"{best.wall_s:.1f} s, {best.cpu_s:.1f} s"],
        ["memory, peak", f"{best.peak_mb:.0f} MB"],
        ["inventory, its parts, plan", f"{files[0]:.0f} MB, {files[1]:.0f} MB, {plan_mb:.0f} MB"],
    ]
    for row in rows:
        print(": ".join(row))
    if chosen.write:
        measure.write_page(
            "collect", "Retention plans", "python benchmarks/collect.py --write", *sections(chosen, rows)
        )


def command(folder: Path) -> list[str]:
    """The command by ``images.parquet`` of a folder; its plan is ``plan.json`` there."""
    config = folder / "registry-pipelines.yaml"
    config.write_text(CONFIG)
    arguments = [
        "collect",
        "plan",
        "here",
        "--from",
        str(folder / "images.parquet"),
        "--save",
        str(folder / "plan.json"),
    ]
    return [sys.executable, "-c", PLAN, *arguments, "--config", str(config), "--json", "--quiet"]


def sections(chosen: argparse.Namespace, rows: list[list[str]]) -> list[str]:
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    text = (
        f"{chosen.images:,} manifests in {chosen.repositories:,} repositories, ten blobs an image, two rules: the "
        "whole command, `collect plan --from`, which signs the plan and keeps it. Wall time is that of a machine with "
        "the load below; CPU time is not."
    )
    load = f"Load of the machine in the last minute: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores."
    return ["## A plan from a stored inventory", text, table, load]


def write(path: Path, images: int, repositories: int) -> None:
    """Both files, a row group at a time."""
    source = Source(registry="here", kind="layout", answered=NOW, images=images, repositories=repositories)
    facts = second.with_metadata(second.SCHEMA.empty_table(), {}).schema
    plain = SCHEMA.with_metadata(metadata_of((source,)))
    with (
        pq.ParquetWriter(path, plain, compression="zstd") as first,
        pq.ParquetWriter(second.beside(path), facts, compression="zstd") as parts,
    ):
        for rows, needs in content(images, repositories):
            first.write_table(rows.replace_schema_metadata(plain.metadata), row_group_size=ROWS_IN_A_GROUP)
            parts.write_table(needs.replace_schema_metadata(facts.metadata), row_group_size=ROWS_IN_A_GROUP)


def content(images: int, repositories: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    each = images // repositories
    for start in range(0, images, ROWS_IN_A_GROUP):
        numbers = np.arange(start, min(images, start + ROWS_IN_A_GROUP))
        yield image_rows(numbers, each), part_rows(numbers, each)


def raw(number: int, kind: int) -> bytes:
    """A digest's bytes; spread, as those of sha256 are."""
    spread = (number * 0x9E3779B97F4A7C15 + kind * 0xC2B2AE3D27D4EB4F) & ((1 << 64) - 1)
    return spread.to_bytes(8, "big") + number.to_bytes(16, "big") + kind.to_bytes(8, "big")


def digest(number: int) -> str:
    return f"sha256:{raw(number, 0).hex()}"


def image_rows(numbers: np.ndarray, each: int) -> pa.Table:  # type: ignore[type-arg]
    """Of twenty manifests two are indexes of the two images behind each, one refers to the image before it."""
    place = numbers % 20
    index = (place == 0) | (place == 5)
    child = np.isin(place, (1, 2, 6, 7))
    refers = place == 11
    names = [f"team-{at // each % 50}/app-{at // each}" for at in numbers.tolist()]
    tags = [
        [] if child[i] or refers[i] or place[i] == 13 else [f"v{at}"] if index[i] else [f"dev-{at}", f"main-{at}"][:1]
        for i, at in enumerate(numbers.tolist())
    ]
    children = [[digest(at + 1), digest(at + 2)] if index[i] else [] for i, at in enumerate(numbers.tolist())]
    subject = [digest(at - 1) if refers[i] else None for i, at in enumerate(numbers.tolist())]
    created = int(NOW.timestamp() * 1e6) - (numbers * 7919 % 400) * 86_400_000_000
    media = np.where(index, 1, 0)
    columns = {
        "registry": ["here"] * len(numbers),
        "repository": names,
        "digest": [digest(at) for at in numbers.tolist()],
        "tags": tags,
        "size_bytes": numbers,
        "media_type": [(media_types.OCI_MANIFEST, media_types.OCI_INDEX)[one] for one in media.tolist()],
        "subject": subject,
        "children": children,
        "created": created,
        "answered": np.full(len(numbers), int(NOW.timestamp() * 1e6)),
    }
    arrays = [
        pa.array(columns[field.name], type=field.type if not pa.types.is_dictionary(field.type) else pa.string()).cast(
            field.type
        )
        if field.name in columns
        else pa.nulls(len(numbers), type=pa.string()).cast(field.type)
        if pa.types.is_dictionary(field.type)
        else pa.nulls(len(numbers), type=field.type)
        for field in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


def part_rows(numbers: np.ndarray, each: int) -> pa.Table:  # type: ignore[type-arg]
    """Itself, a base of everybody, layers of its repository, and three of its own; an index has itself alone."""
    blobs, sizes = [], []
    for at in numbers.tolist():
        if at % 20 in (0, 5):
            blobs.append([raw(at, 0)])
            sizes.append([1000])
            continue
        shared = [raw(at // each * 100 + (at + turn) % 30, 2) for turn in range(SHARED - 1)]
        own = [raw(at, 3 + turn) for turn in range(BLOBS - SHARED - 1)]
        blobs.append([raw(at, 0), raw(0, 1), *shared, *own])
        sizes.append([2000, 30_000_000, *[50_000_000] * len(shared), *[1_000_000] * len(own)])
    count = len(numbers)
    return pa.table(
        [
            pa.array([digest(at) for at in numbers.tolist()]),
            pa.array([True] * count),
            pa.array(blobs, type=pa.list_(pa.binary())),
            pa.array(sizes, type=pa.list_(pa.int64())),
            pa.array([[]] * count, type=pa.list_(pa.string())),
            pa.array([False] * count),
        ],
        schema=second.SCHEMA,
    )


if __name__ == "__main__":
    main()
