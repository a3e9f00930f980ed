"""rpm's database in its SQLite form, and the headers of packages that it holds.

Sources: rpm's ``docs/manual/hregions.md`` and ``tags.md``, ``lib/header.c`` (the stored form of a header: two counts,
index entries of 16 bytes, data; all numbers big-endian), ``lib/backend/sqlite.c`` (table ``Packages``, columns ``hnum``
and ``blob``). Bad content gives a reason, never an exception; a database is a stranger's and runs nothing here.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.progress import count_text
from registry_pipelines.scan.facts import AnyFact, OsDatabase, OsPackage, RpmDatabase
from registry_pipelines.scan.names import NamesWriter
from registry_pipelines.scan.os_databases import clean_path, may_matter

MAX_DATABASE_BYTES = 512 * 1024 * 1024
"""A full desktop of Fedora has 150 MiB."""
MAX_HEADER_BYTES = 16 * 1024 * 1024
"""One package, of which four copies are in memory; the kernel's headers have 6 MiB. rpm itself stops at 256 MiB."""
MAX_PATH_CHARACTERS = 4096
"""Linux opens no longer one."""
MAX_PACKAGES = 100_000
MAX_BROKEN = 100
MAX_FILES = 500_000
"""Of one package; the kernel's headers have 20,000, TeX Live's largest 40,000."""
MAX_STEPS = 50_000
"""Thousands of SQLite's instructions; two million of them read 10,000 packages."""

_MAGIC = b"SQLite format 3\0"
_ENTRY = struct.Struct(">IIII")
_STRING, _STRING_ARRAY, _I18N = 6, 8, 9
_INT32 = 4
_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH = 1000, 1001, 1002, 1003, 1011, 1014, 1022
_SOURCE_RPM, _DIR_INDEXES, _BASE_NAMES, _DIR_NAMES, _OLD_NAMES = 1044, 1116, 1117, 1118, 1027
_WANTED = frozenset(
    {_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH, _SOURCE_RPM, _DIR_INDEXES, _BASE_NAMES, _DIR_NAMES}
    | {_OLD_NAMES}
)


class RpmHeader(NamedTuple):
    """One installed package."""

    package: OsPackage
    paths: tuple[str, ...]
    """All its files, below the root."""


class HeaderInvalid(ValueError):
    """The bytes are no header of rpm's; the text is the reason."""


def read_rpm(path: Path) -> AnyFact:
    """A copy of ``rpmdb.sqlite`` on disk: packages with their files. What a write-ahead log beside it holds is not in
    it. Keys (``gpg-pubkey``) are no software and left out."""
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return RpmDatabase(reason="it is no SQLite database: the packages of this system are not in the list")
    packages: list[OsPackage] = []
    broken: list[str] = []
    owned: list[tuple[str, tuple[str, ...]]] = []
    names = NamesWriter()
    try:
        for number, blob in _headers(path):
            try:
                header = read_header(blob)
            except HeaderInvalid as error:
                broken.append(f"package {number}: {error}")
                continue
            if header.package.name == "gpg-pubkey":
                continue
            packages.append(header.package)
            mattering = tuple(file for file in header.paths if may_matter(file))
            if mattering:
                owned.append((header.package.name, mattering))
            for file in header.paths:
                names.add(file)
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        broken.append(f"the rpm database cannot be read to its end: {error}"[:300])
    if broken and not packages:
        return RpmDatabase(reason=f"{broken[0]}: the packages of this system are not in the list")
    if len(broken) > MAX_BROKEN:
        broken = [*broken[:MAX_BROKEN], f"and {len(broken) - MAX_BROKEN} more packages"]
    if len(packages) >= MAX_PACKAGES:
        broken.append(f"more than {MAX_PACKAGES} packages; the rest was not read")
    return OsDatabase(
        manager="rpm", packages=tuple(packages), broken=tuple(broken), owned=tuple(owned), names=names.names()
    )


def _headers(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and header of each package. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        # The file may hold anything: no view, no trigger and no function in its schema has a say here.
        with suppress(AttributeError):  # a Python of another SQLite
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_HEADER_BYTES)
        for pragma in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
            database.execute(f"PRAGMA {pragma}")
        steps = iter(range(MAX_STEPS))
        database.set_progress_handler(lambda: next(steps, None) is None, 1000)
        kinds = database.execute("SELECT type, sql FROM sqlite_master WHERE name = 'Packages'").fetchall()
        columns = {row[1]: row[6] for row in database.execute("PRAGMA table_xinfo(Packages)")}
        plain = [kind for kind, sql in kinds if kind == "table" and str(sql).upper().startswith("CREATE TABLE")]
        if len(plain) != len(kinds) or not plain or columns.get("hnum") != 0 or columns.get("blob") != 0:
            raise sqlite3.DatabaseError("there is no table of packages in it")
        left = path.stat().st_size
        for number, blob in database.execute("SELECT hnum, blob FROM Packages LIMIT ?", (MAX_PACKAGES,)):
            content = blob if isinstance(blob, bytes) else b""
            left -= len(content)
            if left < 0:  # rows that share their pages: any number of headers in a file of one
                raise sqlite3.DatabaseError("its packages have more bytes than the file")
            yield number, content


def read_header(blob: bytes) -> RpmHeader:
    """A header as the database stores it. Raises HeaderInvalid."""
    values = _values(blob)
    name, version, release = (_one(values, tag) for tag in (_NAME, _VERSION, _RELEASE))
    if not name or not version or any(character.isspace() for character in name + version + release):
        raise HeaderInvalid(f"no usable name and version ({name[:60]!r})")
    source = _source(_one(values, _SOURCE_RPM), name, version, release)
    package = OsPackage(
        name=name,
        version=f"{version}-{release}" if release else version,
        architecture=_one(values, _ARCH),
        source=source[0],
        source_version=source[1],
        maintainer=_one(values, _VENDOR)[:300],
        epoch=_epoch(values),
        licenses=tuple(filter(None, [_one(values, _LICENSE)[:1000]])),
    )
    return RpmHeader(package, _paths(values))


_Value = list[str] | list[int]


def _values(blob: bytes) -> dict[int, _Value]:
    if len(blob) < 8:
        raise HeaderInvalid("the header is cut")
    count, size = struct.unpack_from(">II", blob)
    begin = 8 + _ENTRY.size * count
    if begin + size > len(blob):
        raise HeaderInvalid("the header is cut")
    data = blob[begin : begin + size]
    values: dict[int, _Value] = {}
    for tag, kind, offset, number in _ENTRY.iter_unpack(blob[8:begin]):
        if tag in _WANTED and tag not in values:
            values[tag] = _value(data, tag, kind, offset, number)
    return values


def _value(data: bytes, tag: int, kind: int, offset: int, number: int) -> _Value:
    if offset > len(data) or number > len(data):
        raise HeaderInvalid(f"tag {tag} points out of the header")
    if number > MAX_FILES:
        raise HeaderInvalid(f"tag {tag} has {count_text(number, 'value')}, at most {MAX_FILES} are read")
    if kind == _INT32:
        if offset + 4 * number > len(data):
            raise HeaderInvalid(f"tag {tag} points out of the header")
        return list(struct.unpack_from(f">{number}I", data, offset))
    if kind not in (_STRING, _STRING_ARRAY, _I18N):
        raise HeaderInvalid(f"tag {tag} is of kind {kind}")
    wanted = 1 if kind == _STRING else number
    parts = data[offset:].split(b"\0", wanted)
    if len(parts) <= wanted:
        raise HeaderInvalid(f"the text of tag {tag} is cut")
    return [part.decode("utf-8", "backslashreplace") for part in parts[:wanted]]


def _one(values: dict[int, _Value], tag: int) -> str:
    value = values.get(tag) or [""]
    return value[0] if isinstance(value[0], str) else ""


def _epoch(values: dict[int, _Value]) -> int:
    value = values.get(_EPOCH) or [0]
    return value[0] if isinstance(value[0], int) else 0


def _source(text: str, name: str, version: str, release: str) -> tuple[str, str]:
    """Name and version of the source package, where they are not the package's: ``bash-5.2-1.src.rpm``."""
    stem = text.removesuffix(".rpm").rpartition(".")[0]
    source, _, source_release = stem.rpartition("-")
    source, _, source_version = source.rpartition("-")
    if not source:
        return "", ""
    whole = f"{source_version}-{source_release}"
    return source if source != name else "", whole if whole != f"{version}-{release}" else ""


def _paths(values: dict[int, _Value]) -> tuple[str, ...]:
    """The files of a package: base names with folders of their own, or whole paths as old packages have them."""
    bases, folders, indexes = (values.get(tag, []) for tag in (_BASE_NAMES, _DIR_NAMES, _DIR_INDEXES))
    if not bases:
        return tuple(path for path in (clean_path(str(name)) for name in values.get(_OLD_NAMES, [])) if path)
    if len(indexes) != len(bases):
        raise HeaderInvalid("its files have no folders")
    paths = []
    for base, index in zip(bases, indexes, strict=True):
        if not isinstance(index, int) or index >= len(folders):
            raise HeaderInvalid("its files have no folders")
        folder = str(folders[index])
        if len(folder) + len(str(base)) > MAX_PATH_CHARACTERS:
            raise HeaderInvalid(f"a path of its files has more than {MAX_PATH_CHARACTERS} characters")
        path = clean_path(f"{folder}{base}")
        if path:
            paths.append(path)
    return tuple(paths)
