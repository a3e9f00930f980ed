"""The columns of an audit's Parquet files; one row is one event. Names and meanings are those of ``model.Event``."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from registry_pipelines.report.audit.model import Event, moment

VERSION = 1
METADATA_KEY = b"registry_pipelines.audit"
_WORD = pa.dictionary(pa.int32(), pa.string())

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
_TEXTS = tuple(name for name in COLUMNS if name not in ("time", "size"))


def table_of(events: Sequence[Event]) -> pa.Table:
    """Events as columns, in the order they came."""
    columns = {name: pa.array([getattr(each, name) for each in events], pa.string()) for name in _TEXTS}
    columns["time"] = pa.array([each.micros for each in events], pa.int64())
    columns["size"] = pa.array([each.size for each in events], pa.int64())
    return pa.table(
        [
            columns[field.name].cast(field.type) if field.name == "time" else _as(columns[field.name], field.type)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column.dictionary_encode() if pa.types.is_dictionary(kind) else column


def events_of(table: pa.Table) -> list[Event]:
    """Rows as events."""
    plain = table.set_column(0, "time", table["time"].cast(pa.int64())).to_pylist()
    return [Event(**{**row, "time": moment(row["time"])}) for row in plain]


__all__ = ["COLUMNS", "SCHEMA", "VERSION", "events_of", "table_of"]
