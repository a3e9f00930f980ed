"""Kept runs of ``report cost``: a Parquet file a day in the state folder, the last run of the day, and months of them.

Columns are those of ``SCHEMA``; a null in money is "not known". Whatever day a file's name says, a run whose time is
still to come is told and left out: somebody's clock was wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from registry_pipelines.report.cost import CostReport
from registry_pipelines.shared.documents import Documents

SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("needed_bytes", pa.int64(), nullable=False),
        pa.field("fair_bytes", pa.int64(), nullable=False),
        pa.field("freed_bytes", pa.int64(), nullable=False),
        pa.field("unpriced_bytes", pa.int64(), nullable=False),
        pa.field("usd", pa.float64()),
        pa.field("freed_usd", pa.float64()),
        pa.field("scan_usd", pa.float64()),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("doubt", pa.string(), nullable=False),
        pa.field("whole", pa.bool_(), nullable=False),
    ]
)
"""level: ``total``, ``registry``, ``team``, ``repository``, ``image`` or ``class``. whole: whether all was read."""

MAX_FILES = 4000
"""Days that are looked at: ten years."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\.parquet\Z")
_SLACK = timedelta(hours=1)
"""By which clocks of two machines may differ."""


class Month(NamedTuple):
    """One holder in one month, by its last run. month: ``2026-11``. usd, scan_usd: None where not known."""

    month: str
    level: str
    name: str
    fair_bytes: int
    usd: float | None
    scan_usd: float | None
    currency: str
    doubt: str
    whole: bool


def write_run(folder: Documents, report: CostReport) -> None:
    """Keep a run, whole or not at all; it replaces that of the same day, unless that read all and this did not. Raises
    LocalError, DiskFull."""
    rows = [
        {**msgspec.structs.asdict(row), "time": report.time, "currency": report.currency, "whole": report.whole}
        for row in report.rows()
    ]
    name = f"{report.time:%Y-%m-%d}.parquet"
    if not report.whole and (kept := folder.local(name)) and _is_whole(kept):
        return
    content = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), content, compression="zstd")
    folder.write(name, content.getvalue().to_pybytes())


def _is_whole(path: Path) -> bool:
    try:
        return all(pq.read_table(path, columns=["whole"])["whole"].to_pylist())
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return False


def read_runs(folder: Documents, now: datetime, *, levels: Sequence[str] = ()) -> tuple[pa.Table, list[str]]:
    """All kept runs, the oldest first, and what was left out with why. levels: only these rows; all unless told."""
    found, left = [], []
    names = sorted(each.name for each in folder.entries() if _DAY.match(each.name))
    for name in names[-MAX_FILES:]:
        path = folder.local(name)
        if path is None:
            continue
        try:
            table = pq.read_table(path, filters=[("level", "in", list(levels))] if levels else None)
            table = table.select(SCHEMA.names).cast(SCHEMA)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            left.append(f"the run of {name.removesuffix('.parquet')} cannot be read: {str(error)[:100]}")
            continue
        if table.num_rows and table["time"][0].as_py() > now + _SLACK:
            left.append(f"the run of {name.removesuffix('.parquet')} is of a time that is still to come")
            continue
        found.append(table)
    return (pa.concat_tables(found) if found else SCHEMA.empty_table()), left


def months(runs: pa.Table, count: int) -> list[Month]:
    """Each holder in each of the last ``count`` months that have a run, by the last run of the month that
    read all, or the last one where none did."""
    last: dict[str, tuple[bool, datetime]] = {}
    times = runs["time"].to_pylist()
    for time, whole in zip(times, runs["whole"].to_pylist(), strict=True):
        month = f"{time:%Y-%m}"
        last[month] = max((whole, time), last.get(month, (whole, time)))
    chosen: Mapping[datetime, str] = {last[month][1]: month for month in sorted(last)[-count:]} if count > 0 else {}
    keep = pa.array([time in chosen for time in times], type=pa.bool_())
    return [
        Month(
            chosen[row["time"]],
            *(row[each] for each in ("level", "name", "fair_bytes", "usd", "scan_usd", "currency", "doubt", "whole")),
        )
        for row in runs.filter(keep).to_pylist()
    ]
