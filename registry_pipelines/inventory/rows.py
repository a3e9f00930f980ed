"""How readers of registries fill an inventory: row by row, kept as columns, so that 100,000 images take 60 MB."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from registry_pipelines.inventory.schema import COLUMNS, SCHEMA
from registry_pipelines.inventory.value import Inventory, Source, empty_table, from_table

ROWS_AT_ONCE = 2048
"""Python values until they are packed into columns."""


class Row(NamedTuple):
    """One manifest in one repository; the columns of :mod:`~registry_pipelines.inventory.schema`."""

    registry: str
    repository: str
    digest: str
    answered: datetime
    tags: Sequence[str] = ()
    size_bytes: int | None = None
    layers: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    subject: str | None = None
    children: Sequence[str] | None = None
    created: datetime | None = None
    pushed: datetime | None = None
    pulled: datetime | None = None
    status: str | None = None
    archived: datetime | None = None
    activated: datetime | None = None


_ORDER = tuple(Row._fields.index(name) for name in COLUMNS)


class Rows:
    """Takes rows and gives an inventory. Not for several threads at once."""

    def __init__(self) -> None:
        self._waiting: list[Row] = []
        self._packed: list[pa.RecordBatch] = []
        self.count = 0

    def add(self, row: Row) -> None:
        """One more row; the order stays."""
        self._waiting.append(row)
        self.count += 1
        if len(self._waiting) >= ROWS_AT_ONCE:
            self._pack()

    def inventory(self, sources: Sequence[Source], *, ordered: bool = True) -> Inventory:
        """All rows so far. ordered: they came by registry and repository; otherwise they are sorted here, those of one
        repository as they came."""
        self._pack()
        return from_table(self._table(ordered), sources)

    def _table(self, ordered: bool) -> pa.Table:
        """What is packed, which is then let go: a copy less in memory while pandas takes it over."""
        if not self._packed:
            return empty_table()
        table = pa.Table.from_batches(self._packed)
        self._packed = []
        table = table.unify_dictionaries().combine_chunks()
        return table if ordered else _sorted(table)

    def _pack(self) -> None:
        if self._waiting:
            columns: list[Sequence[Any]] = list(zip(*self._waiting, strict=True))
            arrays = [pa.array(columns[at], type=field.type) for at, field in zip(_ORDER, SCHEMA, strict=True)]
            self._packed.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
            self._waiting.clear()


def _sorted(table: pa.Table) -> pa.Table:
    """By repository; Arrow's sort is stable where the last key is the place."""
    keys = pa.table({"repository": table["repository"].cast(pa.string()), "at": pa.array(range(table.num_rows))})
    order = pc.sort_indices(keys, sort_keys=[("repository", "ascending"), ("at", "ascending")])
    return table.take(order)
