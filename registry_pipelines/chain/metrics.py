"""Numbers over a configuration: collected from what is kept and what is signed, and told to who asks for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.metrics_sources import SOURCES, Look, stored
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import RegistryPipelinesError, Unavailable
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.report.metrics.model import Collected, Sample, bounded, sample, total
from registry_pipelines.shared.documents import Documents, change

if TYPE_CHECKING:
    from registry_pipelines.report.metrics.settings import Destination

KEPT = timedelta(days=400)
"""What was collected is kept for so long, for pictures."""
MOST_CHARTED = 100
"""Numbers of which Dagster draws a line each; the history has all."""


def collect(session: Session, *, inventory: Path | None = None) -> Collected:
    """Everything that is measured, as of now. inventory: a file that ``inventory --output`` wrote, so that no registry
    is listed; else the kept ones, each taken again where it is older than ``report.metrics.inventory_age``. Raises
    nothing of a source's own: what cannot be read is in ``failed``."""
    look = Look(session, session.now())
    found = look.ask("inventory", lambda look: stored(look, inventory))
    for name, source in SOURCES.items():
        found += look.ask(name, source)
    found += [sample("source_failed", 1, look.now, source=name) for name in sorted(look.failed)]
    found += [sample("source_failed", 0, look.now, source=name) for name in SOURCES if name not in look.failed]
    found.append(sample("collected_timestamp_seconds", look.now.timestamp(), look.now))
    kept, left = bounded(found)
    kept += [sample("left_out_series", count, look.now, measure=name) for name, count in sorted(left.items())]
    notes = [f"{name}: {count_text(count, 'series', 'series')} are left out" for name, count in sorted(left.items())]
    return Collected(time=look.now, samples=tuple(kept), failed=look.failed, notes=(*look.notes, *notes))


def told(
    session: Session,
    *,
    to: Sequence[Destination] | None = None,
    inventory: Path | None = None,
    file: Path | None = None,
) -> StageResult:
    """Collect, keep that for pictures, and tell it. to: who; those of the configuration unless told. file: for
    Prometheus, in place of the configuration's. Not ``ok`` where a source could not be read whole, or somebody could
    not be told; the rest goes on. Raises InputError."""
    from registry_pipelines.chain.metrics_sending import sender

    began = time.monotonic()
    names = list(dict.fromkeys(session.config.report.metrics.to if to is None else to))
    senders = {name: sender(session, name, file=file) for name in names}  # what is wrong with one is said before work
    collected = collect(session, inventory=inventory)
    notes = list(collected.notes)
    reasons = [f"{name}: {why}" for name, why in sorted(collected.failed.items())]
    rows: list[dict[str, Scalar]] = []
    try:
        jumped = keep(session, collected)
        notes += [jumped] if jumped else []
    except RegistryPipelinesError as error:  # a full disk here keeps nobody from being told
        reasons.append(f"the numbers are not kept: {error}")
    for name, send in senders.items():
        try:
            sent = send(collected)
        except RegistryPipelinesError as error:
            reasons.append(f"{name} was not told: {error}")
            rows.append({"told": name, "samples": 0, "calls": 0, "left_out": len(collected.samples)})
            continue
        notes += [f"{name}: {note}" for note in sent.notes]
        reasons += [f"{name}: {each}" for each in sent.problems]
        rows.append({"told": name, "samples": sent.samples, "calls": sent.calls, "left_out": sent.left_out})
    return _result(collected, rows, reasons, notes, seconds=time.monotonic() - began)


def _result(
    collected: Collected, rows: list[dict[str, Scalar]], reasons: list[str], notes: list[str], *, seconds: float
) -> StageResult:
    samples = collected.samples
    stored_bytes = int(total(samples))
    charted = [each for each in samples if _charted(each)]
    facts: dict[str, Scalar] = {
        "series": len(samples),
        "sources_failed": len(collected.failed),
        "bytes": stored_bytes,
        "images": int(total(samples, "registry_images")),
        "untagged": int(total(samples, "registry_untagged_images")),
        **{f"{each.name} {' '.join(each.labels.values())}".rstrip(): each.value for each in charted[:MOST_CHARTED]},
    }
    if len(charted) > MOST_CHARTED:
        notes = [*notes, f"{len(charted) - MOST_CHARTED} more numbers are in the table and the history alone"]
    told_to = f", told {', '.join(str(row['told']) for row in rows)}" if rows else ""
    failed = f"; {count_text(len(reasons), 'problem')}" if reasons else ""
    return StageResult(
        stage="metrics",
        subject="registries",
        action=f"{count_text(len(samples), 'series', 'series')}, {size_text(stored_bytes)} stored{told_to}{failed}",
        changed=bool(rows),
        seconds=seconds,
        facts=facts,
        rows=rows,
        tables={"samples": [row_of(each) for each in samples]},
        reasons=reasons,
        notes=notes,
        ok=not reasons,
        exit_code=Unavailable.exit_code if reasons else 0,
    )


def row_of(each: Sample) -> dict[str, Scalar]:
    """A sample for a table."""
    labels = " ".join(f"{name}={value}" for name, value in each.labels.items())
    return {"name": each.name, "labels": labels, "value": each.value, "unit": each.unit}


def _charted(each: Sample) -> bool:
    """Whether Dagster draws a line of it: what there are few of."""
    return "repository" not in each.labels and each.name not in ("source_failed", "collected_timestamp_seconds")


def history(session: Session) -> Documents:
    """What was collected: a Parquet file a day, with the columns of ``HISTORY``."""
    return session.documents.under("report/metrics")


HISTORY = ("time", "name", "labels", "value", "unit")
"""time: UTC. labels: JSON text, sorted. Samples of a repository are not in it, but for its bytes."""


def keep(session: Session, collected: Collected) -> str:
    """Add samples to the history. Returns what is odd about the time; empty where nothing is. Raises LocalError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return "no history is kept: install the extra `inventory`"
    wanted = [each for each in collected.samples if "repository" not in each.labels or each.name == "repository_bytes"]
    schema = pa.schema(
        [
            pa.field("time", pa.timestamp("us", tz="UTC")),
            *(pa.field(name, pa.string()) for name in HISTORY[1:3]),
            pa.field("value", pa.float64()),
            pa.field("unit", pa.string()),
        ]
    )
    rows = [
        {
            "time": each.time,
            "name": each.name,
            "labels": json.dumps(each.labels, sort_keys=True),
            "value": each.value,
            "unit": each.unit,
        }
        for each in wanted
    ]
    new = pa.Table.from_pylist(rows, schema=schema)
    folder, name = history(session), f"{collected.time:%Y-%m-%d}.parquet"
    odd = [jumped] if (jumped := _jumped(folder, collected.time)) else []

    def added(raw: bytes | None) -> bytes:
        before = []
        if raw is not None:
            try:
                before = [pq.read_table(pa.BufferReader(raw)).cast(schema)]
            except (pa.ArrowException, OSError, ValueError):
                aside = f"{name.removesuffix('.parquet')}.damaged-{collected.time:%H%M%S}"
                folder.write(aside, raw)
                odd.append(f"{name} is damaged; it is {aside} now, and begins anew")
        content = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables([*before, new]), content, compression="zstd")
        return bytes(content.getvalue())

    change(folder, name, added)
    _forget(folder, collected.time)
    return "; ".join(odd)


def _days(folder: Documents) -> list[tuple[datetime, str]]:
    found = []
    for each in folder.entries():
        with suppress(ValueError):
            found.append((datetime.strptime(each.name, "%Y-%m-%d.parquet"), each.name))
    return sorted(found)


def _jumped(folder: Documents, now: datetime) -> str:
    """That something was collected on a day that is to come: a clock went back, or was wrong then."""
    later = [f"{day:%Y-%m-%d}" for day, _ in _days(folder) if day.date() > now.date()]
    return f"samples of {', '.join(later[:3])} are there, which is to come: a clock jumped" if later else ""


def _forget(folder: Documents, now: datetime) -> None:
    for day, name in _days(folder):
        if now.date() - day.date() > KEPT:
            folder.delete(name)


def scrape(session: Session, *, every_s: float, inventory: Path | None = None) -> Callable[[], str]:
    """What a scrape is answered: numbers that are collected again once they are ``every_s`` seconds old, by the clock
    that never jumps. While they are, others get what was before."""
    import threading

    from registry_pipelines.report.metrics.prometheus import families_of, text_of

    lock = threading.Lock()
    known: list[tuple[float, str]] = []

    def answer() -> str:
        if known and (time.monotonic() - known[0][0] < every_s or lock.locked()):
            return known[0][1]
        with lock:
            if not known or time.monotonic() - known[0][0] >= every_s:
                text = text_of(families_of(collect(session, inventory=inventory).samples))
                known[:] = [(time.monotonic(), text)]
        return known[0][1]

    return answer


__all__ = ["collect", "history", "keep", "scrape", "told"]
