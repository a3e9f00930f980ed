"""ELF programs and the shared libraries they need, found as the dynamic loader finds them.

``oci.elf`` reads the files. Sources: ld.so(8) for the search order, glibc's ``dl-cache.h`` for
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
from functools import cached_property, partial
from pathlib import Path

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.elf import MAGIC
from registry_pipelines.oci.elf import read_elf as read_facts

MAX_CACHE_BYTES = 64 * 1024 * 1024

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
        return file.read(4) == MAGIC


def read_elf(path: Path) -> Elf:
    """Read the headers and the dynamic section. Raises LocalError for what is not a whole ELF file."""
    try:
        with path.open("rb", buffering=0) as file:
            facts = read_facts(partial(_read_at, file.fileno()))
    except (ValueError, OverflowError, OSError) as error:
        raise LocalError(f"this is not a whole ELF file: {error}", where=str(path)) from error
    return Elf(path, facts.machine, facts.interpreter, facts.soname, facts.needed, facts.rpath, facts.runpath)


def _read_at(file: int, offset: int, count: int) -> bytes:
    content = os.pread(file, count, offset)
    if len(content) != count:
        raise ValueError("it ends early")
    return content


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
