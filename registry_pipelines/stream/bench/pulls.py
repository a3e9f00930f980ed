"""How long two images take to be pulled, by each client, and what kept them waiting."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.pictures import bars
from registry_pipelines.progress import count_text
from registry_pipelines.stream.bench.counters import Spent, read_counters, spent
from registry_pipelines.stream.bench.machine import drop_caches, machine_text
from registry_pipelines.stream.bench.pullers import PulledImage, Puller

NAMES = ("A", "B")


@dataclass
class Pulls:
    """One image by one client."""

    image: str
    """``A`` or ``B``."""
    client: str
    title: str
    why: str = ""
    """Why it was not measured."""
    samples: list[Spent] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Of each pull."""
        return [each.seconds for each in self.samples]

    def typical(self) -> Spent:
        """The sample nearest to the median."""
        middle = statistics.median(self.seconds)
        return min(self.samples, key=lambda each: abs(each.seconds - middle))


def measure(
    images: Sequence[PulledImage],
    clients: Sequence[Puller],
    rounds: int,
    timeout_s: float,
    say: Callable[[str], object],
) -> list[Pulls]:
    """Pull two images by each client in turns; local copies are removed after each pull, and files forgotten before.

    A client that fails is not asked for that image again, and its row says why.
    """
    rows = [Pulls(name, client.key, client.title) for client in clients for name in NAMES]
    try:
        for client in clients:
            if why := client.missing(list(images), timeout_s):
                for row in rows:
                    row.why = why if row.client == client.key else row.why
        for turn in range(rounds):
            for row in (*rows[turn % len(rows) :], *rows[: turn % len(rows)]):
                if not row.why:
                    client = next(each for each in clients if each.key == row.client)
                    _measure(row, images[NAMES.index(row.image)], client, timeout_s, say)
    finally:
        for client in clients:
            client.close()
    return rows


def _measure(row: Pulls, image: PulledImage, client: Puller, timeout_s: float, say: Callable[[str], object]) -> None:
    try:
        row.samples.append(_once(image, client, timeout_s))
    except RegistryPipelinesError as error:
        row.why, row.samples = error.what, []
        say(f"{row.image} by {row.title}: {error}")
    else:
        say(f"{row.image} by {row.title}: {row.samples[-1].seconds:.2f} s")


def _once(image: PulledImage, client: Puller, timeout_s: float) -> Spent:
    drop_caches()
    before = read_counters()
    try:
        client.pull(image, timeout_s)
        return spent(before, read_counters(), loopback=image.local)
    finally:
        client.forget(image)


def document(
    images: Sequence[PulledImage], rows: Sequence[Pulls], rounds: int, link_bits_per_s: float, notes: Sequence[str]
) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "images": {name: image.reference for name, image in zip(NAMES, images, strict=True)},
        "iterations": rounds,
        "link_bits_per_s": link_bits_per_s,
        "machine": machine_text(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "rows": [_values(row, rows, link_bits_per_s / 8) for row in rows],
        "notes": list(notes),
    }


def _values(row: Pulls, rows: Sequence[Pulls], link_bytes_per_s: float) -> dict[str, str | int | float | bool | None]:
    told: dict[str, str | int | float | bool | None] = {"image": row.image, "client": row.client, "why": row.why}
    if not row.samples:
        return told
    seconds, typical = row.seconds, row.typical()
    told |= {
        "mean_s": round(statistics.fmean(seconds), 3),
        "median_s": round(statistics.median(seconds), 3),
        "stdev_s": round(statistics.stdev(seconds), 3) if len(seconds) > 1 else 0.0,
        "min_s": round(min(seconds), 3),
        "max_s": round(max(seconds), 3),
        "speed_up": None,
        "bound_by": typical.bound(link_bytes_per_s),
        "cpu_s": round(typical.cpu_s, 2),
        "received_bytes": typical.received_bytes,
        "disk_bytes": typical.disk_bytes,
        "disk_busy_s": round(typical.disk_busy_s, 2),
    }
    first = next(each for each in rows if each.client == row.client and each.image == NAMES[0])
    if row.image != NAMES[0] and first.samples:
        told["speed_up"] = round(statistics.median(first.seconds) / statistics.median(seconds), 2)
    return told


_COLUMNS = ("mean_s", "median_s", "stdev_s", "min_s", "max_s", "speed_up", "bound_by", "cpu_s")


def heading(said: Mapping[str, Any]) -> str:
    """What was measured, on what."""
    images = "; ".join(f"{name} is `{reference}`" for name, reference in said["images"].items())
    rate = said["link_bits_per_s"]
    link = f"a link of {rate / 1e9:g} Gbit/s" if rate else "a link of unknown rate"
    times = count_text(said["iterations"], "pull")
    return f"{images}. {times} each, in turns, over {link}. {said['date']}, {said['machine']}."


def table(said: Mapping[str, Any]) -> str:
    """The rows in Markdown; ``speed_up`` is how much faster B is than A by the same client, by medians."""
    head = (
        "",
        "client",
        "mean s",
        "median s",
        "stdev s",
        "min s",
        "max s",
        "B over A",
        "bound by",
        "CPU s",
        "MB",
        "disk MB",
    )
    lines = [_line(head), _line(["---"] * len(head))]
    for row in said["rows"]:
        if row["why"]:
            lines.append(_line((row["image"], row["client"], f"not measured: {row['why']}", *[""] * 9)))
            continue
        cells = ["" if row[name] is None else str(row[name]) for name in _COLUMNS]
        sizes = [f"{row[name] / 1e6:,.0f}" for name in ("received_bytes", "disk_bytes")]
        lines.append(_line((row["image"], row["client"], *cells, *sizes)))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def picture(rows: Sequence[Pulls]) -> str:
    """Medians as bars, a group for each client."""
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.samples:
            groups.setdefault(f"{row.title}, seconds", {})[row.image] = statistics.median(row.seconds)
    return bars(groups, most=None)


def write(folder: Path, said: Mapping[str, Any], rows: Sequence[Pulls]) -> list[Path]:
    """Write ``pull.md``, ``pull.json`` and ``pull.svg`` into a folder; the paths. Raises LocalError."""
    parts = ["# How long it takes to pull", heading(said), table(said), "![medians](pull.svg)", *said["notes"]]
    files = {
        folder / "pull.md": "\n\n".join(parts) + "\n",
        folder / "pull.json": json.dumps(said, indent=1),
        folder / "pull.svg": picture(rows),
    }
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text)
    return list(files)


__all__ = ["NAMES", "Pulls", "document", "heading", "measure", "table", "write"]
