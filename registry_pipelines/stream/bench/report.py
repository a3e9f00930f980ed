"""What a benchmark of starting came to: rows as plain values, tables in Markdown, pictures."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.pictures import Line, bars, time_line
from registry_pipelines.progress import count_text
from registry_pipelines.stream.bench.machine import machine_text
from registry_pipelines.stream.bench.replay import Replayed
from registry_pipelines.stream.bench.rounds import Crowd, Measured, Row
from registry_pipelines.stream.bench.ways import BASELINE, DOCKER, LOCAL, Sample, Setting

RowValues = dict[str, str | int | float | bool | None]


def row_values(row: Row, measured: Measured) -> RowValues:
    """A row for tables and JSON: medians of its starts, and how they stand to others' answers. None where nothing was
    measured."""
    values: RowValues = {"way": row.key, "title": row.title, "runs": len(row.samples)}
    figures = {
        "started_s": row.started_s,
        "result_s": row.result_s,
        "wire_bytes": row.median(lambda each: each.wire_bytes),
        "bytes": row.median(lambda each: each.bytes),
        "requests": row.median(lambda each: each.requests),
        "refused": row.median(lambda each: each.refused),
    }
    for name, value in figures.items():
        values[name] = None if math.isnan(value) else round(value, 3) if name.endswith("_s") else int(value)
    values |= _replay_values(row)
    values["result_of_local"] = _ratio(row.result_s, measured.row(LOCAL))
    for name, key in (("docker", DOCKER), ("docker_baseline", BASELINE)):
        values[f"{name}_times_result"] = _ratio(row.result_s, measured.row(key), inverse=True)
        other = measured.row(key)
        faster = other.started_s / row.started_s if other and row.samples else math.nan
        values[f"{name}_times_started"] = None if math.isnan(faster) else round(faster, 2)
    values["why"] = row.why
    return values


def _replay_values(row: Row) -> RowValues:
    """Medians of what a replay tells of itself; nothing of a program."""
    told = []
    for sample in row.samples:
        try:
            told.append(msgspec.json.decode(sample.clocks.said, type=ready(Replayed)))
        except msgspec.MsgspecError:
            return {}
    names = ("seconds", "stalls", "stalled_s")
    return {f"replay_{name}": statistics.median(getattr(each, name) for each in told) for name in names if told}


def _ratio(mine: float, other: Row | None, *, inverse: bool = False) -> float | None:
    if other is None or math.isnan(mine) or not mine or not other.result_s:
        return None
    return round(other.result_s / mine if inverse else mine / other.result_s, 3)


def crowd_values(crowd: Crowd) -> RowValues:
    """The same of many nodes that started at once."""
    values: RowValues = {"way": crowd.key, "title": crowd.title, "nodes": len(crowd.samples)}
    for name, clock in (("started", _started), ("result", _result)):
        for percent in (50, 99):
            value = crowd.percentile(percent / 100, clock)
            values[f"{name}_p{percent}_s"] = None if math.isnan(value) else round(value, 3)
    values |= {"bytes": crowd.bytes, "requests": crowd.requests, "refused": crowd.refused, "why": crowd.why}
    return values


def _started(sample: Sample) -> float:
    return sample.clocks.started_s


def _result(sample: Sample) -> float:
    return sample.clocks.result_s


def document(
    setting: Setting, measured: Measured | None, crowds: Sequence[Crowd], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything as plain values. facts: more about the run."""
    disk = measured.disk_mb_per_s if measured else []
    return {
        "image": setting.image.reference,
        "image_bytes": setting.image.size,
        "baseline": setting.baseline.reference if setting.baseline else "",
        "baseline_bytes": setting.baseline.size if setting.baseline else 0,
        "link_bits_per_s": setting.link.bits_per_s if setting.link else 0,
        "cached_share": round(setting.image.cached_share, 3),
        "fill": setting.fill,
        "rounds": measured.rounds if measured else 0,
        "disk_mb_per_s": [round(each) for each in disk],
        "machine": machine_text(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "rows": [row_values(row, measured) for row in measured.rows] if measured else [],
        "samples": {row.key: [_sample_values(each) for each in row.samples] for row in measured.rows}
        if measured
        else {},
        "nodes": [crowd_values(crowd) for crowd in crowds],
        **facts,
    }


def _sample_values(sample: Sample) -> dict[str, Any]:
    return {
        "started_s": round(sample.clocks.started_s, 3),
        "result_s": round(sample.clocks.result_s, 3),
        "said": sample.clocks.said,
        "wire_bytes": sample.wire_bytes,
        "bytes": sample.bytes,
        "requests": sample.requests,
        "refused": sample.refused,
    }


def heading(said: Mapping[str, Any]) -> str:
    """What was measured, on what, in one paragraph."""
    rate = said["link_bits_per_s"]
    link = f"a link of {rate / 1e9:g} Gbit/s" if rate else "no link of its own: the machine's loopback"
    parts = [f"`{said['image']}`, {said['image_bytes'] / 1e6:,.0f} MB of compressed layers, over {link}."]
    if said["baseline"]:
        parts.append(f"Unoptimised: `{said['baseline']}`, {said['baseline_bytes'] / 1e6:,.0f} MB.")
    if said["cached_share"]:
        parts.append(f"First layers there: {said['cached_share']:.0%} of the bytes.")
    if said["disk_mb_per_s"]:
        speed = statistics.median(said["disk_mb_per_s"])
        parts.append(f"Medians of {count_text(said['rounds'], 'round')}; the disk read {speed:,.0f} MB/s meanwhile.")
    return " ".join([*parts, f"{said['date']}, {said['machine']}."])


def table(said: Mapping[str, Any]) -> str:
    """The rows in Markdown."""
    baseline, docker = (any(row[name] for row in said["rows"]) for name in _DOCKERS)
    head = ["", "STARTED s", "RESULT s", "RESULT, times local"]
    head += ["faster than Docker, unoptimised: STARTED", "RESULT"] if baseline else []
    head += ["faster than Docker, same image: STARTED", "RESULT"] if docker else []
    replayed = any("replay_stalls" in row for row in said["rows"])
    tail = ["MB over the wire", "requests", *(["first to last page s", "stalls", "stalled s"] if replayed else [])]
    lines = [_line([*head, *tail]), _line(["---"] * (len(head) + len(tail)))]
    for row in said["rows"]:
        if row["result_s"] is None:
            lines.append(_line([row["title"], f"not measured: {row['why']}", *[""] * (len(head) + len(tail) - 2)]))
            continue
        cells = [row["title"], _text(row["started_s"]), f"**{row['result_s']:.2f}**", _text(row["result_of_local"])]
        for wanted, name in ((baseline, "docker_baseline"), (docker, "docker")):
            if wanted:
                cells += [_times(row[f"{name}_times_started"]), _times(row[f"{name}_times_result"])]
        size = row["wire_bytes"] or row["bytes"]
        cells += [f"{size / 1e6:,.1f}", f"{row['requests']:,}"]
        if replayed:
            cells += [_text(row["replay_seconds"]), f"{row['replay_stalls']:,.0f}", _text(row["replay_stalled_s"])]
        lines.append(_line(cells))
    return "\n".join(lines)


_DOCKERS = ("docker_baseline_times_result", "docker_times_result")


def crowd_table(said: Mapping[str, Any]) -> str:
    """Rows of many nodes at once, in Markdown."""
    names = ("STARTED p50 s", "STARTED p99 s", "RESULT p50 s", "RESULT p99 s", "MB", "requests", "429 or 503")
    lines = [_line(["", "nodes", *names]), _line(["---"] * (len(names) + 2))]
    for row in said["nodes"]:
        if not row["nodes"]:
            lines.append(_line([row["title"], f"not measured: {row['why']}", *[""] * len(names)]))
            continue
        clocks = [_text(row[f"{clock}_p{percent}_s"]) for clock in ("started", "result") for percent in (50, 99)]
        counts = [f"{row['bytes'] / 1e6:,.1f}", f"{row['requests']:,}", str(row["refused"])]
        lines.append(_line([row["title"], str(row["nodes"]), *clocks, *counts]))
        if row["why"]:
            lines.append(_line(["", row["why"], *[""] * len(names)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}x" if value >= 10 else f"{value:.1f}x"


def pictures(measured: Measured) -> dict[str, str]:
    """SVG texts: ``bars`` of both clocks, ``line`` of the bytes over time, one start each, the slowest first."""
    rows = [row for row in measured.rows if row.samples]
    if not rows:
        return {}
    clocks = {
        "RESULT, seconds": {row.title: row.result_s for row in rows},
        "STARTED, seconds": {row.title: row.started_s for row in rows},
    }
    lines = [
        Line(row.title, typical.curve, typical.clocks.started_s, typical.clocks.result_s)
        for row in sorted(rows, key=lambda row: -row.result_s)
        for typical in [row.typical()]
        if typical.curve
    ]
    shown = {"bars": bars(clocks, most=None)}
    return {**shown, "line": time_line(lines)} if lines else shown


MISLED = """\
**Where a reader may be misled.** The same runs give "500 times" and "20 times", by what is counted. *STARTED* ends
with the program's first output: a lazy start has fetched almost nothing by then, so it looks like magic, and the work
that follows is slower than it was after a pull. Figures of a *pull phase* alone flatter even more: a lazy pull is a
manifest. *RESULT*, until the answer is there, is what a person waits for; it is in bold, and begins when the command
is given, for Docker with the pull. Beside it stand local files with a cold cache: nothing that comes over a wire
should be faster, and where it seems so, the machine's noise or the other order of reading is what one sees. A page
cache that was not dropped, a warm registry cache beside a cold one, and a link that nobody named are the other ways
to any figure one likes: here files are forgotten before each start, the registry's are in memory for all ways alike,
and so are the files of our own program, as Docker's daemon runs already."""


def write(folder: Path, said: Mapping[str, Any], measured: Measured | None) -> list[Path]:
    """Write ``start.md``, ``start.json`` and the pictures into a folder; the paths. Raises LocalError."""
    from registry_pipelines.oci.files import local_errors

    shown = pictures(measured) if measured else {}
    parts = ["# How long it takes to start", heading(said)]
    parts += [table(said)] if said["rows"] else []
    parts += ["## Many nodes at once", crowd_table(said)] if said["nodes"] else []
    parts += [f"![{name}](start-{name}.svg)" for name in shown]
    parts.append(MISLED)
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = {folder / "start.md": "\n\n".join(parts) + "\n", folder / "start.json": json.dumps(said, indent=1)}
        files |= {folder / f"start-{name}.svg": text for name, text in shown.items()}
        for path, text in files.items():
            path.write_text(text)
    return list(files)
