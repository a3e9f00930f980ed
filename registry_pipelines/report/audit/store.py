"""Events on disk: a Parquet file for each day (UTC), in the order of time, each event once.

New events are gathered into sorted pieces, and the files of the days that they belong to are merged with them: what
comes twice, late or in another order leads to the same files. A merge holds a group of rows of each piece and no more,
so a day may be larger than the memory. A reader sees a day's old file or its new one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from registry_pipelines.errors import InputError, StateTooNew
from registry_pipelines.oci.files import local_errors
from registry_pipelines.report.audit.model import EPOCH, Event
from registry_pipelines.report.audit.schema import METADATA_KEY, SCHEMA, VERSION, WORDS, events_of, table_of
from registry_pipelines.shared.documents import Documents

GATHERED = 50_000
"""Events in memory before a piece is written."""
GROUP = 16_384
"""Rows of a group: what a merge holds of each piece."""
MOST_PIECES = 48
"""Pieces of one day that are merged at once; each is an open file with a group in memory."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.parquet")


class AuditStore:
    """The events of one configuration in the state. One writer at a time; readers need no lock.

    All methods raise LocalError, DiskFull; InputError (a damaged file) and StateTooNew where they read.
    """

    def __init__(self, folder: Documents) -> None:
        self._days = folder.under("days")

    def days(self) -> list[date]:
        """Days of which there are events, oldest first."""
        names = [each.name for each in self._days.entries()]
        return sorted(date.fromisoformat(name.partition(".")[0]) for name in names if _DAY.fullmatch(name))

    def add(self, events: Iterable[Event]) -> tuple[int, int]:
        """Keep events: how many came, and how many of them are new. What ``events`` raises ends it, and what came
        before is kept: the next time it comes again, and is the same."""
        came = 0
        with self._days.scratch() as pieces:
            waiting: list[Event] = []
            try:
                for event in events:
                    waiting.append(event)
                    if len(waiting) >= GATHERED:
                        came += _write_pieces(pieces, waiting)
                        waiting.clear()
            finally:
                came += _write_pieces(pieces, waiting)
                new = sum(self._merge(day, sorted(day.iterdir())) for day in _folders(pieces))
        return came, new

    def _merge(self, folder: Path, pieces: Sequence[Path]) -> int:
        """Merge pieces of a day into its file; how many events are new."""
        name = f"{folder.name}.parquet"
        while len(pieces) > MOST_PIECES:
            some, pieces = pieces[:MOST_PIECES], pieces[MOST_PIECES:]
            together = folder / f"{uuid.uuid4().hex}.parquet"
            _write(together, _merged(some))
            for each in some:
                each.unlink()
            pieces = [*pieces, together]
        day, made = self._days.local(name), folder / name
        before = _rows(day) if day else 0
        _write(made, _merged([day, *pieces] if day and before else pieces))
        after = _rows(made)
        self._days.take(name, made)
        return after - before

    def tables(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
    ) -> Iterator[pa.Table]:
        """Events day by day, oldest first, in groups of rows. since, until: of their time, the end excluded. where: an
        expression of Arrow over the columns, which is applied before anything is decoded that it need not."""
        limits = where
        for each in (
            None if since is None else pc.field("time") >= pa.scalar(since, SCHEMA.field("time").type),
            None if until is None else pc.field("time") < pa.scalar(until, SCHEMA.field("time").type),
        ):
            if each is not None:
                limits = each if limits is None else limits & each
        for day in self.days():
            if since is not None and day < since.astimezone(UTC).date():
                continue
            if until is not None and day > until.astimezone(UTC).date():
                break
            if path := self._days.local(f"{day}.parquet"):
                yield from self._read(path, columns, limits)

    def _read(self, path: Path, columns: Sequence[str] | None, limits: pc.Expression | None) -> Iterator[pa.Table]:
        import pyarrow.dataset as ds

        _checked(path)
        try:
            scan = ds.dataset(path, schema=SCHEMA, format="parquet").scanner(
                columns=list(columns) if columns else None, filter=limits, batch_size=GROUP, batch_readahead=2
            )
            for batch in scan.to_batches():
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error

    def events(self, **limits: Any) -> Iterator[Event]:
        """The same as events, one by one, in the order of time. See :meth:`tables`."""
        for table in self.tables(**limits):
            yield from events_of(table)

    def frame(self, **limits: Any) -> Any:
        """The same as one pandas DataFrame; words are categories."""
        tables = list(self.tables(**limits))
        if not tables:
            return SCHEMA.empty_table().to_pandas()
        table = pa.concat_tables(tables)
        for name in set(WORDS) & set(table.column_names):
            table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
        return table.unify_dictionaries().to_pandas(self_destruct=True, split_blocks=True)

    def forget(self, before: date) -> list[date]:
        """Delete the days before one, and say which."""
        gone = [each for each in self.days() if each < before]
        for each in gone:
            self._days.delete(f"{each}.parquet")
        return gone


def only(names: Collection[str], column: str) -> pc.Expression:
    """The events whose column is one of some values, for ``where``."""
    return pc.field(column).isin(sorted(names))


def _folders(pieces: Path) -> list[Path]:
    return sorted(pieces.iterdir()) if pieces.is_dir() else []


def _write_pieces(folder: Path, events: list[Event]) -> int:
    """Write what was gathered, a sorted piece for each day it has."""
    if not events:
        return 0
    table = _sorted(table_of(events))
    days = table["time"].cast(pa.int64()).to_numpy() // 86_400_000_000
    starts = np.flatnonzero(np.r_[True, days[1:] != days[:-1]])
    for start, end in zip(starts, np.append(starts[1:], len(days)), strict=True):
        day = (EPOCH + timedelta(days=int(days[start]))).date()
        target = folder / str(day)
        with local_errors(folder):
            target.mkdir(parents=True, exist_ok=True)
        _write(target / f"{uuid.uuid4().hex}.parquet", [table.slice(int(start), int(end - start))])
    return len(events)


def _sorted(table: pa.Table) -> pa.Table:
    """By time, then id; the first of those that have both alike."""
    order = pc.sort_indices(table, sort_keys=[("time", "ascending"), ("id", "ascending")])
    table = table.take(order)
    if table.num_rows < 2:
        return table
    times, ids = table["time"].combine_chunks().cast(pa.int64()), table["id"].combine_chunks()
    same = pc.and_(pc.equal(times[1:], times[:-1]), pc.equal(ids[1:], ids[:-1])).to_numpy(zero_copy_only=False)
    return table.filter(pa.array(np.r_[True, ~same])) if same.any() else table


def _merged(paths: Sequence[Path]) -> Iterator[pa.Table]:
    """Sorted files as one, in groups; an event that several have, once."""
    files = [_Groups(path) for path in paths]
    while files := [each for each in files if each.waiting()]:
        limit = min(each.last for each in files)  # nobody has more up to here than what is in memory
        parts = [part for each in files if (part := each.up_to(limit)).num_rows]
        yield _sorted(pa.concat_tables(parts))


class _Groups:
    """A sorted file, a group of rows in memory. last: the time up to which all is there."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, _checked(path)
        self._next, self._table, self.last = 0, SCHEMA.empty_table(), 0

    def waiting(self) -> bool:
        """Whether there are rows left; then at least the first of them is not after ``last``."""
        while self._next < self._file.num_row_groups and (not self._table.num_rows or self._first > self.last):
            self._more()
        return bool(self._table.num_rows)

    @property
    def _first(self) -> int:
        return int(self._table["time"][0].cast(pa.int64()).as_py())

    def _more(self) -> None:
        try:
            table = self._file.read_row_group(self._next).cast(SCHEMA)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(self._path, error) from error
        self._next += 1
        self._table = pa.concat_tables([self._table, table]) if self._table.num_rows else table
        end = self._table["time"][-1].cast(pa.int64()).as_py() if self._table.num_rows else 0
        # The next group may begin with the same time: of those nothing is sure yet.
        self.last = end if self._next >= self._file.num_row_groups else end - 1

    def up_to(self, limit: int) -> pa.Table:
        """Take what is not later."""
        while True:
            times = self._table["time"].cast(pa.int64()).to_numpy()
            count = int(np.searchsorted(times, limit, side="right"))
            if count < len(times) or self._next >= self._file.num_row_groups:
                break
            self._more()
        taken, self._table = self._table.slice(0, count), self._table.slice(count)
        return taken


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    with local_errors(path.parent), pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=GROUP)


def _rows(path: Path) -> int:
    return int(_checked(path).metadata.num_rows)


def _checked(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    version = (file.schema_arrow.metadata or {}).get(METADATA_KEY, b"")
    if not version.isdigit() or any(name not in file.schema_arrow.names for name in SCHEMA.names):
        raise InputError("this is not a file of events", where=str(path), do="Move it away")
    if int(version) > VERSION:
        raise StateTooNew(f"the file has version {int(version)}, known is {VERSION}", where=str(path))
    return file


def _damaged(path: Path, error: Exception) -> InputError:
    do = "Move the file away and run `report audit` again: logs that still have that day are read anew"
    return InputError(f"a day of events is damaged: {str(error).splitlines()[0][:200]}", where=str(path), do=do)


__all__ = ["AuditStore", "only"]
