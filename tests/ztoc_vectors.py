"""The golden files of tests/data/ztoc-vectors.tar.gz, as they are read by tests of layers and of SOCI indexes."""

from __future__ import annotations

import functools
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).parent / "data" / "ztoc-vectors.tar.gz"


@functools.cache
def files() -> dict[str, bytes]:
    """Content of all files by their paths below the archive's folder."""
    with tarfile.open(ARCHIVE) as tar:
        return {
            member.name.partition("/")[2]: tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
            if member.isfile()
        }


def vectors(*kinds: str) -> list[dict[str, Any]]:
    """The records of these kinds: golden, quirk, error."""
    return [vector for vector in json.loads(files()["index.json"])["vectors"] if vector["kind"] in kinds]


def span_digests(ztoc: bytes) -> list[str]:
    """CompressionInfo's span_digests, read from the FlatBuffer by hand (slot 2 of slot 5 of the root)."""
    digests = _slot(ztoc, _slot(ztoc, _follow(ztoc, 0), 5), 2)
    count = struct.unpack_from("<I", ztoc, digests)[0]
    return [_text(ztoc, _follow(ztoc, digests + 4 + 4 * number)) for number in range(count)]


def checkpoints_blob(ztoc: bytes) -> bytes:
    """CompressionInfo's checkpoints (slot 3)."""
    start = _slot(ztoc, _slot(ztoc, _follow(ztoc, 0), 5), 3)
    return ztoc[start + 4 : start + 4 + struct.unpack_from("<I", ztoc, start)[0]]


def _follow(raw: bytes, at: int) -> int:
    return int(at + struct.unpack_from("<I", raw, at)[0])


def _slot(raw: bytes, table: int, number: int) -> int:
    vtable = table - struct.unpack_from("<i", raw, table)[0]
    return _follow(raw, table + struct.unpack_from("<H", raw, vtable + 4 + 2 * number)[0])


def _text(raw: bytes, at: int) -> str:
    return raw[at + 4 : at + 4 + struct.unpack_from("<I", raw, at)[0]].decode()
