"""The zip archive of a wheel: its files, and a refusal of whatever could unpack to something else than it shows.

Sources: PKWARE APPNOTE 6.3.10 (local headers, flags, methods). How names are read is Python's ``zipfile``, as in pip.
"""

from __future__ import annotations

import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from registry_pipelines.errors import WheelInvalid
from registry_pipelines.progress import count_text

MAX_MEMBERS = 200_000
"""Files of one wheel; torch has about 13,000."""

MAX_UNPACKED_BYTES = 64 * 1024**3
"""All files of one wheel unpacked; the largest public ones stay below 5 GiB."""

MAX_RATIO = 250
RATIO_FREE_BYTES = 64 * 1024**2
"""Unpacked bytes per packed byte of a whole wheel that has more than the free bytes; deflate itself reaches 1,032."""

MAX_PATH_BYTES = 4096
MAX_PART_BYTES = 255
"""Linux PATH_MAX and NAME_MAX."""

PIECE_BYTES = 256 * 1024
"""Unpacked bytes handed on at a time."""

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_METHODS = {STORED: "stored", DEFLATED: "deflate", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800
_LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")

_BAD_LETTER = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""Control characters, backslash, lone surrogates."""

FETCH_AGAIN = "Delete the file and fetch it again"
DO_NOT_USE = "Do not use this wheel"

ZIP_ERRORS = (
    *(zipfile.BadZipFile, EOFError, struct.error, zlib.error, lzma.LZMAError),
    *(NotImplementedError, RuntimeError, UnicodeDecodeError),
)
"""What ``zipfile`` raises for an archive that does not hold together, or that this Python cannot read."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive; sizes and offsets in bytes."""

    name: str
    """Where it belongs: without ``./`` and doubled slashes."""
    entry: str
    """As the archive spells it."""
    method: int
    compressed_size: int
    size: int
    crc: int
    offset: int
    """Where its data starts in the file, behind the local header."""
    executable: bool


def read_members(archive: zipfile.ZipFile, file: BinaryIO, where: str) -> tuple[tuple[Member, ...], tuple[str, ...]]:
    """All files (no folders), sorted by name, and what was let pass that a careful reader should know.

    No link is ever made: a symbolic link is a file that holds its target's path, as pip writes it. A path that comes
    twice with one content is taken once, as ``zipfile`` does: the last. Raises WheelInvalid for devices, paths that
    leave the root, overlapping or encrypted members, unknown methods, one path with two contents, and bombs. Contents
    are not read.
    """
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise WheelInvalid(
            f"the wheel has {count_text(len(infos), 'file')}, at most {MAX_MEMBERS} are read", where=where
        )
    members: dict[str, Member] = {}
    twice, links = [], []
    ranges = []
    for info in infos:
        _check_kind(info, where)
        offset = _data_offset(info, file, where)
        ranges.append((info.header_offset, offset + info.compress_size))
        if info.is_dir():
            check_path(info.filename.rstrip("/") or ".", where=where, folder=True)
            continue
        member = _member(info, offset, where)
        if stat.S_ISLNK(info.external_attr >> 16):
            links.append(member.name)
        before = members.get(member.name)
        if before:
            if (before.size, before.crc) != (member.size, member.crc):
                raise WheelInvalid(
                    f"{member.name} is in the archive twice, with different content", where=where, do=DO_NOT_USE
                )
            twice.append(member.name)
        members[member.name] = member
    _check_ranges(ranges, file.seek(0, 2), where)
    _check_folders(members.keys(), where)
    _check_sizes(list(members.values()), where)
    kinds = (("twice in the archive, with one content", twice), ("a link, written as a file with its text", links))
    notes = tuple(f"{what}: {listed(names)}" for what, names in kinds if names)
    return tuple(sorted(members.values(), key=lambda member: member.name)), notes


def read_pieces(archive: zipfile.ZipFile, member: Member, where: str) -> Iterator[bytes]:
    """A member's content, unpacked, whatever its method; CRC-32 is checked at the end. Raises WheelInvalid."""
    try:
        with archive.open(member.entry) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except (*ZIP_ERRORS, OSError) as error:
        # bz2 reports damaged data as an OSError without a number.
        raise WheelInvalid(f"a compressed file is damaged: {error}", where=where) from error


def listed(names: list[str]) -> str:
    """A few names for people, and how many there are beside them."""
    shown = ", ".join(name[:200] for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def check_path(name: str, *, where: str, folder: bool = False) -> str:
    """``name`` without ``./`` and doubled slashes, when it is a relative path that stays inside its root.

    Refused: ``..``, absolute paths, backslashes and drive letters (readers disagree about them), control characters,
    lone surrogates, and lengths that Linux has no room for. Raises WheelInvalid.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    raw = name.encode("utf-8", "surrogatepass")
    bad = (
        (not parts and not folder)
        or name.startswith("/")
        or name.endswith("/")
        or ".." in parts
        or (
            len(raw) > MAX_PART_BYTES
            and any(len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES for part in parts)
        )
        or _BAD_LETTER.search(name) is not None
        or (bool(parts) and len(parts[0]) == 2 and parts[0][1] == ":")
        or len(raw) > MAX_PATH_BYTES
    )
    if bad:
        raise WheelInvalid(f"the path {name[:200]!r} is not allowed in a wheel", where=where, do=DO_NOT_USE)
    return "/".join(parts)


def _check_kind(info: zipfile.ZipInfo, where: str) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise WheelInvalid(f"{info.filename!r} is encrypted", where=where, do="Use a wheel without encryption")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise WheelInvalid(f"{info.filename!r} is a device", where=where, do=DO_NOT_USE)


def _member(info: zipfile.ZipInfo, offset: int, where: str) -> Member:
    name = check_path(info.filename, where=where)
    if info.orig_filename != info.filename:
        raise WheelInvalid(f"the path {info.orig_filename[:200]!r} is not allowed in a wheel", where=where)
    if info.compress_type not in _METHODS:
        known = ", ".join(f"{number} ({text})" for number, text in _METHODS.items())
        raise WheelInvalid(
            f"{info.filename} is compressed by method {info.compress_type}; known are {known}",
            where=where,
            do="Repack the wheel: `python -m wheel unpack` and `pack`",
        )
    if info.compress_type == STORED and info.compress_size != info.file_size:
        raise WheelInvalid(f"{info.filename} is stored, but its two sizes differ", where=where)
    mode = info.external_attr >> 16
    # As pip: a member that does not say that it is a regular file has no say on its mode either.
    executable = stat.S_ISREG(mode) and bool(mode & 0o111)
    entry = info.filename
    return Member(name, entry, info.compress_type, info.compress_size, info.file_size, info.CRC, offset, executable)


def _data_offset(info: zipfile.ZipInfo, file: BinaryIO, where: str) -> int:
    """Behind the local header, whose name must agree with the directory's (sizes may be in a data descriptor)."""
    file.seek(info.header_offset)
    fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    name = file.read(fields[9])
    encoding = "utf-8" if fields[2] & _UTF8_NAME else "cp437"
    if fields[0] != b"PK\x03\x04" or name.decode(encoding, "replace") != info.orig_filename:
        raise WheelInvalid(f"the local header of {info.filename!r} says something else", where=where, do=FETCH_AGAIN)
    return info.header_offset + _LOCAL_HEADER.size + int(fields[9]) + int(fields[10])


def _check_ranges(ranges: list[tuple[int, int]], file_size: int, where: str) -> None:
    """Members must not overlap: overlapping ones make a small file unpack to any size."""
    end = 0
    for start, stop in sorted(ranges):
        if start < end or stop > file_size:
            raise WheelInvalid("files of the archive overlap or leave it", where=where, do=DO_NOT_USE)
        end = stop


def _check_folders(names: Iterable[str], where: str) -> None:
    if both := file_and_folder(names):
        raise WheelInvalid(f"{both} is both a file and a folder", where=where)


def file_and_folder(names: Iterable[str]) -> str:
    """A name that another one has among its folders, empty when there is none."""
    known = set(names)
    folders: set[str] = set()
    for name in known:
        parent = name.rpartition("/")[0]
        while parent and parent not in folders:
            if parent in known:
                return parent
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return ""


def _check_sizes(members: list[Member], where: str) -> None:
    unpacked = sum(member.size for member in members)
    packed = sum(member.compressed_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or (unpacked > RATIO_FREE_BYTES and unpacked > MAX_RATIO * packed):
        raise WheelInvalid(
            f"the wheel would unpack {packed} bytes to {unpacked}: a decompression bomb",
            where=where,
            do=DO_NOT_USE,
        )
