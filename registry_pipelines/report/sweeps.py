"""What one sweep found in one bucket of a fleet: a Parquet file, and beside it a signed statement about it.

The statement is a DSSE envelope (github.com/secure-systems-lab/dsse) that names the file by digest and size, so that
rows stay what any reader of Parquet takes. Whoever folds buckets believes a file once a trusted key said so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import SWEEP_TYPE
from registry_pipelines.oci.decoding import ready

Kind = Literal["drift", "lag", "cost"]

STATEMENT_SCHEMA = 1
_AT = pa.timestamp("us", tz="UTC")

DRIFT = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("differences", pa.list_(pa.string()), nullable=False),
        pa.field("not_compared", pa.int64(), nullable=False),
        pa.field("looked", _AT, nullable=False),
    ]
)
"""A row for each release at each of its targets. state: ``equal``; ``differs``; ``missing`` (it was promoted to a
channel that has the target); ``unknown`` (it could not be asked; ``differences`` say why). looked: when."""

LAG = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("edge", pa.string(), nullable=False),
        pa.field("way", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("lag_s", pa.float64()),
        pa.field("late", pa.bool_(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("looked", _AT, nullable=False),
    ]
)
"""A row for each channel of an image at each target. A null lag is "not known". late: beyond the target's ``max_lag``,
or not known."""

SCHEMAS: Mapping[str, pa.Schema] = {"drift": DRIFT, "lag": LAG}
"""Of ``cost`` it is an inventory's (``inventory.schema``)."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed of one bucket. files: digests of its Parquet files, by name: ``parquet``; of ``cost`` two for each
    registry, an inventory's (``us.parquet``, ``us.parts.parquet``). began, ended: RFC 3339, UTC. whole: everything was
    looked at; else ``unread`` says what was not. counts: rows by state."""

    schema: int = STATEMENT_SCHEMA
    kind: Kind
    bucket: str
    files: dict[str, str]
    rows: int
    began: str
    ended: str
    whole: bool
    unread: tuple[str, ...] = ()
    counts: dict[str, int] = {}


def write_rows(kind: Kind, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows of :data:`SCHEMAS` as a Parquet file."""
    return write_table(pa.Table.from_pylist(list(rows), schema=SCHEMAS[kind]))


def write_table(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    return bytes(content.getvalue())


def read_rows(kind: Kind, raw: bytes, *, where: str) -> pa.Table:
    """What :func:`write_rows` wrote. Raises InputError."""
    try:
        return pq.read_table(pa.BufferReader(raw)).select(SCHEMAS[kind].names).cast(SCHEMAS[kind])
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise InputError(f"the rows of a sweep cannot be read: {str(error)[:200]}", where=where) from error


def state(
    kind: Kind,
    bucket: str,
    contents: Mapping[str, bytes],
    *,
    rows: int,
    began: datetime,
    ended: datetime,
    unread: Iterable[str] = (),
    counts: Mapping[str, int] | None = None,
) -> Statement:
    """The statement about files by name."""
    missing = tuple(unread)[:20]
    return Statement(
        kind=kind,
        bucket=bucket,
        files={name: digest_of(content) for name, content in contents.items()},
        rows=rows,
        began=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ended=ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
        whole=not missing,
        unread=missing,
        counts=dict(sorted((counts or {}).items())),
    )


def encoded(statement: Statement) -> bytes:
    """JSON, as it is kept and signed."""
    return msgspec.json.encode(statement)


def sign(statement: Statement, signer: Signer) -> bytes:
    """The envelope, as a file has it."""
    return write_envelope(sign_envelope(encoded(statement), signer, payload_type=SWEEP_TYPE))


def read_signed(raw: bytes, verifier: Verifier, *, where: str) -> Statement:
    """What a believed key said. Raises SignatureInvalid, InputError (another schema)."""
    envelope = read_envelope(raw, where=where)
    verifier.vouching(verify_envelope(envelope, verifier, where=where, payload_type=SWEEP_TYPE), SWEEP_TYPE)
    return read_statement(envelope.payload, where=where)


def read_statement(raw: bytes, *, where: str) -> Statement:
    """A statement that nobody signed, or the payload of one. Raises SignatureInvalid for what is none, InputError."""
    try:
        statement: Statement = msgspec.json.decode(raw, type=ready(Statement))
    except msgspec.MsgspecError as error:
        raise SignatureInvalid(f"this is not a statement of a sweep: {error}", where=where) from error
    if statement.schema != STATEMENT_SCHEMA:
        raise InputError(f"the sweep's statement has schema {statement.schema}", where=where, do="Sweep again")
    return statement


def digest_of(content: bytes) -> str:
    """How a statement names a file."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
