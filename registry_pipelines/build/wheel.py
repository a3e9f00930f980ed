"""Wheels: reading the archive's directory and metadata, refusing whatever does not hold together.

Sources: PyPA "Binary distribution format" 1.0; PKWARE APPNOTE 6.3.10 (local headers, flags, methods).
"""

from __future__ import annotations

import email.parser
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from registry_pipelines.build.record import RecordRow, read_record
from registry_pipelines.errors import WheelInvalid

MAX_MEMBERS = 200_000
"""Files of one wheel; torch has about 13,000."""

MAX_UNPACKED_BYTES = 64 * 1024**3
"""All files of one wheel unpacked; the largest public ones stay below 5 GiB."""

MAX_RATIO = 250
RATIO_FREE_BYTES = 64 * 1024**2
"""Unpacked bytes per packed byte of a whole wheel that has more than the free bytes; deflate itself reaches 1,032."""

MAX_METADATA_BYTES = 64 * 1024**2
"""RECORD, METADATA, entry_points.txt; RECORD of torch has 2 MB."""

MAX_PATH_BYTES = 4096
MAX_PART_BYTES = 255
"""Linux PATH_MAX and NAME_MAX."""

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800
_LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True)
class Member:
    """A file of the archive; sizes and offsets in bytes."""

    name: str
    method: int
    compressed_size: int
    size: int
    crc: int
    offset: int
    """Where its data starts in the file, behind the local header."""
    executable: bool


@dataclass(frozen=True)
class Wheel:
    """A wheel whose directory and metadata were checked; its files are checked against RECORD while they are read."""

    path: Path
    name: str
    """Normalised (PEP 503)."""
    version: str
    members: tuple[Member, ...]
    """Without folders, sorted by name."""
    record: dict[str, RecordRow]
    dist_info: str
    """The folder, without slash."""
    data_folder: str
    entry_points: str
    """Text of entry_points.txt, empty when there is none."""

    def needs_hash(self, member: Member) -> bool:
        """Whether RECORD must carry its hash: everything but RECORD and its signatures."""
        return member.name not in {f"{self.dist_info}/{name}" for name in ("RECORD", *_SIGNATURES)}


def open_wheel(path: Path) -> Wheel:
    """Read and check a wheel's directory, metadata and RECORD; file contents are not read yet. Raises WheelInvalid."""
    where = path.name
    name, version = _read_filename(where)
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _read_members(archive, file, where)
            names = {member.name for member in members}
            dist_info = _find_dist_info(names, name, version, where)
            metadata = _read_text(archive, f"{dist_info}/WHEEL", where)
            _check_wheel_version(metadata, where)
            record = read_record(_read_bytes(archive, f"{dist_info}/RECORD", where), where=where)
            entry_points = f"{dist_info}/entry_points.txt"
            wheel = Wheel(
                path=path,
                name=name,
                version=version,
                members=members,
                record=record,
                dist_info=dist_info,
                data_folder=dist_info.removesuffix(".dist-info") + ".data",
                entry_points=_read_text(archive, entry_points, where) if entry_points in names else "",
            )
    except (zipfile.BadZipFile, EOFError, struct.error, zlib.error, NotImplementedError) as error:
        raise WheelInvalid(f"this is not a whole zip archive: {error}", where=where, do=_FETCH_AGAIN) from error
    except OSError as error:
        raise WheelInvalid(f"the wheel cannot be read: {error.strerror or error}", where=where) from error
    _check_record(wheel, where)
    return wheel


_FETCH_AGAIN = "Delete the file and fetch it again"


def check_path(name: str, *, where: str) -> str:
    """Return ``name`` when it is a plain relative path that stays inside its root. Raises WheelInvalid."""
    parts = name.split("/")
    raw = name.encode("utf-8", "surrogatepass")
    bad = (
        any(part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES for part in parts)
        or "\\" in name
        or any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in name)
        or (len(parts[0]) == 2 and parts[0][1] == ":")
        or len(raw) > MAX_PATH_BYTES
    )
    if bad:
        raise WheelInvalid(
            f"the path {name[:200]!r} is not allowed in a wheel", where=where, do="Do not use this wheel"
        )
    return name


def _read_filename(filename: str) -> tuple[str, str]:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelInvalid(f"this is not a wheel's file name: {error}", where=filename) from error
    return str(name), str(version)


def _read_members(archive: zipfile.ZipFile, file: BinaryIO, where: str) -> tuple[Member, ...]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise WheelInvalid(f"the wheel has {len(infos)} files, at most {MAX_MEMBERS} are read", where=where)
    members = []
    ranges = []
    for info in infos:
        if info.flag_bits & _ENCRYPTED:
            raise WheelInvalid(f"{info.filename!r} is encrypted", where=where, do="Use a wheel without encryption")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise WheelInvalid(f"{info.filename!r} is a link or device", where=where, do="Do not use this wheel")
        offset = _data_offset(info, file, where)
        ranges.append((info.header_offset, offset + info.compress_size))
        if info.is_dir():
            check_path(info.filename.rstrip("/"), where=where)
        else:
            members.append(_member(info, offset, where))
    _check_ranges(ranges, file.seek(0, 2), where)
    members.sort(key=lambda member: member.name)
    _check_names([member.name for member in members], where)
    _check_sizes(members, where)
    return tuple(members)


def _member(info: zipfile.ZipInfo, offset: int, where: str) -> Member:
    check_path(info.filename, where=where)
    if info.orig_filename != info.filename:
        raise WheelInvalid(f"the path {info.orig_filename[:200]!r} is not allowed in a wheel", where=where)
    if info.compress_type not in (STORED, DEFLATED):
        raise WheelInvalid(
            f"{info.filename} is compressed by method {info.compress_type}; wheels use 0 (stored) or 8 (deflate)",
            where=where,
            do="Repack the wheel: `python -m wheel unpack` and `pack`",
        )
    if info.compress_type == STORED and info.compress_size != info.file_size:
        raise WheelInvalid(f"{info.filename} is stored, but its two sizes differ", where=where)
    executable = bool(info.external_attr >> 16 & 0o111)
    return Member(info.filename, info.compress_type, info.compress_size, info.file_size, info.CRC, offset, executable)


def _data_offset(info: zipfile.ZipInfo, file: BinaryIO, where: str) -> int:
    """Behind the local header, whose name must agree with the directory's (sizes may be in a data descriptor)."""
    file.seek(info.header_offset)
    fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    name = file.read(fields[9])
    encoding = "utf-8" if fields[2] & _UTF8_NAME else "cp437"
    if fields[0] != b"PK\x03\x04" or name.decode(encoding, "replace") != info.orig_filename:
        raise WheelInvalid(f"the local header of {info.filename!r} says something else", where=where, do=_FETCH_AGAIN)
    return info.header_offset + _LOCAL_HEADER.size + int(fields[9]) + int(fields[10])


def _check_ranges(ranges: list[tuple[int, int]], file_size: int, where: str) -> None:
    """Members must not overlap: overlapping ones make a small file unpack to any size."""
    end = 0
    for start, stop in sorted(ranges):
        if start < end or stop > file_size:
            raise WheelInvalid("files of the archive overlap or leave it", where=where, do="Do not use this wheel")
        end = stop


def _check_names(names: list[str], where: str) -> None:
    known = set(names)
    if len(known) != len(names):
        twice = next(name for name, following in pairwise(names) if name == following)
        raise WheelInvalid(f"{twice} is in the archive twice", where=where, do="Do not use this wheel")
    for name in names:
        parent = name.rpartition("/")[0]
        while parent:
            if parent in known:
                raise WheelInvalid(f"{parent} is both a file and a folder", where=where)
            parent = parent.rpartition("/")[0]


def _check_sizes(members: list[Member], where: str) -> None:
    unpacked = sum(member.size for member in members)
    packed = sum(member.compressed_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES or (unpacked > RATIO_FREE_BYTES and unpacked > MAX_RATIO * packed):
        raise WheelInvalid(
            f"the wheel would unpack {packed} bytes to {unpacked}: a decompression bomb",
            where=where,
            do="Do not use this wheel",
        )


def _find_dist_info(names: set[str], name: str, version: str, where: str) -> str:
    folders = {top for top in (entry.partition("/")[0] for entry in names) if top.endswith(".dist-info")}
    if len(folders) != 1:
        raise WheelInvalid(f"there are {len(folders)} .dist-info folders instead of one", where=where)
    folder = folders.pop()
    found_name, _, found_version = folder.removesuffix(".dist-info").rpartition("-")
    try:
        same = canonicalize_name(found_name) == name and Version(found_version) == Version(version)
    except InvalidVersion:
        same = False
    if not same:
        raise WheelInvalid(f"the folder {folder} does not fit the file's name", where=where)
    return folder


def _read_bytes(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise WheelInvalid(f"{name} is missing", where=where) from error
    if info.file_size > MAX_METADATA_BYTES:
        raise WheelInvalid(f"{name} has {info.file_size} bytes, at most {MAX_METADATA_BYTES} are read", where=where)
    return archive.read(info)


def _read_text(archive: zipfile.ZipFile, name: str, where: str) -> str:
    try:
        return _read_bytes(archive, name, where).decode()
    except UnicodeDecodeError as error:
        raise WheelInvalid(f"{name} is not UTF-8", where=where) from error


def _check_wheel_version(text: str, where: str) -> None:
    version = email.parser.HeaderParser().parsestr(text).get("Wheel-Version", "").strip()
    if version.partition(".")[0] != "1":
        raise WheelInvalid(f"Wheel-Version is {version[:20] or 'missing'}, only 1.x is understood", where=where)


def _check_record(wheel: Wheel, where: str) -> None:
    there = {member.name for member in wheel.members}
    for member in wheel.members:
        row = wheel.record.get(member.name)
        if wheel.needs_hash(member) and (row is None or not row.hash):
            raise WheelInvalid(f"RECORD has no hash of {member.name}", where=where, do="Do not use this wheel")
        if row is not None and row.size is not None and row.hash and row.size != member.size:
            raise WheelInvalid(f"{member.name} has {member.size} bytes, RECORD says {row.size}", where=where)
    missing = sorted(set(wheel.record) - there)
    if missing:
        raise WheelInvalid(f"RECORD names {missing[0][:200]}, which is not in the archive", where=where)
