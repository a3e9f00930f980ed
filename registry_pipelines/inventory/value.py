"""An inventory: the images of one or more registries as a pandas DataFrame, with what could not be read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from registry_pipelines.errors import InputError, LocalError, StateTooNew
from registry_pipelines.inventory.parts import SCHEMA as PARTS_SCHEMA
from registry_pipelines.inventory.parts import RepositoryFacts, beside, with_metadata
from registry_pipelines.inventory.schema import COLUMNS, METADATA_KEY, SCHEMA, VERSION
from registry_pipelines.oci.decoding import ready

ROWS_IN_A_GROUP = 50_000
"""Of a Parquet file: small enough that a reader of one repository skips the rest, large enough to pack well."""


class Unread(msgspec.Struct, frozen=True):
    """Something of a registry that could not be read. what: a repository or an image; problem: one sentence."""

    what: str
    problem: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One registry's answer. kind: as the configuration says it. calls: requests that it took. complete: whether all
    that was asked for was read; otherwise ``unread`` says what is missing. notes: what is not known of its images."""

    registry: str
    kind: str
    answered: datetime
    images: int = 0
    repositories: int = 0
    calls: int = 0
    complete: bool = True
    unread: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()


class _Metadata(msgspec.Struct, frozen=True):
    version: int
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """Images with where they are. frame: the columns of :mod:`~registry_pipelines.inventory.schema`, one row for each
    manifest, ordered by registry and repository. sources: every registry that was asked, also one that did not
    answer. parts: what each manifest needs, row for row (:mod:`~registry_pipelines.inventory.parts`), where it was read
    and not changed since; a file has it beside itself. facts: of repositories, for the same."""

    frame: pd.DataFrame
    sources: tuple[Source, ...]
    parts: pa.Table | None = None
    facts: Mapping[str, RepositoryFacts] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every registry was read as it was asked."""
        return all(source.complete for source in self.sources)

    def table(self) -> pa.Table:
        """The same as an Arrow table of ``SCHEMA``, without a copy where pandas holds Arrow's own columns."""
        table = pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False)
        return table.replace_schema_metadata(None)

    def only(self, keep: Any) -> Inventory:
        """The rows for which ``keep`` (a boolean column) says so; the sources stay."""
        return Inventory(self.frame[keep].reset_index(drop=True), self.sources)

    def write(self, path: Path) -> None:
        """Write ``.parquet``, ``.csv`` or ``.json`` (one object a line, sources last), whole or not at all; beside a
        Parquet file its parts, where they are known. Raises InputError (another ending), LocalError."""
        write = _WRITERS.get(path.suffix)
        if write is None:
            raise InputError(
                f"{path.suffix or 'no ending'} is no form of an inventory", do="Write .parquet, .csv or .json"
            )
        second = beside(path)
        if self.parts is None or path.suffix != ".parquet":
            second.unlink(missing_ok=True)  # of another inventory
        else:
            table = with_metadata(self.parts, self.facts)
            _write_whole(second, lambda part: _write_table(table, part))
        _write_whole(path, lambda part: write(self, part))


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
        try:
            write(part)
            part.chmod(0o644)
            os.replace(part, path)  # noqa: PTH105
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LocalError(f"the inventory cannot be written: {error.strerror or error}", where=str(path)) from error


def from_table(table: pa.Table, sources: Iterable[Source]) -> Inventory:
    """An inventory of Arrow columns. Dictionaries become pandas categories, so that groups cost nothing; strings and
    lists stay Arrow's (a DataFrame of Python strings takes six times the memory)."""
    frame = table.to_pandas(types_mapper=_PANDAS.get, self_destruct=True, split_blocks=True)
    return Inventory(frame, tuple(sources))


def empty_table() -> pa.Table:
    """No images."""
    return SCHEMA.empty_table()


def read(path: Path) -> Inventory:
    """A Parquet file that :meth:`Inventory.write` wrote. Raises InputError (not one), StateTooNew."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"this is not a Parquet file: {error}", where=str(path)) from error
    sources = read_metadata(table.schema, path)
    return from_table(table.select(COLUMNS).cast(SCHEMA).replace_schema_metadata(None), sources)


def read_whole(path: Path) -> Inventory:
    """The same with its ``parts``, where a file beside it has them. Raises InputError (one of them is none, or they are
    not of one another), StateTooNew."""
    inventory, second = read(path), beside(path)
    if not second.exists():
        return inventory
    try:
        parts = pq.read_table(second)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"this is not a Parquet file: {error}", where=str(second)) from error
    missing = [name for name in PARTS_SCHEMA.names if name not in parts.schema.names]
    if missing or not inventory.table()["digest"].equals(parts["digest"]):
        raise InputError(
            "the inventory and the file beside it are not of one another", where=str(second), do="Take it again"
        )
    return replace(inventory, parts=parts.select(PARTS_SCHEMA.names).cast(PARTS_SCHEMA))


def read_metadata(schema: pa.Schema, path: Path) -> tuple[Source, ...]:
    """What an inventory's file says of its sources. Raises InputError (none of ours), StateTooNew."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise InputError("this Parquet file is no inventory", where=str(path), do="Write one with `inventory --output`")
    try:
        metadata = msgspec.json.decode(raw, type=ready(_Metadata))
    except msgspec.DecodeError as error:
        raise InputError(f"its metadata cannot be read: {error}", where=str(path)) from error
    if metadata.version > VERSION:
        raise StateTooNew(f"the inventory has version {metadata.version}, known is {VERSION}", where=str(path))
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise InputError(f"the inventory lacks columns: {', '.join(missing)}", where=str(path))
    return metadata.sources


def join(parts: Sequence[Inventory]) -> Inventory:
    """Inventories of several registries as one, with what manifests need where all of them know it. What holds for a
    repository's name in one of them then holds for it in all: that keeps more."""
    table = pa.concat_tables([part.table() for part in parts]) if parts else empty_table()
    joined = from_table(table.unify_dictionaries().combine_chunks(), (each for part in parts for each in part.sources))
    needs = [part.parts for part in parts if part.parts is not None]
    if not needs or len(needs) < len(parts):
        return joined
    facts: dict[str, RepositoryFacts] = {}
    for part in parts:
        for name, own in part.facts.items():
            other = facts.get(name, RepositoryFacts())
            unreadable = tuple(sorted({*own.unreadable, *other.unreadable}))
            facts[name] = RepositoryFacts(own.keeps_tagged or other.keeps_tagged, unreadable)
    return replace(joined, parts=pa.concat_tables(needs).combine_chunks(), facts=facts)


def now() -> datetime:
    """This moment in UTC, to the microsecond that the columns hold."""
    return datetime.now(UTC)


def _write_parquet(inventory: Inventory, path: Path) -> None:
    _write_table(inventory.table().replace_schema_metadata(metadata_of(inventory.sources)), path)


def metadata_of(sources: tuple[Source, ...]) -> dict[bytes, bytes]:
    """What :func:`read_metadata` reads."""
    return {METADATA_KEY: msgspec.json.encode(_Metadata(VERSION, sources))}


def _write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=ROWS_IN_A_GROUP)


def _write_csv(inventory: Inventory, path: Path) -> None:
    """Tags and children are joined with a space, which neither can hold."""
    table = inventory.table()
    for name in ("tags", "children"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.compute.binary_join(table[name], " "))
    plain = pa.schema([_plain(field) for field in table.schema])
    pa.csv.write_csv(table.cast(plain), path)


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _write_json(inventory: Inventory, path: Path) -> None:
    with path.open("wb") as file:
        for batch in inventory.table().to_batches(max_chunksize=ROWS_IN_A_GROUP):
            for row in batch.to_pylist():
                file.write(msgspec.json.encode(row) + b"\n")
        file.write(msgspec.json.encode(_Metadata(VERSION, inventory.sources)) + b"\n")


_WRITERS: dict[str, Callable[[Inventory, Path], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".json": _write_json,
}

_PANDAS: dict[pa.DataType, Any] = {
    pa.int64(): pd.Int64Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.string(): pd.ArrowDtype(pa.string()),
    pa.list_(pa.string()): pd.ArrowDtype(pa.list_(pa.string())),
}
