"""The page docs/benchmarks/node.md, of what ``benchmarks/node.py`` kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.node_rig import OURS_NAME, STOCK
from benchmarks.node_starts import TITLES
from registry_pipelines.pictures import bars
from registry_pipelines.progress import count_text

Said = Mapping[str, Any]
BARS = {"fuse": 1.25, "fanotify": 1.10}
"""RESULT, as many times that of the same image pulled before."""
PULL_S, MEMORY_MB, ADDED_MS = 0.5, 150, 20
_LOCAL = "local"


def sections(folder: Path) -> Iterator[str]:
    """Of the page, of what is in the folder. Writes the picture, too."""
    starts, fill, agent, plain, crowd = (
        _read(folder, name) for name in ("starts", "starts-fill", "memory", "plain", "crowd")
    )
    yield (
        "One containerd on one node at one end of a link of 1 Gbit/s, the registry at the other end. A start begins "
        "when `ctr images pull` is called, on a node that has nothing of the image, with all files forgotten; then "
        "comes `ctr run`. Beside it `ctr run` of the same image by the same containerd, which pulled it before, with a "
        "cold cache: its RESULT has no pull in it, those of the others have theirs. `times local` is a way's RESULT as "
        "many times that one's: less is better."
    )
    if verdicts := list(_verdicts(starts, agent, plain)):
        yield "\n".join(["| | measured | bar | |", "|---|---|---|---|", *verdicts])
    if starts:
        yield f"## `import torch`, one product of two matrices, its sum\n\n{_heading(starts)}"
        yield _starts_table(starts)
        yield _picture(starts)
        yield f"## A second container of the image\n\n{_second_table(starts)}"
    if fill:
        yield f"## The same while the rest is fetched, too (`--fill`)\n\n{_heading(fill)}\n\n{_starts_table(fill)}"
    if agent:
        yield f"## Memory of the agent\n\n{_memory_text(agent)}"
    if plain:
        yield f"## A pull that it cannot serve\n\n{_plain_text(plain)}"
    if crowd:
        yield f"## Sixteen containers of eight images at once\n\n{_crowd_table(crowd)}"
    parts = (
        (starts, "starts"),
        (fill, "starts while the rest is fetched"),
        (agent, "memory of the agent"),
        (plain, "pulls that it cannot serve"),
        (crowd, "many containers at once"),
    )
    if left_out := [name for found, name in parts if not found]:
        yield f"Not measured for this page: {', '.join(left_out)}."


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _heading(said: Said) -> str:
    told = f"{count_text(said['rounds'], 'round')}, in turns; medians. {said['date']}, {said['machine']}."
    return f"{told} {said['note']}".strip()


def _median(rows: Sequence[Said], what: Callable[[Said], float]) -> float:
    return statistics.median(map(what, rows))


def _result(row: Said) -> float:
    return float(row["result_s"])


def _run_alone(row: Said) -> float:
    return float(row["result_s"] - row.get("pull_s", 0.0))


def _verdicts(starts: Said | None, agent: Said | None, plain: Said | None) -> Iterator[str]:
    def line(what: str, found: str, bar: str, met: bool) -> str:
        return f"| {what} | {found} | {bar} | {'met' if met else '**missed**'} |"

    for carrier, bar in BARS.items() if starts else ():
        rows, local = starts["samples"].get(carrier), starts["samples"].get(_LOCAL)  # type: ignore[index]
        if not rows:
            continue
        pull = _median(rows, lambda row: row["pull_s"])
        yield line(f"pull answered, {carrier}", f"{pull:.2f} s", f"{PULL_S} s", pull <= PULL_S)
        if local:
            ratio = _median(rows, _result) / _median(local, _result)
            yield line(f"RESULT with the pull, {carrier}, times local", f"{ratio:.2f}", f"{bar:.2f}", ratio <= bar)
        asked = sum(row["second"]["fetched_bytes"] + row["second"]["requests"] for row in rows)
        yield line(f"asked of the registry by a second container, {carrier}", str(asked), "0", not asked)
    for found in agent["found"] if agent else ():
        most = found["rows"][-1]["anonymous_mb"]
        what = "hot packs" if found["packed"] else "indexes alone"
        images = len(found["rows"]) - 1
        told = f"agent's memory, {images} images with {what}, {found['carrier']}"
        yield line(told, f"{most:.0f} MB", f"{MEMORY_MB} MB", most <= MEMORY_MB)
    if plain:
        added = _added_ms(plain)
        yield line("added to a pull that it cannot serve", f"{added:.0f} ms", f"{ADDED_MS} ms", added <= ADDED_MS)


def _starts_table(said: Said) -> str:
    local = said["samples"].get(_LOCAL)
    lines = [
        "| | pull s | STARTED s | RESULT s | times local | without the pull | MB over the wire | requests |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, title in TITLES.items():
        rows = said["samples"].get(way)
        if not rows:
            lines.append(f"| {title} | not measured | | | | | | |")
            continue
        pull = f"{_median(rows, lambda row: row['pull_s']):.2f}" if "pull_s" in rows[0] else ""
        cells = [title, pull, f"{_median(rows, lambda row: row['started_s']):.2f}", f"**{_median(rows, _result):.2f}**"]
        cells.append(f"{_median(rows, _result) / _median(local, _result):.2f}" if local else "")
        cells.append(f"{_median(rows, _run_alone) / _median(local, _run_alone):.2f}" if local and pull else "")
        cells += [f"{_median(rows, lambda row: row['wire_bytes']) / 1e6:,.1f}"]
        cells += [f"{_median(rows, lambda row: row['requests']):,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _picture(said: Said) -> str:
    groups = {
        name: {TITLES[way]: _median(rows, itemgetter(clock)) for way, rows in said["samples"].items() if rows}
        for name, clock in (("RESULT, seconds", "result_s"), ("STARTED, seconds", "started_s"))
    }
    (measure.DOCS / "node-bars.svg").write_text(bars(groups, most=None))
    return "![Both clocks of each way](node-bars.svg)"


def _second_table(said: Said) -> str:
    lines = [
        "| | RESULT s | bytes fetched | requests to the registry | reads that waited | calls of read(2) by the agent |",
        "|---|---|---|---|---|---|",
    ]
    for way in BARS:
        rows = [row["second"] for row in said["samples"].get(way) or ()]
        if rows:
            names = ("fetched_bytes", "requests", "stalls", "reads_of_agent")
            cells = [f"{_median(rows, _result):.2f}", *(f"{max(row[name] for row in rows):,}" for name in names)]
            lines.append(f"| {way} | {' | '.join(cells)} |")
    lines.append(
        "\nThe last column counts calls of read(2) by the agent; a question of the kernel's takes one or two. By FUSE "
        "files are opened and closed at the agent, so that large ones are read without it; of content nothing is asked."
    )
    return "\n".join(lines)


def _memory_text(said: Said) -> str:
    lines = ["| | images mounted | MB | threads | processes |", "|---|---|---|---|---|"]
    for found in said["found"]:
        title = f"{found['carrier']}, {'hot packs' if found['packed'] else 'indexes alone'}"
        for count, row in enumerate(found["rows"]):
            lines.append(f"| {title} | {count} | {row['anonymous_mb']:.0f} | {row['threads']} | {row['processes']} |")
            title = ""
    lines.append(
        "\nAnonymous memory of the agent and of what it started, a page that a process shares with its twin once, "
        "after a container of each image ran `import torch`. "
        "Layers that it reads are mapped files, which the kernel drops when it needs room, and are not in it."
    )
    if said["start_s"]:
        lines.append(f"\nIts socket is there {statistics.median(said['start_s']):.2f} s after it was started.")
    return "\n".join(lines)


def _added_ms(said: Said) -> float:
    ours, stock = said["seconds"][OURS_NAME], said["seconds"][STOCK]
    return float(statistics.median(ours) - statistics.median(stock)) * 1000


def _plain_text(said: Said) -> str:
    ours, stock = (statistics.median(said["seconds"][name]) * 1000 for name in (OURS_NAME, STOCK))
    count = len(said["seconds"][STOCK])
    return (
        f"Images of twelve small layers without an index, each pulled once by containerd's own snapshotter and once by "
        f"ours, in turns, {count} of them: medians {stock:.0f} ms and {ours:.0f} ms, **{ours - stock:+.0f} ms**."
    )


def _crowd_table(said: Said) -> str:
    lines = [
        "| | all pulled s | first answer s | median s | last s | requests | agent MB | threads |",
        "|" + "---|" * 8,
    ]
    for found in said["found"]:
        times = found["results_s"]
        cells = [found["pulled_s"], times[0], statistics.median(times), times[-1]]
        counts = f"{found['requests']} | {found['anonymous_mb']:.0f} | {found['threads']}"
        lines.append(f"| {found['carrier']} | {' | '.join(f'{each:.1f}' for each in cells)} | {counts} |")
    lines.append("\nAll on one cold node; its processors are shared by all containers.")
    return "\n".join(lines)


__all__ = ["sections"]
