"""RECORD: the list of a distribution's files with hash and size (PyPA specification "Recording installed projects")."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass

from registry_pipelines.errors import WheelInvalid

ALGORITHMS = ("sha256", "sha384", "sha512")
"""The binary distribution format asks for sha256 or better."""


@dataclass(frozen=True)
class RecordRow:
    """One line. hash is urlsafe base64 without padding; algorithm and hash are empty for RECORD itself and its
    signatures, size is None when it is not told."""

    path: str
    algorithm: str = ""
    hash: str = ""
    size: int | None = None


def encode_hash(raw: bytes) -> str:
    """Raw digest to RECORD's form."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def row_of(path: str, content: bytes) -> RecordRow:
    """The row of a file we wrote ourselves."""
    return RecordRow(path, "sha256", encode_hash(hashlib.sha256(content).digest()), len(content))


def read_record(raw: bytes, *, where: str) -> dict[str, RecordRow]:
    """Rows by path; folders are left out. Raises WheelInvalid (names the line)."""
    rows: dict[str, RecordRow] = {}
    try:
        lines = list(csv.reader(io.StringIO(raw.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheelInvalid(f"RECORD cannot be read: {error}", where=where) from error
    for number, fields in enumerate(lines, 1):
        if not fields or (fields[0].endswith("/") and not any(fields[1:])):
            continue
        row = _read_row(fields, f"{where}, RECORD line {number}")
        if rows.setdefault(row.path, row) != row:
            raise WheelInvalid(f"RECORD names {row.path} twice with different hashes", where=where)
    return rows


def _read_row(fields: list[str], where: str) -> RecordRow:
    if len(fields) != 3:
        raise WheelInvalid(f"{len(fields)} fields instead of path, hash, size", where=where)
    path, hash_text, size_text = fields
    algorithm, _, value = hash_text.partition("=")
    if hash_text and (algorithm not in ALGORITHMS or not value):
        raise WheelInvalid(f"the hash of {path[:200]} is not {', '.join(ALGORITHMS)}", where=where)
    if size_text and not (size_text.isascii() and size_text.isdecimal() and len(size_text) < 20):
        raise WheelInvalid(f"the size of {path[:200]} is not a number", where=where)
    return RecordRow(path, algorithm, value.rstrip("="), int(size_text) if size_text else None)


def write_record(rows: Iterable[RecordRow]) -> bytes:
    """The file, rows sorted by path, as pip writes them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in sorted(rows, key=lambda row: row.path):
        hash_text = f"{row.algorithm}={row.hash}" if row.hash else ""
        writer.writerow((row.path, hash_text, "" if row.size is None else row.size))
    return text.getvalue().encode()
