"""One layer from one wheel, or from a bucket of small ones, as an installer would have left the files."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from zlib_ng import zlib_ng

from registry_pipelines.build import compiling
from registry_pipelines.build.entries import FILE_MODE, file_entry, folder_entry, folders_of
from registry_pipelines.build.install import MAX_SCRIPT_BYTES, Planned, Scheme, plan, rewrite_script
from registry_pipelines.build.record import RecordRow, encode_hash, row_of, write_record
from registry_pipelines.build.splice import LayerWriter
from registry_pipelines.build.wheel import DEFLATED, Member, Wheel
from registry_pipelines.errors import PathConflict, WheelInvalid

Advance = Callable[[int], None]
"""Called with the wheel bytes that were taken in."""


class WheelLayer:
    """Writes wheels into one layer. Folders and files that two wheels share are written once."""

    def __init__(self, writer: LayerWriter, scheme: Scheme, *, byte_code: bool, advance: Advance) -> None:
        self._writer = writer
        self._scheme = scheme
        self._byte_code = byte_code
        self._advance = advance
        self._written: set[str] = set()

    def add(self, wheel: Wheel) -> None:
        """All files of a wheel, then their byte code, then RECORD. Raises WheelInvalid when a file does not hash to
        what RECORD says, or the archive is damaged."""
        files = plan(wheel, self._scheme)
        self._folders([file.path for file in files])
        rows = []
        with FileIO(wheel.path) as archive:
            for file in files:
                rows.append(self._file(wheel, file, archive))
        if self._byte_code:
            rows += self._compile(wheel, files)
        record = f"{self._scheme.site_packages}/{wheel.dist_info}/RECORD"
        rows.append(RecordRow(self._scheme.record_path(record)))
        self._write(record, FILE_MODE, write_record(rows))

    def _folders(self, paths: list[str]) -> None:
        for folder in folders_of(paths, below=self._scheme.site_packages):
            if folder not in self._written:
                self._written.add(folder)
                self._writer.header(folder_entry(folder))

    def _write(self, path: str, mode: int, content: bytes) -> None:
        if path not in self._written:
            self._written.add(path)
            self._writer.header(file_entry(path, len(content), mode=mode))
            self._writer.content(content)

    def _file(self, wheel: Wheel, file: Planned, archive: FileIO) -> RecordRow:
        recorded = self._scheme.record_path(file.path)
        member = file.member
        if member is None:
            self._write(file.path, file.mode, file.content)
            return row_of(recorded, file.content)
        row = wheel.record.get(member.name, RecordRow(member.name))
        if file.rewrite:
            content = rewrite_script(_read(wheel, member, row, archive), self._scheme)
            self._write(file.path, file.mode, content)
            return row_of(recorded, content)
        if file.path not in self._written:
            self._written.add(file.path)
            self._writer.header(file_entry(file.path, member.size, mode=file.mode))
            self._take_over(wheel, member, row, archive)
        self._advance(member.compressed_size)
        return RecordRow(recorded, row.algorithm, row.hash, member.size)

    def _take_over(self, wheel: Wheel, member: Member, row: RecordRow, archive: FileIO) -> None:
        where = f"{wheel.path.name}, {member.name}"
        check = _Check(member, row, where)
        archive.seek(member.offset)
        if member.size and member.method == DEFLATED:
            self._writer.deflated(archive, member.compressed_size, check, where)
        elif member.size:
            self._writer.stored(archive, member.size, check, where)
        check.finish()

    def _compile(self, wheel: Wheel, files: Sequence[Planned]) -> list[RecordRow]:
        taken = {file.path for file in files} | self._written
        sources = [
            file
            for file in files
            if file.path.endswith(".py")
            and file.path.startswith(self._scheme.site_packages + "/")
            and file.member is not None
            and file.member.size <= compiling.MAX_SOURCE_BYTES
            and compiling.compiled_path(file.path) not in taken
        ]
        rows = []
        for source, pyc in compiling.compile_all(_read_sources(wheel.path, sources)):
            path = compiling.compiled_path(source)
            self._folders([path])
            self._write(path, FILE_MODE, pyc)
            rows.append(RecordRow(self._scheme.record_path(path)))
        return rows


class _Check:
    """Counts and hashes a member's content as it passes, against the archive's directory and RECORD."""

    def __init__(self, member: Member, row: RecordRow, where: str) -> None:
        self._member = member
        self._row = row
        self._where = where
        self._size = 0
        self._crc = 0
        self._hash = hashlib.new(row.algorithm) if row.hash else None

    def __call__(self, piece: memoryview | bytes) -> None:
        self._size += len(piece)
        if self._size > self._member.size:
            raise WheelInvalid(f"more than the {self._member.size} bytes the archive promises", where=self._where)
        self._crc = zlib_ng.crc32(piece, self._crc)
        if self._hash:
            self._hash.update(piece)

    def finish(self) -> None:
        """Raise WheelInvalid unless size, CRC-32 and RECORD's hash agree."""
        if self._size != self._member.size or self._crc != self._member.crc:
            raise WheelInvalid("size or CRC-32 differ from the archive's directory", where=self._where)
        if self._hash and encode_hash(self._hash.digest()) != self._row.hash:
            raise WheelInvalid(
                f"its {self._row.algorithm} is not what RECORD says",
                where=self._where,
                do="The wheel was changed after it was built; do not use it",
            )


def _read(wheel: Wheel, member: Member, row: RecordRow, archive: FileIO) -> bytes:
    """A small member's checked content."""
    where = f"{wheel.path.name}, {member.name}"
    if member.size > MAX_SCRIPT_BYTES:
        raise WheelInvalid(f"a script of {member.size} bytes, at most {MAX_SCRIPT_BYTES} are read", where=where)
    archive.seek(member.offset)
    raw = archive.read(member.compressed_size)
    check = _Check(member, row, where)
    content = raw
    if member.method == DEFLATED:
        try:
            content = zlib.decompressobj(-15).decompress(raw, member.size + 1)
        except zlib.error as error:
            raise WheelInvalid("a compressed file is damaged", where=where) from error
    check(content)
    check.finish()
    return content


def _read_sources(path: Path, files: Sequence[Planned]) -> Iterator[compiling.Source]:
    with zipfile.ZipFile(path) as archive:
        for file in files:
            if file.member is not None:
                yield compiling.Source("/" + file.path, archive.read(file.member.name))


def inventory(wheel: Wheel, scheme: Scheme) -> dict[str, str]:
    """What identifies the content of every path a wheel brings: size, CRC-32 and RECORD's hash, or the hash of what we
    write. Raises WheelInvalid."""
    found = {}
    for file in plan(wheel, scheme):
        if file.member is None:
            found[file.path] = f"sha256={hashlib.sha256(file.content).hexdigest()}"
        else:
            row = wheel.record.get(file.member.name, RecordRow(file.member.name))
            found[file.path] = f"{file.member.size} {file.member.crc:08x} {row.algorithm}={row.hash}"
    return found


def check_conflicts(inventories: Sequence[tuple[str, dict[str, str]]]) -> None:
    """Raise PathConflict when two wheels bring one path with different content, or one's file is the other's folder.

    inventories: (name of the wheel, its inventory). The same content twice is fine (namespace packages).
    """
    owners: dict[str, tuple[str, str]] = {}
    folders: dict[str, str] = {}
    for name, paths in inventories:
        for path, identity in paths.items():
            first, known = owners.setdefault(path, (name, identity))
            if known != identity:
                raise _conflict(path, first, name)
            parent = path.rpartition("/")[0]
            while parent and parent not in folders:
                folders[parent] = name
                parent = parent.rpartition("/")[0]
    for path in sorted(folders.keys() & owners.keys()):
        raise _conflict(path, owners[path][0], folders[path])


def _conflict(path: str, one: str, other: str) -> PathConflict:
    return PathConflict(
        f"{one} and {other} both bring it, with different content",
        where=f"/{path}",
        do="Leave one of the two out, or use versions that agree",
    )
