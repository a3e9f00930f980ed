"""How readers of registries fill an inventory: row by row, kept as columns, so that 100,000 images take 60 MB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from registry_pipelines.inventory import parts as second
from registry_pipelines.inventory.parts import Parts, RepositoryFacts
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
    parts: Parts | None = None
    """What it needs, for the second file (``inventory.parts``); no column here."""


_ORDER = tuple(Row._fields.index(name) for name in COLUMNS)
_DIGEST, _PARTS = Row._fields.index("digest"), Row._fields.index("parts")


class Rows:
    """Takes rows and gives an inventory. Not for several threads at once."""

    def __init__(self) -> None:
        self._waiting: list[Row] = []
        self._packed: list[pa.RecordBatch] = []
        self._parts: list[pa.RecordBatch] = []
        self.facts: dict[str, RepositoryFacts] = {}
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
        table, parts = self._tables(ordered)
        if not second.any_known(parts):
            parts = None
        return replace(from_table(table, sources), parts=parts, facts=self.facts)

    def _tables(self, ordered: bool) -> tuple[pa.Table, pa.Table]:
        """What is packed, which is then let go: a copy less in memory while pandas takes it over."""
        if not self._packed:
            return empty_table(), second.SCHEMA.empty_table()
        table, parts = pa.Table.from_batches(self._packed), pa.Table.from_batches(self._parts)
        self._packed, self._parts = [], []
        table = table.unify_dictionaries().combine_chunks()
        if ordered:
            return table, parts
        order = _order(table)
        return table.take(order), parts.take(order)

    def _pack(self) -> None:
        if self._waiting:
            columns: list[Sequence[Any]] = list(zip(*self._waiting, strict=True))
            arrays = [pa.array(columns[at], type=field.type) for at, field in zip(_ORDER, SCHEMA, strict=True)]
            self._packed.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
            self._parts.append(second.pack(columns[_DIGEST], columns[_PARTS]))
            self._waiting.clear()


def _order(table: pa.Table) -> pa.Array:
    """By repository; Arrow's sort is stable where the last key is the place."""
    keys = pa.table({"repository": table["repository"].cast(pa.string()), "at": pa.array(range(table.num_rows))})
    return pc.sort_indices(keys, sort_keys=[("repository", "ascending"), ("at", "ascending")])
