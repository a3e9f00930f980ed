"""What the dynamic loader reads of an ELF file: which libraries and versions of them it needs, and which it gives.

Sources: System V ABI (program headers, dynamic section), Linux Standard Base, "Symbol Versioning" (version needs and
definitions). ``read_elf`` takes whatever can be read at a place; ``ElfStream`` takes the bytes as they pass, for files
in layers that nobody unpacks. Every count of a file is bounded: files come from anywhere.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator

import msgspec

from registry_pipelines.oci.files import local_errors

MAGIC = b"\x7fELF"
MAX_HEADERS = 256
MAX_DYNAMIC_BYTES = 1024 * 1024
MAX_STRINGS_BYTES = 64 * 1024 * 1024
"""Program headers, dynamic section and string table that are read. libtorch_cpu.so has 20 MiB of names, most files a
thousandth of it."""

MAX_VERSIONS = 20_000
"""Of all that a file needs or gives; libc.so.6 gives 45, a CUDA library 100."""

MAX_NAMES_BYTES = 256 * 1024
"""Of all names and paths together that are kept of a file."""

HEAD_BYTES = 32 * 1024 * 1024
"""What is kept of a file that passes. Names and versions stand at its beginning, before the code."""

PARTS_BYTES = 24 * 1024 * 1024
"""And of its further parts that are loaded: patchelf, which auditwheel calls, puts the names there."""

MEMORY_BYTES = 1024 * 1024
"""Of each part in memory; more of it waits in a temporary file. A build makes several layers at once, and most of what
a library of CUDA begins with is never looked at."""

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_DT_VERDEF, _DT_VERDEFNUM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_WEAK, _BASE = 2, 1
"""Flags of a version: the loader only warns without it; it names the file itself."""

ReadAt = Callable[[int, int], bytes]
"""From offset and count to exactly so many bytes; raises ValueError where there are fewer."""


class ElfFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the loader reads of one file."""

    machine: tuple[int, int, int]
    """Class, byte order and machine number; a library must agree in all three."""
    interpreter: str = ""
    """The loader's path, empty for libraries."""
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    versions: dict[str, tuple[str, ...]] = {}
    """Versions that it must find, by the library's name."""
    gives: tuple[str, ...] = ()
    """Versions that it gives; empty: it has none, and the loader asks it for none."""
    dynamic: bool = False
    """Whether it has a dynamic section: others are objects, static programs or debug files."""
    problem: str = ""
    """Why it was not read."""


Segment = tuple[int, int, int, int]
"""Type, file offset, address, size in the file of a program header."""


def read_elf(at: ReadAt) -> ElfFacts:
    """Read headers, dynamic section and versions. Raises ValueError for what is not a whole ELF file."""
    try:
        return _Reader(at).read()
    except (struct.error, IndexError) as error:
        raise ValueError(str(error)) from error


class _Reader:
    def __init__(self, at: ReadAt) -> None:
        self._at = at
        ident = at(0, 16)
        if ident[:4] != MAGIC or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ValueError("the first bytes are not those of ELF")
        self.wide = ident[4] == 2
        self.order = "<" if ident[5] == 1 else ">"
        self.machine = (ident[4], ident[5], self.unpack("H", 18)[0])
        self._kept = 0

    def read(self) -> ElfFacts:
        self.segments = list(self._segments())
        interpreter = next(
            (
                self._at(offset, _bounded(size, 4096)).rstrip(b"\0").decode("utf-8", "backslashreplace")
                for kind, offset, _, size in self.segments
                if kind == _PT_INTERP
            ),
            "",
        )
        entries = self._dynamic()
        self._values = dict(entries)
        return ElfFacts(
            machine=self.machine,
            interpreter=interpreter,
            soname=next(iter(self._texts(entries, _DT_SONAME)), ""),
            needed=tuple(self._texts(entries, _DT_NEEDED)),
            rpath=_split(self._texts(entries, _DT_RPATH)),
            runpath=_split(self._texts(entries, _DT_RUNPATH)),
            versions=self._needs(),
            gives=tuple(self._gives()),
            dynamic=bool(entries),
        )

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        shape = struct.Struct(self.order + form)
        return shape.unpack(self._at(offset, shape.size))

    def _segments(self) -> Iterator[Segment]:
        start = self.unpack("Q" if self.wide else "I", 32 if self.wide else 28)[0]
        size, count = self.unpack("HH", 54 if self.wide else 42)
        if count > MAX_HEADERS:
            raise ValueError(f"its number of program headers is {count}")
        for number in range(count):
            if self.wide:
                kind, _, offset, address, _, length = self.unpack("IIQQQQ", start + number * size)
            else:
                kind, offset, address, _, length = self.unpack("IIIII", start + number * size)
            yield kind, offset, address, length

    def _dynamic(self) -> list[tuple[int, int]]:
        for kind, offset, _, size in self.segments:
            if kind == _PT_DYNAMIC:
                shape = struct.Struct(self.order + ("qQ" if self.wide else "iI"))
                raw = self._at(offset, _bounded(size - size % shape.size, MAX_DYNAMIC_BYTES))
                return [(tag, value) for tag, value in shape.iter_unpack(raw)]
        return []

    def _place(self, address: int) -> int:
        for kind, offset, start, size in self.segments:
            if kind == _PT_LOAD and start <= address < start + size:
                return offset + address - start
        raise ValueError("a part of it is nowhere in the file")

    def _texts(self, entries: list[tuple[int, int]], wanted: int) -> list[str]:
        return [self._text(value) for tag, value in entries if tag == wanted]

    def _text(self, value: int) -> str:
        """A name of the string table, found without reading all of it."""
        if _DT_STRTAB not in self._values:
            return ""
        size = _bounded(self._values.get(_DT_STRSZ, 0), MAX_STRINGS_BYTES)
        start, raw = self._place(self._values[_DT_STRTAB]), b""
        while b"\0" not in raw:
            step = min(128, size - value - len(raw))
            if step <= 0:
                raise ValueError("a name does not end")
            raw += self._at(start + value + len(raw), step)
            self._kept += step
            if self._kept > MAX_NAMES_BYTES:
                raise ValueError(f"its names have more than {MAX_NAMES_BYTES} bytes")
        return raw[: raw.index(b"\0")].decode("utf-8", "backslashreplace")

    def _chain(self, place: int, number: int, form: str, next_field: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Offset and fields of records that name the distance to the next."""
        for _ in range(_bounded(number, MAX_VERSIONS)):
            fields = self.unpack(form, place)
            yield place, fields
            if not fields[next_field]:
                return
            place += fields[next_field]

    def _needs(self) -> dict[str, tuple[str, ...]]:
        """Elfxx_Verneed: version, count, file, aux, next; Elfxx_Vernaux: hash, flags, other, name, next."""
        found: dict[str, list[str]] = {}
        if _DT_VERNEED not in self._values:
            return {}
        budget = MAX_VERSIONS
        for place, need in self._chain(
            self._place(self._values[_DT_VERNEED]), self._values.get(_DT_VERNEEDNUM, 0), "HHIII", 4
        ):
            budget -= need[1] + 1
            if budget < 0:
                raise ValueError("it needs too many versions")
            below = found.setdefault(self._text(need[2]), [])
            for _, version in self._chain(place + need[3], need[1], "IHHII", 4):
                if not version[1] & _WEAK:
                    below.append(self._text(version[3]))
        return {name: tuple(versions) for name, versions in found.items() if versions}

    def _gives(self) -> Iterator[str]:
        """Elfxx_Verdef: version, flags, index, count, hash, aux, next; Elfxx_Verdaux: name, next."""
        if _DT_VERDEF not in self._values:
            return
        for place, given in self._chain(
            self._place(self._values[_DT_VERDEF]), self._values.get(_DT_VERDEFNUM, 0), "HHHHIII", 6
        ):
            if given[3] and not given[1] & _BASE:
                yield self._text(self.unpack("II", place + given[5])[0])


def _bounded(size: int, limit: int) -> int:
    if not 0 <= size <= limit:
        raise ValueError(f"a part of {size} bytes")
    return size


def _split(texts: list[str]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split(":") if part)


class _Kept:
    """Bytes that were kept, in their order."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115 - closed below
        self.size = 0

    def add(self, piece: bytes | memoryview) -> None:
        with local_errors(tempfile.gettempdir()):
            self._file.seek(self.size)
            self._file.write(piece)
        self.size += len(piece)

    def read(self, offset: int, count: int) -> bytes:
        """What there is of it."""
        with local_errors(tempfile.gettempdir()):
            self._file.seek(offset)
            return self._file.read(count)

    def __del__(self) -> None:
        self._file.close()


class ElfStream:
    """One file whose bytes pass: :meth:`feed` them all in order, then ask :meth:`finish`.

    Keeps ``head_bytes`` and at most ``parts_bytes`` of other parts, whatever the file's size, and little of them in
    memory. Both raise DiskFull and LocalError for the temporary files.
    """

    def __init__(self, size: int, *, head_bytes: int = HEAD_BYTES, parts_bytes: int = PARTS_BYTES) -> None:
        self._size = size
        self._head_bytes, self._parts_bytes = head_bytes, parts_bytes
        self._head = _Kept()
        self._parts: list[tuple[int, int, _Kept]] | None = None
        self._offset = 0

    def feed(self, piece: bytes | memoryview) -> None:
        """The next bytes."""
        begin, end = self._offset, self._offset + len(piece)
        if begin < self._head_bytes:
            self._head.add(piece[: self._head_bytes - begin])
        self._offset = end
        if end <= self._head_bytes:
            return
        if self._parts is None:
            self._parts = list(self._wanted())
        for start, stop, kept in self._parts:
            if start < end and begin < stop:
                kept.add(piece[max(0, start - begin) : stop - begin])

    def _wanted(self) -> Iterator[tuple[int, int, _Kept]]:
        """Parts behind the head: the dynamic section, then what is loaded, as far as there is room."""
        room = self._parts_bytes
        try:
            segments = list(_Reader(self._from_head)._segments())
        except (ValueError, struct.error):
            # The program headers are not at its beginning: patchelf has put them to its end.
            yield max(self._head_bytes, self._size - room), self._size, _Kept()
            return
        for kind, offset, _, size in sorted(segments, key=lambda segment: segment[0] != _PT_DYNAMIC):
            start, stop = max(offset, self._head_bytes), min(offset + size, self._size)
            if kind in (_PT_DYNAMIC, _PT_LOAD) and 0 < stop - start <= room:
                room -= stop - start
                yield start, stop, _Kept()

    def _from_head(self, offset: int, count: int) -> bytes:
        if offset + count > self._head.size:
            raise ValueError("it ends early")
        return self._head.read(offset, count)

    def _at(self, offset: int, count: int) -> bytes:
        if offset + count <= self._head.size:
            return self._head.read(offset, count)
        for start, stop, kept in self._parts or ():
            if start <= offset and offset + count <= min(stop, start + kept.size):
                return kept.read(offset - start, count)
        raise ValueError("it ends early" if self._offset < self._size else "a part far inside that is not kept")

    def finish(self) -> ElfFacts:
        """What was read; with ``problem`` for a file that is damaged or has its parts where none has them."""
        try:
            return read_elf(self._at)
        except ValueError as error:
            machine = [*self._head.read(4, 2), 0, 0][:2]
            return ElfFacts(machine=(machine[0], machine[1], 0), problem=str(error)[:200])
