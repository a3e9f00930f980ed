"""Events counted: who did what how often, by caller, action, repository or day. Read in groups of rows, never whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from registry_pipelines.report.audit.model import ACTIONS, moment

By = Literal["who", "action", "repository", "day"]
Row = dict[str, str | int]
MOST_ROWS = 500
"""Of a table for people, those with the most events; the rest is one row."""


@dataclass
class Counted:
    """Of one caller, action or repository. counts: by action, what was done. refused: what was not. last:
    microseconds."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    last: int = 0

    @property
    def total(self) -> int:
        """All that was done."""
        return sum(self.counts.values())


def counted(tables: Iterable[pa.Table], by: By) -> dict[str, Counted]:
    """By caller, action, repository or day (UTC). A repository is ``registry/name``; what of the cloud's own acted is
    named as ``(lifecycle)``."""
    found: dict[str, Counted] = defaultdict(Counted)
    keys = {"who": ["who", "service"], "action": ["action"], "repository": ["registry", "repository"], "day": ["day"]}[
        by
    ]
    columns = list(dict.fromkeys([*keys, "action"]))
    for table in tables:
        if by == "day":
            table = table.append_column("day", table["time"].cast(pa.date32()).cast(pa.string()))
        table = table.select(list(dict.fromkeys([*columns, "refused", "time"])))
        refused = pc.not_equal(table["refused"], "")
        table = table.drop(["refused"]).append_column("refused", refused)
        grouped = table.group_by([*columns, "refused"]).aggregate([("time", "max"), ("time", "count")])
        times = grouped["time_max"].cast(pa.int64()).to_pylist()
        for row, last in zip(grouped.drop(["time_max"]).to_pylist(), times, strict=True):
            one = found[_key(row, by)]
            one.last = max(one.last, last)
            if row["refused"]:
                one.refused += row["time_count"]
            else:
                one.counts[row["action"]] += row["time_count"]
    return dict(found)


def _key(row: dict[str, str], by: By) -> str:
    if by in ("action", "day"):
        return row[by]
    if by == "repository":
        return f"{row['registry']}/{row['repository']}"
    return f"({row['service']})" if row["service"] else row["who"] or "(not said)"


def count_rows(found: dict[str, Counted], by: By) -> list[Row]:
    """A table, the most first; of days the newest."""
    ordered = sorted(found.items(), key=lambda item: (-item[1].total, item[0]))
    if by == "day":
        ordered = sorted(found.items(), reverse=True)
    rows = [_row(name, one, by) for name, one in ordered[:MOST_ROWS]]
    if len(ordered) > MOST_ROWS:
        rest = Counted()
        for _, one in ordered[MOST_ROWS:]:
            rest.counts += one.counts
            rest.refused, rest.last = rest.refused + one.refused, max(rest.last, one.last)
        rows.append(_row(f"({len(ordered) - MOST_ROWS} others)", rest, by))
    return rows


def _row(name: str, one: Counted, by: By) -> Row:
    last = moment(one.last).strftime("%Y-%m-%dT%H:%M:%SZ") if one.last else ""
    actions: Row = {} if by == "action" else {action: one.counts[action] for action in ACTIONS}
    return {by: name, **actions, "done": one.total, "refused": one.refused, "last": last}


__all__ = ["By", "Counted", "count_rows", "counted"]
