"""What was measured over time, as plots: from the kept runs of costs and numbers, and from the kept events of logs.

A series that nobody measured is a plot that says so, with what would measure it: it is never zero.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.times import read_time
from registry_pipelines.report.custody import Custody
from registry_pipelines.report.html.plots import Plot, Point, Unit
from registry_pipelines.shared.documents import Documents

SINCE = timedelta(days=400)
"""How far back plots go: a year, and the month before."""
WHOLE = timedelta(days=7)
"""Days of which every value is drawn."""
SKEW = timedelta(hours=1)
"""Runs of later than this were kept by a clock that was wrong; they are left out, which is said."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}\.parquet\Z")

NEEDS_TABLES = "reading it needs pandas and pyarrow: pip install 'registry-pipelines[inventory]'"

Rows = list[dict[str, Any]]


COSTS = ("cost", "cost-bytes")
PULLS, FINDINGS = "pulls", "findings"
"""Names of plots; the others are in :data:`NUMBERS`."""


def plots(
    session: Session, pages: Sequence[Custody] = (), *, names: Collection[str] = ()
) -> tuple[list[Plot], list[str]]:
    """Plots, measured or not, and what could not be read. pages: of live releases, for the age of findings. names:
    only these; nothing is read for others."""
    notes: list[str] = []
    if find_spec("pyarrow") is None:
        notes.append(NEEDS_TABLES)
    found: list[Plot] = []
    if not names or set(COSTS) & set(names):
        found += _costs(session, notes)
    if not names or {name for name, *_ in NUMBERS.values()} & set(names):
        found += _numbers(session, notes)
    if not names or PULLS in names:
        found.append(_pulls(session, notes))
    if not names or FINDINGS in names:
        found.append(finding_ages(pages))
    return [each for each in found if not names or each.name in names], notes


def _costs(session: Session, notes: list[str]) -> Iterator[Plot]:
    columns = ("time", "level", "name", "needed_bytes", "usd", "currency")
    runs = _read(session, "cost", columns, ("level", ["total", "registry"]), notes)
    why = "no run of costs is kept: `registry-pipelines report cost`"
    currencies = {row["currency"] for row in runs if row["level"] == "total"}
    priced = [row for row in runs if row["level"] == "total" and row["usd"] is not None]
    if len(currencies) > 1:
        notes.append(f"costs are kept in several currencies ({', '.join(sorted(currencies))}), and not drawn together")
        priced = []
    yield Plot(
        name=COSTS[0],
        title="What storage costs a month",
        unit="usd",
        lines=_lines((row["time"], "all registries", row["usd"]) for row in priced),
        read_from="the kept runs of `report cost`",
        why=why if not runs else "no run knows all prices",
    )
    registries = [row for row in runs if row["level"] == "registry"]
    yield Plot(
        name=COSTS[1],
        title="Bytes that are billed, by registry",
        unit="bytes",
        lines=_lines((row["time"], row["name"], row["needed_bytes"]) for row in registries),
        read_from="the kept runs of `report cost`",
        why=why,
    )


NUMBERS: Mapping[str, tuple[str, str, Unit, tuple[str, ...]]] = {
    "registry_bytes": ("bytes", "Bytes stored, by registry", "bytes", ("registry",)),
    "replication_lag_seconds": (
        "lag",
        "How far targets are behind",
        "seconds",
        ("image", "channel", "target"),
    ),
    "advisories_age_seconds": ("advisories", "Age of the newest advisory in use", "seconds", ()),
}
"""What is drawn of the kept numbers: name of the plot, title, unit, labels that tell lines apart."""


def _numbers(session: Session, notes: list[str]) -> Iterator[Plot]:
    rows = _read(session, "metrics", ("time", "name", "labels", "value"), ("name", list(NUMBERS)), notes)
    for measure, (name, title, unit, labels) in NUMBERS.items():
        own = [row for row in rows if row["name"] == measure]
        lines = _lines((row["time"], _label(row["labels"], labels), row["value"]) for row in own)
        yield Plot(
            name=name,
            title=title,
            unit=unit,
            lines=lines,
            read_from=f"the kept numbers of `report metrics` ({measure})",
            why="no number is kept: `registry-pipelines report metrics`",
        )


def _label(text: str, labels: Sequence[str]) -> str:
    try:
        told = json.loads(text)
    except (ValueError, TypeError):
        told = {}
    named = [str(told.get(each, "?")) for each in labels] if isinstance(told, dict) else []
    return " ".join(named) or "all"


def _pulls(session: Session, notes: list[str]) -> Plot:
    """Pulls that were done, by day and repository, as logs say. A day without an event of any kind is no zero."""
    from registry_pipelines.chain.audit import store_of, was_read

    counted: dict[tuple[datetime, str], int] = defaultdict(int)
    days: set[datetime] = set()
    if find_spec("pyarrow") is not None and was_read(session):
        columns = ("time", "action", "registry", "repository", "refused")
        try:
            for each in store_of(session).tables(since=session.now() - SINCE, columns=columns):
                _count_pulls(each, counted, days)
        except RegistryPipelinesError as error:
            notes.append(f"pulls: {error.what}")
    names = {name for _, name in counted}
    lines = {name: [Point(day, counted.get((day, name), 0)) for day in sorted(days)] for name in sorted(names)}
    return Plot(
        name=PULLS,
        title="Pulls a day, by repository",
        unit="count",
        lines=lines,
        read_from="the kept events of `report audit`",
        why="no log was collected, or it has no pull: `registry-pipelines report audit`",
    )


def _count_pulls(events: Any, counted: dict[tuple[datetime, str], int], days: set[datetime]) -> None:
    import pyarrow.compute as pc

    frame = events.select(["time", "action", "registry", "repository", "refused"])
    frame = frame.set_column(0, "time", pc.floor_temporal(frame["time"], unit="day"))
    days.update(each.astimezone(UTC) for each in pc.unique(frame["time"]).to_pylist())
    for name in ("action", "registry", "repository", "refused"):
        frame = frame.set_column(frame.schema.get_field_index(name), name, frame[name].cast("string"))
    pulled = frame.filter(pc.and_(pc.equal(frame["action"], "pull"), pc.equal(frame["refused"], "")))
    for row in pulled.group_by(["time", "registry", "repository"]).aggregate([([], "count_all")]).to_pylist():
        counted[row["time"].astimezone(UTC), f"{row['registry']}/{row['repository']}"] += row["count_all"]


def finding_ages(pages: Sequence[Custody]) -> Plot:
    """For how long the oldest urgent finding of each live release is known, by its signed reports."""
    ages = ((read_time(time), page.name.partition("@")[0], days) for page in pages for time, days in page.ages)
    return Plot(
        name=FINDINGS,
        title="Age of the oldest critical or high finding of what channels name",
        unit="days",
        lines=_lines((time, name, days) for time, name, days in ages if time is not None),
        read_from="signed vulnerability reports",
        why="no live release has a signed report",
    )


def _lines(points: Iterable[tuple[datetime, str, float]]) -> dict[str, list[Point]]:
    lines: dict[str, list[Point]] = {}
    for time, name, value in points:
        lines.setdefault(name, []).append(Point(time, float(value)))
    return lines


def _read(session: Session, folder: str, columns: Sequence[str], only: tuple[str, list[str]], notes: list[str]) -> Rows:
    """The rows of a folder of Parquet files, one a day; what cannot be read is a note. only: a column and the values of
    it that are read. Of days that are past a week the last value of each series stays: numbers come every half an hour.
    """
    if find_spec("pyarrow") is None:
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    begins, now = session.now() - SINCE, session.now()
    rows: Rows = []
    documents = session.documents.under(f"report/{folder}")
    for path in _days(documents, begins):
        try:
            told = pq.read_table(path, columns=list(columns), filters=[(only[0], "in", only[1])]).to_pylist()
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            notes.append(f"{folder} of {path.stem} cannot be read: {str(error)[:100]}")
            continue
        own = [row for row in told if isinstance(row["time"], datetime) and row["time"].tzinfo is not None]
        later = [row for row in own if row["time"] > now + SKEW]
        if later or len(own) < len(told):
            notes.append(f"{folder} of {path.stem}: rows without a time, or of one that is to come, are left out")
        past = [row for row in own if row["time"] <= now + SKEW]
        rows += past if path.stem >= f"{now - WHOLE:%Y-%m-%d}" else _last(past)
    return rows


def _last(rows: Rows) -> Rows:
    """The last row of each series, which is told apart by its words."""
    rows = sorted(rows, key=lambda row: row["time"])
    return list({tuple(each for each in row.values() if isinstance(each, str)): row for row in rows}.values())


def _days(folder: Documents, begins: datetime) -> Iterator[Path]:
    named = sorted(each.name for each in folder.entries() if _DAY.match(each.name))
    for name in named:
        if name >= f"{begins:%Y-%m-%d}" and (path := folder.local(name)):
            yield path
