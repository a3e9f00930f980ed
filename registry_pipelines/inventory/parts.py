"""What each manifest of an inventory needs, in a second file beside it: blobs with their sizes, and what lists claim.

Row for row the same manifests as the inventory, so a reader goes through both at once and holds one repository. It is
a file of its own because few need it and it is ten times as large: a plan of retention from a stored inventory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import HEX_LENGTHS, Digest

Ints = np.ndarray[Any, np.dtype[np.int64]]

_FOLDED = 32
"""Bytes of a digest: all of sha256, half of sha512."""

VERSION = 1
"""Of the columns; a new column does not change it."""

METADATA_KEY = b"registry_pipelines.inventory.parts"
"""Of the file's own metadata: JSON with ``version`` and ``repositories`` (see :class:`RepositoryFacts`)."""

SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),
        pa.field("known", pa.bool_(), nullable=False),
        pa.field("blobs", pa.list_(pa.binary()), nullable=False),
        pa.field("sizes", pa.list_(pa.int64()), nullable=False),
        pa.field("claims", pa.list_(pa.string()), nullable=False),
        pa.field("is_list", pa.bool_(), nullable=False),
    ]
)
"""digest: as in the inventory. known: whether its blobs were read. blobs: the bytes of their digests (32 are sha256, 64
sha512), the manifest itself first; sizes: bytes of each. claims: manifests that a list of referrers names, whatever
their own subject. is_list: whether it may be such a list itself."""


class Parts(NamedTuple):
    """Of one manifest. blobs: digest to bytes, itself included. The rest as the columns."""

    blobs: Mapping[Digest, int]
    claims: Sequence[str] = ()
    is_list: bool = False


class RepositoryFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for a whole repository. keeps_tagged, unreadable: as a survey has them."""

    keeps_tagged: bool = False
    unreadable: tuple[str, ...] = ()


class PartsMetadata(msgspec.Struct, frozen=True):
    """Of the file."""

    version: int
    repositories: dict[str, RepositoryFacts] = {}


def pack(digests: Sequence[str], parts: Sequence[Parts | None]) -> pa.RecordBatch:
    """Rows of the second file; what is None is not known."""
    known = [each or _UNKNOWN for each in parts]
    columns = [
        pa.array(digests, type=pa.string()),
        pa.array([each is not None for each in parts]),
        pa.array([[_raw(blob) for blob in each.blobs] for each in known], type=pa.list_(pa.binary())),
        pa.array([[min(size, _MOST) for size in each.blobs.values()] for each in known], type=pa.list_(pa.int64())),
        pa.array([list(each.claims) for each in known], type=pa.list_(pa.string())),
        pa.array([each.is_list for each in known]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


_UNKNOWN = Parts({})
_MOST = (1 << 63) - 1
"""A manifest may claim any size."""


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.partition(":")[2])


def named(raw: bytes) -> Digest:
    """The digest of a blob."""
    text = raw.hex()
    algorithm = next(name for name, length in HEX_LENGTHS.items() if length == len(text))
    return Digest(f"{algorithm}:{text}")


def beside(inventory: Path) -> Path:
    """Where the second file of an inventory stands: ``NAME.parts.parquet`` beside ``NAME.parquet``."""
    return inventory.with_suffix(".parts.parquet")


def with_metadata(table: pa.Table, facts: Mapping[str, RepositoryFacts]) -> pa.Table:
    """The table as it is written. facts: of repositories of which something is to be said."""
    told = {name: each for name, each in facts.items() if each != RepositoryFacts()}
    raw = msgspec.json.encode(PartsMetadata(VERSION, told))
    return table.replace_schema_metadata({METADATA_KEY: raw})


def any_known(table: pa.Table) -> bool:
    """Whether the blobs of any manifest are known."""
    return bool(pc.any(table["known"], min_count=0).as_py())


def number(blob: Digest) -> int:
    """A blob's number: the first 32 bytes of its digest, folded to eight. Two blobs that agree in these count as one:
    of ten million it happens in one of 400,000 inventories."""
    raw = bytes.fromhex(blob.hex)
    words = (int.from_bytes(raw[at : at + 8], "big", signed=True) for at in range(0, _FOLDED, 8))
    return reduce(xor, words)


def needs(parts: pa.Table) -> tuple[Ints, Ints, Ints]:
    """What the manifests of some rows need: number of the blob, its size, and the row, for each need. Raises InputError
    for a blob without a digest or a size."""
    column = parts["blobs"].combine_chunks()
    counts = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    raw = column.flatten()
    told = parts["sizes"].combine_chunks()
    whole = not raw.null_count and not told.flatten().null_count
    if not whole or not pc.all(pc.equal(pc.list_value_length(column), pc.list_value_length(told)), min_count=0).as_py():
        raise InputError("the second file of an inventory has blobs without a size", do="Take it again")
    if len(raw) and pc.min(pc.binary_length(raw)).as_py() < _FOLDED:
        raise InputError("the second file of an inventory names a blob by what is no digest", do="Take it again")
    starts = np.frombuffer(raw.buffers()[1], dtype=np.int32)[raw.offset : raw.offset + len(raw)].astype(np.int64)
    data = raw.buffers()[2]
    content = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    keys = np.zeros(len(raw), dtype=np.int64)
    for word in range(0, _FOLDED if len(raw) else 0, 8):
        part = np.zeros(len(raw), dtype=np.int64)
        for byte in range(word, word + 8):
            part = (part << 8) | content[starts + byte]
        keys ^= part
    sizes = told.flatten().to_numpy(zero_copy_only=False)
    return keys, sizes, np.repeat(np.arange(len(counts)), counts)
