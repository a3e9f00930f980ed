"""What each manifest of an inventory needs, in a second file beside it: blobs with their sizes, and what lists claim.

Row for row the same manifests as the inventory, so a reader goes through both at once and holds one repository. It is
a file of its own because few need it and it is ten times as large: a plan of retention from a stored inventory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from registry_pipelines.oci.digest import HEX_LENGTHS, Digest

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
