"""Wheels: reading metadata and RECORD, as generously as pip; refusing what does not hold together.

Source: PyPA "Binary distribution format" 1.0. What pip takes although the format does not is taken too, with a note.
"""

from __future__ import annotations

import email.parser
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from registry_pipelines.build.archive import DO_NOT_USE, FETCH_AGAIN, ZIP_ERRORS, Member, read_members
from registry_pipelines.build.record import RecordRow, read_record
from registry_pipelines.errors import WheelInvalid

MAX_METADATA_BYTES = 64 * 1024**2
"""RECORD, METADATA, entry_points.txt; RECORD of torch has 2 MB."""

MAX_FIRST_LINE_BYTES = 64 * 1024
"""First line of a script; Linux reads 256 bytes of it."""

WHEEL_VERSION = (1, 0)
"""The newest Wheel-Version there is."""

SCRIPT_MARK = b"#!python"
"""How a script begins whose first line an installer replaces by its own interpreter."""


@dataclass(frozen=True)
class Wheel:
    """A wheel whose directory and metadata were checked; its files are checked against RECORD while they are read."""

    path: Path
    name: str
    """Normalised (PEP 503)."""
    version: str
    """Of METADATA, normalised (PEP 440)."""
    members: tuple[Member, ...]
    """Without folders, sorted by name."""
    record: dict[str, RecordRow]
    """By member name; a file that RECORD does not vouch for has no row, or one without hash."""
    dist_info: str
    """The folder, without slash."""
    entry_points: str
    """Text of entry_points.txt, empty when there is none."""
    first_lines: dict[str, int] = field(default_factory=dict)
    """Scripts of ``.data/scripts`` that begin with ``#!python``, and the bytes of their first line."""
    notes: tuple[str, ...] = ()
    """What the format does not allow and pip takes: said in the build's result and in provenance."""

    def row(self, member: Member) -> RecordRow:
        """What RECORD says of a member."""
        return self.record.get(member.name, RecordRow(member.name))


def open_wheel(path: Path) -> Wheel:
    """Read and check a wheel's directory, metadata, RECORD and the beginnings of its scripts; other contents are not
    read yet. Raises WheelInvalid."""
    where = path.name
    name, version = _read_filename(where)
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members, notes = read_members(archive, file, where)
            by_name = {member.name: member for member in members}
            dist_info = _find_dist_info(by_name, name, where)
            found_version, more = _check_metadata(
                _read(archive, by_name, f"{dist_info}/METADATA", where), name, version, dist_info, where
            )
            notes += more + _check_wheel_version(_read_text(archive, by_name, f"{dist_info}/WHEEL", where), where)
            raw = _read(archive, by_name, f"{dist_info}/RECORD", where)
            record, more = read_record(raw, members, dist_info, where=where)
            entry_points = f"{dist_info}/entry_points.txt"
            return Wheel(
                path=path,
                name=name,
                version=found_version,
                members=members,
                record=record,
                dist_info=dist_info,
                entry_points=_read_text(archive, by_name, entry_points, where) if entry_points in by_name else "",
                first_lines=_read_first_lines(archive, members, where),
                notes=notes + more,
            )
    except ZIP_ERRORS as error:
        raise WheelInvalid(f"this is not a whole zip archive: {error}", where=where, do=FETCH_AGAIN) from error
    except OSError as error:
        raise WheelInvalid(f"the wheel cannot be read: {error.strerror or error}", where=where) from error


def data_place(name: str) -> tuple[str, str] | None:
    """Installation folder and path below it of a file in a top folder that ends with ``.data``, else None; both may be
    empty when the path is too short."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return None
    key, _, path = rest.partition("/")
    return key, path


def _read_filename(filename: str) -> tuple[str, str]:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelInvalid(f"this is not a wheel's file name: {error}", where=filename) from error
    return str(name), str(version)


def _find_dist_info(names: dict[str, Member], name: str, where: str) -> str:
    """The one ``.dist-info`` folder at the top (packages bring others of what they vendor, further below)."""
    tops = (top for top, slash, _ in (entry.partition("/") for entry in names) if slash)
    folders = sorted({top for top in tops if top.endswith(".dist-info")})
    if len(folders) != 1:
        some = ", ".join(folder[:100] for folder in folders[:3])
        raise WheelInvalid(f"there are {len(folders)} .dist-info folders instead of one: {some}", where=where)
    if _folder_version(folders[0], name) is None:
        raise WheelInvalid(f"the folder {folders[0]} does not fit the file's name", where=where, do=DO_NOT_USE)
    return folders[0]


def _folder_version(folder: str, name: str) -> str | None:
    """The version in a ``.dist-info`` folder's name, empty when it has none; None when it is another project's."""
    stem = folder.removesuffix(".dist-info")
    ends = [place for place, letter in enumerate(stem) if letter == "-"] + [len(stem)]
    return next((stem[end + 1 :] for end in ends if canonicalize_name(stem[:end]) == name), None)


def _check_metadata(raw: bytes, name: str, version: str, dist_info: str, where: str) -> tuple[str, tuple[str, ...]]:
    """The version METADATA tells, and notes on folders and file names that tell another one."""
    headers = email.parser.HeaderParser().parsestr(raw.decode("utf-8-sig", "replace"))
    said_name, said = (str(headers.get(key, "")).strip() for key in ("Name", "Version"))
    if canonicalize_name(said_name) != name:
        raise WheelInvalid(f"METADATA names the project {said_name[:100]!r}", where=where, do=DO_NOT_USE)
    try:
        metadata_version = Version(said)
    except InvalidVersion as error:
        raise WheelInvalid(f"METADATA has the version {said[:100]!r}", where=where, do=DO_NOT_USE) from error
    notes = []
    for what, stated in (("file name", version), (f"folder {dist_info}", _folder_version(dist_info, name) or "")):
        if stated and not _same_version(stated, metadata_version):
            notes.append(f"METADATA has version {metadata_version}, the {what} {stated}")
    return str(metadata_version), tuple(notes)


def _same_version(text: str, version: Version) -> bool:
    try:
        # Dashes of a local version become underscores in file names.
        return Version(text.replace("_", "-")) == version
    except InvalidVersion:
        return False


def _read(archive: zipfile.ZipFile, names: dict[str, Member], name: str, where: str) -> bytes:
    if name not in names:
        raise WheelInvalid(f"{name} is missing", where=where)
    if names[name].size > MAX_METADATA_BYTES:
        raise WheelInvalid(f"{name} has {names[name].size} bytes, at most {MAX_METADATA_BYTES} are read", where=where)
    return archive.read(names[name].entry)


def _read_text(archive: zipfile.ZipFile, names: dict[str, Member], name: str, where: str) -> str:
    try:
        return _read(archive, names, name, where).decode()
    except UnicodeDecodeError as error:
        raise WheelInvalid(f"{name} is not UTF-8", where=where) from error


def _check_wheel_version(text: str, where: str) -> tuple[str, ...]:
    """Notes. The first number says whether we understand the format, the others that something was added to it."""
    said = str(email.parser.HeaderParser().parsestr(text).get("Wheel-Version", "")).strip()
    try:
        numbers = tuple(map(int, said.split(".")))
    except ValueError:
        numbers = ()
    if not numbers or numbers[0] > WHEEL_VERSION[0]:
        raise WheelInvalid(f"Wheel-Version is {said[:20] or 'missing'}, only 1.x is understood", where=where)
    return (f"Wheel-Version {said[:20]} is newer than 1.0",) if numbers > WHEEL_VERSION else ()


def _read_first_lines(archive: zipfile.ZipFile, members: tuple[Member, ...], where: str) -> dict[str, int]:
    lengths = {}
    for member in members:
        place = data_place(member.name)
        if place and place[0] == "scripts" and member.size >= len(SCRIPT_MARK):
            with archive.open(member.entry) as file:
                if file.read(len(SCRIPT_MARK)) == SCRIPT_MARK:
                    line = file.readline(MAX_FIRST_LINE_BYTES)
                    if not line.endswith(b"\n") and len(line) == MAX_FIRST_LINE_BYTES:
                        raise WheelInvalid(
                            f"the first line of {member.name} is longer than {MAX_FIRST_LINE_BYTES} bytes", where=where
                        )
                    lengths[member.name] = len(SCRIPT_MARK) + len(line)
    return lengths
