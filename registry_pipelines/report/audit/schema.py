"""The columns of an audit's Parquet files; one row is one event. Names and meanings are those of ``model.Event``."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec.structs import astuple

from registry_pipelines.report.audit.model import Event, moment

VERSION = 1
METADATA_KEY = b"registry_pipelines.audit"
_WORD = pa.string()  # Parquet has a dictionary of its own in each group of rows

SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("who", _WORD, nullable=False),
        pa.field("action", _WORD, nullable=False),
        pa.field("registry", _WORD, nullable=False),
        pa.field("repository", _WORD, nullable=False),
        pa.field("digest", _WORD, nullable=False),
        pa.field("tag", _WORD, nullable=False),
        pa.field("source", _WORD, nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("operation", _WORD, nullable=False),
        pa.field("refused", _WORD, nullable=False),
        pa.field("service", _WORD, nullable=False),
        pa.field("address", _WORD, nullable=False),
        pa.field("agent", _WORD, nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
    ],
    metadata={METADATA_KEY: str(VERSION).encode()},
)
COLUMNS = tuple(SCHEMA.names)
WORDS = (
    "who",
    "action",
    "registry",
    "repository",
    "tag",
    "source",
    "operation",
    "refused",
    "service",
    "address",
    "agent",
)
"""Columns with few values: categories in pandas."""


def table_of(events: Sequence[Event]) -> pa.Table:
    """Events as columns, in the order they came."""
    values = dict(zip(Event.__struct_fields__, zip(*map(astuple, events), strict=True), strict=True))
    values["time"] = tuple(each.micros for each in events)
    columns = [pa.array(values[field.name], pa.int64() if field.name == "time" else field.type) for field in SCHEMA]
    return pa.table([column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def events_of(table: pa.Table) -> list[Event]:
    """Rows as events."""
    plain = table.set_column(0, "time", table["time"].cast(pa.int64())).to_pylist()
    return [Event(**{**row, "time": moment(row["time"])}) for row in plain]


__all__ = ["COLUMNS", "SCHEMA", "VERSION", "WORDS", "events_of", "table_of"]
