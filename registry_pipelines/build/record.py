"""RECORD: the list of a distribution's files with hash and size (PyPA specification "Recording installed projects").

The one in an archive is read as pip reads it: generously. What it says of a file is held against the file; what it
does not say, or says of something that is not there, is told in a note.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from registry_pipelines.build.archive import DO_NOT_USE, Member, listed
from registry_pipelines.errors import WheelInvalid

STRONG = ("sha256", "sha384", "sha512")
"""What the binary distribution format asks for: sha256 or better. Others are held against the content too, and replaced
by sha256 in the RECORD that is installed."""

_NO_HASH = "?"
"""Stands for a text that no content can hash to."""

_KNOWN = hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One line. hash is urlsafe base64 without padding; algorithm and hash are empty when there is none that can be
    checked, size is None when it is not told."""

    path: str
    algorithm: str = ""
    hash: str = ""
    size: int | None = None

    @property
    def strong(self) -> bool:
        """Whether its hash vouches for the content."""
        return self.algorithm in STRONG


def encode_hash(raw: bytes) -> str:
    """Raw digest to RECORD's form."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_record(
    raw: bytes, members: Sequence[Member], dist_info: str, *, where: str
) -> tuple[dict[str, RecordRow], tuple[str, ...]]:
    """Rows by the member they are about, and notes on what RECORD leaves open.

    Rows of folders and of files that are not there are left out; a path may be spelled with backslashes, ``./`` or a
    slash in front. Raises WheelInvalid when RECORD is no CSV in UTF-8, or contradicts itself or the archive (two hashes
    for one file, another size, a hash nothing can have).
    """
    names = {member.name: member for member in members}
    itself = {f"{dist_info}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s")}
    rows: dict[str, RecordRow] = {}
    strange: list[str] = []
    absent: list[str] = []
    for fields in _read_lines(raw, where):
        if not fields or (fields[0].endswith("/") and not any(fields[1:])):
            continue
        row, as_it_should = _read_row(fields)
        if not as_it_should:
            strange.append(row.path)
        name = _find(row.path, names)
        if name is None:
            absent.append(row.path)
        elif name not in itself:
            _add(rows, row if row.path == name else replace(row, path=name), names[name], where)
    return rows, _notes(rows, names.keys() - itself, strange, absent)


def _notes(
    rows: dict[str, RecordRow], expected: Iterable[str], strange: list[str], absent: list[str]
) -> tuple[str, ...]:
    without = sorted(name for name in expected if name not in rows or not rows[name].hash)
    weak = sorted(name for name, row in rows.items() if row.hash and not row.strong)
    kinds = (
        ("RECORD has no hash that can be checked of", without),
        ("RECORD has a hash that is weaker than sha256 of", weak),
        ("RECORD names what is not in the archive, left out", absent),
        ("RECORD has a malformed line of", strange),
    )
    return tuple(f"{what}: {listed(names)}" for what, names in kinds if names)


def _read_lines(raw: bytes, where: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheelInvalid(f"RECORD cannot be read: {error}", where=where) from error


def _read_row(fields: list[str]) -> tuple[RecordRow, bool]:
    """A row, and whether the line is as the format has it."""
    as_it_should = len(fields) == 3
    if len(fields) > 3 and "=" in fields[-2]:
        # A comma in the path that nobody quoted.
        fields = [",".join(fields[:-2]), *fields[-2:]]
    path, hash_text, size_text = (*fields, "", "")[:3]
    size = int(size_text) if size_text.isascii() and size_text.isdecimal() and len(size_text) < 20 else None
    algorithm, _, value = hash_text.strip().partition("=")
    algorithm = algorithm.lower()
    if algorithm not in _KNOWN:
        return RecordRow(path, size=size), as_it_should and not algorithm and bool(size_text) == (size is not None)
    digest = _decode_hash(value, hashlib.new(algorithm, usedforsecurity=False).digest_size)
    as_it_should = as_it_should and bool(size_text) == (size is not None)
    return RecordRow(path, algorithm, _NO_HASH if digest is None else encode_hash(digest), size), as_it_should


def _decode_hash(text: str, size: int) -> bytes | None:
    """base64 with either alphabet, padded or not; or hexadecimal, which some tools write."""
    try:
        if len(text) == 2 * size:
            return bytes.fromhex(text)
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw if len(raw) == size else None


def _find(path: str, names: dict[str, Member]) -> str | None:
    """The member a row is about."""
    if path in names:
        return path
    plain = posixpath.normpath(path.replace("\\", "/")).lstrip("/")
    return plain if plain in names else None


def _add(rows: dict[str, RecordRow], row: RecordRow, member: Member, where: str) -> None:
    if row.size is not None and row.size != member.size:
        raise WheelInvalid(f"{row.path} has {member.size} bytes, RECORD says {row.size}", where=where, do=DO_NOT_USE)
    if row.hash == _NO_HASH:
        raise WheelInvalid(f"the {row.algorithm} of {row.path} in RECORD is none", where=where, do=DO_NOT_USE)
    before = rows.get(row.path)
    if before is None or not before.hash or (row.strong and not before.strong):
        rows[row.path] = row
    elif row.algorithm == before.algorithm and row.hash != before.hash:
        raise WheelInvalid(f"RECORD names {row.path} twice with different hashes", where=where, do=DO_NOT_USE)


def write_record(rows: Iterable[RecordRow]) -> bytes:
    """The file, rows sorted by path, as pip writes them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in sorted(rows, key=lambda row: row.path):
        hash_text = f"{row.algorithm}={row.hash}" if row.hash else ""
        writer.writerow((row.path, hash_text, "" if row.size is None else row.size))
    return text.getvalue().encode()
