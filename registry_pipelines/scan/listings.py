"""What an advisory set holds, record by record: the export's lists, and what its archives hold themselves."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from registry_pipelines.errors import AdvisoriesMissing
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.osv import MAX_RECORD_BYTES
from registry_pipelines.scan.report import MALICIOUS_ID

MAX_ID_CHARACTERS = 160
MAX_UNPACKED_BYTES = 64 * 1024**3
"""All of OSV has about 5 GB."""

Times = dict[str, str]
"""Record id to ``modified``, as its publisher writes it."""


class Head(msgspec.Struct):
    """What of a record says which edition of which record it is."""

    id: str
    modified: str


def read_listing(path: Path) -> Times:
    """A ``modified_id.csv``: a line ``modified,ID`` for each record. Lines that are none are left out: the record is
    then one that was never seen, and its archive is what counts."""
    times: Times = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for line in file:
            modified, _, name = line.strip().partition(",")
            if is_id(name) and len(modified) < 64 and name not in times:
                times[name] = modified
    return times


def write_listing(path: Path, times: Mapping[str, str]) -> None:
    """The same form."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{modified},{name}\n" for name, modified in times.items())


def is_id(name: str) -> bool:
    """Whether a text can be a record's id, and a part of a file's name and of an address."""
    plain = name.replace("-", "").replace(".", "").replace("_", "").replace(":", "")
    return plain.isascii() and plain.isalnum() and not name.startswith(".") and len(name) <= MAX_ID_CHARACTERS


def read_archive(path: Path, *, where: str = "") -> Times:
    """What an ``all.zip`` holds; every member is read to its end, so that each checksum is checked. Records that cannot
    be read are left to whoever indexes them. where: its name in errors, the file's own unless told. Raises
    AdvisoriesMissing: no archive, damaged, or without any record."""
    times: Times = {}
    unpacked = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".json"):
                    continue
                with archive.open(member) as stream:
                    raw = stream.read(MAX_RECORD_BYTES + 1)
                unpacked += len(raw)
                if unpacked > MAX_UNPACKED_BYTES:
                    raise _unreadable(where or path.name, f"it has more than {MAX_UNPACKED_BYTES} bytes unpacked")
                head = read_head(raw)
                if head is not None:
                    times[head.id] = head.modified
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _unreadable(where or path.name, str(error)) from error
    if not times:
        raise _unreadable(where or path.name, "there is no readable OSV record in it")
    return times


def _unreadable(where: str, why: str) -> AdvisoriesMissing:
    return AdvisoriesMissing(
        f"the archive of advisories cannot be read: {why}", where=where, do="Fetch it again; nothing was changed"
    )


def read_head(raw: bytes) -> Head | None:
    """Id and edition of a record; None where it has none."""
    try:
        head = msgspec.json.decode(raw, type=ready(Head))
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    return head if is_id(head.id) and read_time(head.modified) else None


def changed_since(known: Mapping[str, str], listed: Mapping[str, str]) -> list[str]:
    """Records whose listed edition is newer than the known one, or that are not known at all."""
    return [name for name, modified in listed.items() if _is_newer(modified, known.get(name, ""))]


def _is_newer(modified: str, known: str) -> bool:
    if modified == known:
        return False
    there, here = read_time(modified), read_time(known)
    return here is None or there is None or there > here


def newest_of(times: Mapping[str, str]) -> str:
    """The date of the newest record, RFC 3339, UTC, whole seconds. Raises AdvisoriesMissing where none has one."""
    moments = [moment for modified in times.values() if (moment := read_time(modified)) is not None]
    if not moments:
        raise AdvisoriesMissing("no record has a date", do="Fetch the advisories again")
    return max(moments).strftime("%Y-%m-%dT%H:%M:%SZ")


def malicious_in(names: Iterable[str]) -> int:
    """How many of them are about malicious packages."""
    return sum(name.startswith(MALICIOUS_ID) for name in names)
