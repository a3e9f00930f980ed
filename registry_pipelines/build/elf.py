"""ELF programs and the shared libraries they need, found as the dynamic loader finds them.

Sources: System V ABI (program headers, dynamic section), ld.so(8) for the search order, glibc's ``dl-cache.h`` for
``/etc/ld.so.cache`` (format "glibc-ld.so.cache1.1").
"""

from __future__ import annotations

import os
import re
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.progress import count_text

MAX_HEADERS = 256
MAX_DYNAMIC_BYTES = 1024 * 1024
MAX_STRINGS_BYTES = 16 * 1024 * 1024
"""Program headers, dynamic section and string table that are read; real ones are a hundredth of it."""

MAX_CACHE_BYTES = 64 * 1024 * 1024

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_CACHE_HEADER_BYTES = 48
_CACHE_ENTRY = struct.Struct("=iIIIQ")


@dataclass(frozen=True)
class Elf:
    """What the loader reads of one file."""

    path: Path
    machine: tuple[int, int, int]
    """Class, byte order and machine number; a library must agree in all three."""
    interpreter: str
    """The loader's path, empty for libraries."""
    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]


def is_elf(path: Path) -> bool:
    """Whether a file starts like an ELF file."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def read_elf(path: Path) -> Elf:
    """Read the headers and the dynamic section. Raises LocalError for what is not a whole ELF file."""
    try:
        return _Reader(path).read()
    except (struct.error, ValueError, IndexError, OSError) as error:
        raise LocalError(f"this is not a whole ELF file: {error}", where=str(path)) from error


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("rb")

    def read(self) -> Elf:
        with self.file:
            ident = self._at(0, 16)
            if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
                raise ValueError("the first bytes are not those of ELF")
            self.wide = ident[4] == 2
            self.order = "<" if ident[5] == 1 else ">"
            machine = self._unpack("H", 18)[0]
            segments = self._segments()
            interpreter = next(
                (self._at(s[1], s[3]).rstrip(b"\0").decode() for s in segments if s[0] == _PT_INTERP), ""
            )
            entries = self._dynamic(segments)
            return Elf(
                path=self.path,
                machine=(ident[4], ident[5], machine),
                interpreter=interpreter,
                soname=next(iter(self._texts(entries, segments, _DT_SONAME)), ""),
                needed=tuple(self._texts(entries, segments, _DT_NEEDED)),
                rpath=_split(self._texts(entries, segments, _DT_RPATH)),
                runpath=_split(self._texts(entries, segments, _DT_RUNPATH)),
            )

    def _at(self, offset: int, size: int, limit: int = MAX_DYNAMIC_BYTES) -> bytes:
        if size > limit:
            raise ValueError(f"a part of {size} bytes")
        self.file.seek(offset)
        content = self.file.read(size)
        if len(content) != size:
            raise ValueError("it ends early")
        return content

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        shape = struct.Struct(self.order + form)
        return shape.unpack(self._at(offset, shape.size))

    def _segments(self) -> list[tuple[int, int, int, int]]:
        """(type, file offset, address, size in the file) of every program header."""
        start = self._unpack("Q" if self.wide else "I", 32 if self.wide else 28)[0]
        size, count = self._unpack("HH", 54 if self.wide else 42)
        if count > MAX_HEADERS:
            raise ValueError(f"{count_text(count, 'program header')}")
        segments = []
        for number in range(count):
            if self.wide:
                kind, _, offset, address, _, length = self._unpack("IIQQQQ", start + number * size)
            else:
                kind, offset, address, _, length = self._unpack("IIIII", start + number * size)
            segments.append((kind, offset, address, length))
        return segments

    def _dynamic(self, segments: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
        for kind, offset, _, size in segments:
            if kind == _PT_DYNAMIC:
                shape = struct.Struct(self.order + ("qQ" if self.wide else "iI"))
                raw = self._at(offset, size - size % shape.size)
                return [(tag, value) for tag, value in shape.iter_unpack(raw)]
        return []

    def _texts(
        self, entries: list[tuple[int, int]], segments: list[tuple[int, int, int, int]], wanted: int
    ) -> list[str]:
        values = dict(entries)
        if _DT_STRTAB not in values:
            return []
        address = values[_DT_STRTAB]
        offset = next(o + address - a for kind, o, a, n in segments if kind == _PT_LOAD and a <= address < a + n)
        table = self._at(offset, values.get(_DT_STRSZ, 0), MAX_STRINGS_BYTES)
        return [table[value : table.index(b"\0", value)].decode() for tag, value in entries if tag == wanted]


def _split(texts: list[str]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split(":") if part)


class Loader:
    """Finds libraries: RPATH, LD_LIBRARY_PATH, RUNPATH, the loader's cache, the standard folders."""

    def __init__(self, *, cache: Path = Path("/etc/ld.so.cache")) -> None:
        self._cache_path = cache

    @cached_property
    def _raw_cache(self) -> bytes:
        try:
            return self._cache_path.read_bytes()[:MAX_CACHE_BYTES]
        except OSError:
            return b""

    @cached_property
    def _cache(self) -> dict[str, list[Path]]:
        return read_cache(self._raw_cache)

    def cache_flags(self, name: str) -> int | None:
        """What this machine's cache says of the kind of a library; None when it does not know the library."""
        return next((flags for cached, _, flags in _cache_entries(self._raw_cache) if cached == name), None)

    def find(self, name: str, needing: Elf, program: Elf) -> Path | None:
        """The file the loader would take for ``name``; None when there is none of the right machine."""
        if "/" in name:
            path = Path(name)
            return path if _fits(path, program) else None
        for folder in self._folders(needing, program):
            if _fits(folder / name, program):
                return folder / name
        return None

    def _folders(self, needing: Elf, program: Elf) -> Iterable[Path]:
        if not needing.runpath:
            yield from _expanded(needing.rpath, needing)
            yield from _expanded(program.rpath, program)
        yield from (Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part)
        yield from _expanded(needing.runpath, needing)

    def locate(self, name: str, needing: Elf, program: Elf) -> Path | None:
        """Like ``find``, then the cache and the standard folders."""
        library = self.find(name, needing, program)
        candidates = [*self._cache.get(name, ()), *(Path(folder) / name for folder in _STANDARD)]
        return library or next((path for path in candidates if _fits(path, program)), None)

    def closure(self, program: Elf, files: Iterable[Elf], extra: Iterable[str] = ()) -> dict[str, Path]:
        """Every library that ``program`` and ``files`` need, transitively, by the name it is asked for.

        extra: names that are taken along when they exist. A needed library that is not found is left out: it was not
        there for the original either.
        """
        paths: dict[str, Path] = {}
        waiting = [(name, elf) for elf in (program, *files) for name in elf.needed]
        waiting += [(name, program) for name in extra]
        while waiting:
            name, needing = waiting.pop(0)
            if name in paths:
                continue
            path = self.locate(name, needing, program)
            if path is not None:
                paths[name] = path
                library = read_elf(path)
                waiting += [(other, library) for other in library.needed]
        return paths


_MULTIARCH = sysconfig.get_config_var("MULTIARCH") or "lib"
"""Debian's folder name for this machine's libraries; its loader searches there without a cache."""

_STANDARD = (
    *("/lib64", "/usr/lib64", f"/lib/{_MULTIARCH}", f"/usr/lib/{_MULTIARCH}"),
    *("/lib", "/usr/lib", "/usr/local/lib"),
)


def _expanded(paths: tuple[str, ...], elf: Elf) -> Iterable[Path]:
    origin = str(elf.path.resolve().parent)
    for path in paths:
        yield Path(path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))


def _fits(path: Path, program: Elf) -> bool:
    try:
        return path.is_file() and is_elf(path) and read_elf(path).machine == program.machine
    except (OSError, LocalError):
        return False


def read_cache(raw: bytes) -> dict[str, list[Path]]:
    """Libraries by name from ``/etc/ld.so.cache``; those for special hardware are left out. Empty when it is another
    format (musl has none)."""
    libraries: dict[str, list[Path]] = {}
    for name, path, _ in _cache_entries(raw):
        libraries.setdefault(name, []).append(Path(path))
    return libraries


def write_cache(paths: Iterable[str], flags: int) -> bytes:
    """``/etc/ld.so.cache`` with these libraries, all of one kind, each under its file name.

    flags: the kind, as another cache of this machine has it (``Loader.cache_flags``). The order is what the loader
    searches by: numbers in names count as numbers, the highest first (glibc, ``_dl_cache_libcmp``).
    """
    ordered = sorted(paths, key=lambda path: _cache_order(path.rpartition("/")[2]), reverse=True)
    entries, strings = b"", b""
    first = _CACHE_HEADER_BYTES + len(ordered) * _CACHE_ENTRY.size
    for path in ordered:
        value = first + len(strings)
        strings += os.fsencode(path) + b"\0"
        # The name is the end of the path.
        entries += _CACHE_ENTRY.pack(flags, value + len(os.fsencode(path.rpartition("/")[0])) + 1, value, 0, 0)
    byte_order = 2 if sys.byteorder == "little" else 3
    header = _CACHE_MAGIC + struct.pack("=IIB3xI12x", len(ordered), len(strings), byte_order, 0)
    return header + entries + strings


def _cache_order(name: str) -> list[tuple[int, int]]:
    parts = re.findall(r"\d+|\D", name)
    return [(2, int(part)) if part.isdigit() else (1, ord(part)) for part in parts]


def _cache_entries(raw: bytes) -> Iterator[tuple[str, str, int]]:
    """(name, path, flags), without what is for special hardware."""
    start = raw.find(_CACHE_MAGIC)
    if start < 0 or len(raw) < start + _CACHE_HEADER_BYTES:
        return
    (count,) = struct.unpack_from("=I", raw, start + len(_CACHE_MAGIC))
    for number in range(min(count, (len(raw) - start - _CACHE_HEADER_BYTES) // _CACHE_ENTRY.size)):
        flags, key, value, _, hardware = _CACHE_ENTRY.unpack_from(
            raw, start + _CACHE_HEADER_BYTES + number * _CACHE_ENTRY.size
        )
        if hardware == 0:
            yield _text(raw, start + key), _text(raw, start + value), flags


def _text(raw: bytes, offset: int) -> str:
    end = raw.find(b"\0", offset)
    return raw[offset:end].decode(errors="surrogateescape")
