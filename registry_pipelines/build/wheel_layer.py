"""One layer from one wheel, or from a bucket of small ones, as an installer would have left the files."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from io import FileIO

from zlib_ng import zlib_ng

from registry_pipelines.build import compiling
from registry_pipelines.build.archive import DEFLATED, DO_NOT_USE, STORED, Member, read_pieces
from registry_pipelines.build.entries import FILE_MODE, file_entry, folder_entry, folders_of
from registry_pipelines.build.install import Planned, Scheme, first_line, plan
from registry_pipelines.build.record import RecordRow, encode_hash, write_record
from registry_pipelines.build.splice import LayerWriter
from registry_pipelines.build.wheel import Wheel
from registry_pipelines.errors import WheelInvalid

Advance = Callable[[int], None]
"""Called with the wheel bytes that were taken in."""


class WheelLayer:
    """Writes wheels into one layer. Folders and files that two wheels share are written once."""

    def __init__(self, writer: LayerWriter, scheme: Scheme, *, byte_code: bool, advance: Advance) -> None:
        self._writer = writer
        self._scheme = scheme
        self._byte_code = byte_code
        self._advance = advance
        self._written: dict[str, RecordRow] = {}
        """Files with hash and size, and folders."""

    def add(self, wheel: Wheel, *, left_out: Collection[str] = ()) -> None:
        """All files of a wheel, then their byte code, then RECORD.

        left_out: paths in the image that another wheel's file has; they are neither written nor in RECORD. Raises
        WheelInvalid when a file does not hash to what RECORD says, or the archive is damaged.
        """
        planned = plan(wheel, self._scheme)
        files = [file for file in planned.files if file.path not in left_out]
        self._folders([*(file.path for file in files), planned.record])
        with _Content(wheel) as content, compiling.Compilation(self._modules(files, content)) as compiled:
            rows = [self._file(file, content) for file in files]
            rows += self._write_byte_code(compiled)
        rows.append(RecordRow(self._scheme.record_path(planned.record)))
        self._write(planned.record, FILE_MODE, write_record(rows))

    def _folders(self, paths: list[str]) -> None:
        for folder in folders_of(paths, below=self._scheme.site_packages):
            if folder not in self._written:
                self._written[folder] = RecordRow(folder)
                self._writer.header(folder_entry(folder))

    def _write(self, path: str, mode: int, content: bytes) -> None:
        if path not in self._written:
            sha256 = hashlib.sha256(content).digest()
            row = RecordRow(self._scheme.record_path(path), "sha256", encode_hash(sha256), len(content))
            self._written[path] = row
            self._writer.header(file_entry(path, len(content), mode=mode))
            self._writer.content(content)
            self._writer.hashed(sha256, zlib_ng.crc32(content))

    def _file(self, file: Planned, content: _Content) -> RecordRow:
        if file.member is None:
            self._write(file.path, file.mode, file.content)
        elif file.path not in self._written:
            row = self._rewrite(file, file.member, content) if file.rewrite else self._take(file, file.member, content)
            self._written[file.path] = RecordRow(self._scheme.record_path(file.path), row.algorithm, row.hash, row.size)
        if file.member:
            self._advance(file.member.compressed_size)
        return self._written[file.path]

    def _take(self, file: Planned, member: Member, content: _Content) -> RecordRow:
        """A member as it is."""
        self._writer.header(file_entry(file.path, member.size, mode=file.mode))
        check = content.check(member)
        if member.method not in (STORED, DEFLATED):
            for piece in content.pieces(member):
                check(piece)
                self._writer.content(piece)
        elif member.size:
            take = self._writer.deflated if member.method == DEFLATED else self._writer.stored
            content.file.seek(member.offset)
            take(content.file, member.compressed_size, check, check.where)
        row = check.finish()
        self._writer.hashed(check.sha256, check.crc)
        return row

    def _rewrite(self, file: Planned, member: Member, content: _Content) -> RecordRow:
        """A script with another first line."""
        head, skip = first_line(self._scheme), content.wheel.first_lines[member.name]
        size = len(head) + member.size - skip
        self._writer.header(file_entry(file.path, size, mode=file.mode))
        self._writer.content(head)
        hashed, crc, check = hashlib.sha256(head), zlib_ng.crc32(head), content.check(member)
        for piece in content.pieces(member):
            check(piece)
            hashed.update(piece[skip:])
            crc = zlib_ng.crc32(piece[skip:], crc)
            self._writer.content(piece[skip:])
            skip = max(0, skip - len(piece))
        check.finish()
        self._writer.hashed(hashed.digest(), crc)
        return RecordRow(file.path, "sha256", encode_hash(hashed.digest()), size)

    def _modules(self, files: Sequence[Planned], content: _Content) -> Iterator[compiling.Source]:
        taken = {file.path for file in files} | self._written.keys()
        for file in files if self._byte_code else ():
            if (
                file.path.endswith(".py")
                and file.path.startswith(self._scheme.site_packages + "/")
                and file.member is not None
                and file.member.size <= compiling.MAX_SOURCE_BYTES
                and compiling.compiled_path(file.path) not in taken
            ):
                yield compiling.Source("/" + file.path, file.member.size, partial(content.source, file.member))

    def _write_byte_code(self, compiled: Iterable[tuple[str, bytes]]) -> list[RecordRow]:
        rows = []
        for source, pyc in compiled:
            path = compiling.compiled_path(source)
            self._folders([path])
            self._write(path, FILE_MODE, pyc)
            rows.append(RecordRow(self._scheme.record_path(path)))
        return rows


class _Content:
    """The contents of a wheel's members: the file itself for streams that are taken over, ``zipfile`` for the rest."""

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel
        self._open = ExitStack()
        self.file = self._open.enter_context(FileIO(wheel.path))
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> _Content:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def check(self, member: Member) -> _Check:
        """What the member's content must pass."""
        return _Check(member, self.wheel.row(member), f"{self.wheel.path.name}, {member.name}")

    def pieces(self, member: Member) -> Iterator[bytes]:
        """The member unpacked."""
        if self._archive is None:
            self._archive = self._open.enter_context(zipfile.ZipFile(self.wheel.path))
        return read_pieces(self._archive, member, f"{self.wheel.path.name}, {member.name}")

    def source(self, member: Member) -> bytes:
        """A whole module; from any thread, beside whatever else is read."""
        where = f"{self.wheel.path.name}, {member.name}"
        if member.method not in (STORED, DEFLATED):
            with zipfile.ZipFile(self.wheel.path) as archive:
                return b"".join(read_pieces(archive, member, where))
        raw = os.pread(self.file.fileno(), member.compressed_size, member.offset)
        try:
            content = zlib.decompressobj(-15).decompress(raw, member.size + 1) if member.method == DEFLATED else raw
        except zlib.error as error:
            raise WheelInvalid("a compressed file is damaged", where=where) from error
        if len(content) != member.size or zlib_ng.crc32(content) != member.crc:
            raise WheelInvalid("size or CRC-32 differ from the archive's directory", where=where)
        return content


class _Check:
    """Counts and hashes a member's content as it passes, against the archive's directory and RECORD."""

    def __init__(self, member: Member, row: RecordRow, where: str) -> None:
        self._member = member
        self._row = row
        self.where = where
        self._size = 0
        self.crc = 0
        """CRC-32 of what passed."""
        # sha256 always: records of layers have it, and nearly all wheels too.
        names = {"sha256", *([row.algorithm] if row.hash else [])}
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}

    def __call__(self, piece: memoryview | bytes) -> None:
        self._size += len(piece)
        if self._size > self._member.size:
            raise WheelInvalid(f"more than the {self._member.size} bytes the archive promises", where=self.where)
        self.crc = zlib_ng.crc32(piece, self.crc)
        for digest in self._hashes.values():
            digest.update(piece)

    @property
    def sha256(self) -> bytes:
        """Of what passed."""
        return self._hashes["sha256"].digest()

    def finish(self) -> RecordRow:
        """The member's row, with RECORD's hash or, where that vouches for nothing, sha256. Raises WheelInvalid unless
        size, CRC-32 and RECORD's hash agree."""
        if self._size != self._member.size or self.crc != self._member.crc:
            raise WheelInvalid("size or CRC-32 differ from the archive's directory", where=self.where)
        hashes = {name: encode_hash(digest.digest()) for name, digest in self._hashes.items()}
        if self._row.hash and hashes[self._row.algorithm] != self._row.hash:
            raise WheelInvalid(
                f"its {self._row.algorithm} is not what RECORD says",
                where=self.where,
                do=f"{DO_NOT_USE}: the file was changed after RECORD was written. Where that is known and right, "
                "`wheel unpack` and `wheel pack` write RECORD anew",
            )
        algorithm = self._row.algorithm if self._row.strong else "sha256"
        return RecordRow(self._member.name, algorithm, hashes[algorithm], self._size)
