"""What the Go linker writes into a program: the version of Go and the modules that went in, found in one pass.

Sources: Go's ``debug/buildinfo`` (where it stands: since 1.18 the two texts behind the mark, before two pointers to
them, in the byte order and size of the machine) and ``runtime/debug`` (``ParseBuildInfo``: the lines). Nothing is
executed, and nothing but the texts is kept.
"""

from __future__ import annotations

import ctypes
import functools
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from registry_pipelines.scan.facts import GoModule, GoProgram

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Modules of one program as text; Kubernetes has 60 KiB."""
MAX_VERSION_BYTES = 255
"""The version of Go, with what it was built with."""
MAX_MODULES = 20_000
_MAX_VERSIONS = 1_000
"""Texts in one program that look like a version of Go."""

_MAGIC = b"\xff Go buildinf:"
_MARK = re.compile(re.escape(_MAGIC))
_HEADER_BYTES = 32
_BEGIN, _END = bytes.fromhex("3077af0c9274080241e1c107e6d618e6"), bytes.fromhex("f932433186182072008242104116d8f2")
"""Around the modules (Go's ``cmd/go/internal/modload``)."""
_OVERLAP = 64
_VERSION_BYTES = 48
_GO = re.compile(rb"go1\.\d")
_RELEASE = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?(?:(rc|beta)(\d+))?(?=[\s+-]|\Z)")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~/+!-]{0,511}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,255}\Z")
_STANDARD = "stdlib"
"""How Go's vulnerability database calls the standard library."""


def standard_library(go: str) -> GoModule:
    """The standard library of a version of Go."""
    return GoModule(path=_STANDARD, version=go)


def read_go(pieces: Iterable[bytes | memoryview], head: bytes, name: str, *, old: bool) -> GoProgram | None:
    """A program or library as it passes. head: its first bytes, which ``pieces`` follow. old: look for what Go before
    1.18 wrote, too. None: Go's linker wrote nothing into it that is left."""
    window = _Window(iter(pieces), head, marks_only=not old)
    search = _Search(window, head if old else b"")
    while True:
        found = search.look(name)
        if found is not None:
            return found
        if not window.advance():
            return search.without_header(name)


class _Window:
    """Part of a file: grows at the end, and forgets its beginning."""

    def __init__(self, pieces: Iterator[bytes | memoryview], head: bytes, *, marks_only: bool) -> None:
        """marks_only: pieces without a mark may be passed over."""
        self._pieces = pieces
        self._marks_only = marks_only
        self.raw = head
        self.offset = 0
        """Of ``raw`` in the file."""

    def advance(self) -> bool:
        """Forget all but the end, and add a piece; False: there is none."""
        kept = self.raw[-_OVERLAP:]
        offset = self.offset + len(self.raw) - len(kept)
        for piece in self._pieces:
            if not self._marks_only or _has_mark(piece) or _MAGIC in kept + bytes(piece[:_OVERLAP]):
                self.raw, self.offset = kept + piece, offset
                return True
            # Without a copy, which takes longer than to look.
            kept, before = (kept + bytes(piece[-_OVERLAP:]))[-_OVERLAP:], len(kept)
            offset += before + len(piece) - len(kept)
        self.raw, self.offset = kept, offset
        return False

    def has(self, stop: int) -> bool:
        """Whether there are bytes up to ``stop``, which counts in ``raw``; reads on for them."""
        parts, length = [self.raw], len(self.raw)
        while length < stop:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(bytes(piece))
            length += len(piece)
        self.raw = b"".join(parts) if len(parts) > 1 else self.raw
        return length >= stop


def _has_mark(piece: bytes | memoryview) -> bool:
    find = _memmem()
    if find is None or not isinstance(piece, memoryview) or piece.readonly or not piece.c_contiguous or not piece:
        return _MARK.search(piece) is not None
    address = ctypes.addressof(ctypes.c_char.from_buffer(piece))
    return find(address, piece.nbytes, _MAGIC, len(_MAGIC)) is not None


@functools.cache
def _memmem() -> Callable[[int, int, bytes, int], int | None] | None:
    """The C library's search: seven times as fast as an expression where most bytes of an image are libraries, and
    other threads go on meanwhile. None where there is none."""
    try:
        find = ctypes.CDLL(None).memmem
    except (OSError, AttributeError):
        return None
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    found: Callable[[int, int, bytes, int], int | None] = find
    return found


class _Search:
    def __init__(self, window: _Window, head: bytes) -> None:
        self._window = window
        self._program = _Program.read(head) if head else None
        self._modules = ""
        self._versions: dict[int, bytes] = {}
        self._looked = 0
        """Up to where in the file."""

    def look(self, name: str) -> GoProgram | None:
        """Look at what the window has now."""
        window = self._window
        if self._program is not None:
            self._look_for_old()
        at = window.raw.find(_MAGIC)
        while at >= 0:
            found = self._at_mark(at, name) if window.has(at + _HEADER_BYTES) else None
            if found is not None:
                return found
            at = window.raw.find(_MAGIC, at + 1)
        return None

    def without_header(self, name: str) -> GoProgram | None:
        """At the end: the modules alone tell, too."""
        if not self._modules:
            return None
        return _parsed(name, "", self._modules, problem="no version of Go was found in it")

    def _at_mark(self, at: int, name: str) -> GoProgram | None:
        window = self._window
        size, flags = window.raw[at + 14], window.raw[at + 15]
        if flags & 2:
            version, after = self._text(at + _HEADER_BYTES, MAX_VERSION_BYTES)
            if not _is_version(version):
                return None
            modules, _ = self._text(after, MAX_TEXT_BYTES)
            return _parsed(name, version.decode("utf-8", "replace"), _unwrapped(modules))
        if self._program is None or size not in (4, 8) or flags > 1:
            return None
        pointer = struct.unpack_from((">" if flags else "<") + ("Q" if size == 8 else "I"), window.raw, at + 16)[0]
        version = self._pointed_at(pointer, size, ">" if flags else "<")
        if not _is_version(version):
            return None if not self._modules else self.without_header(name)
        return _parsed(name, version.decode("utf-8", "replace"), self._modules)

    def _text(self, at: int, most: int) -> tuple[bytes, int]:
        """A text behind its length (base 128, least significant first), and where it ends; empty where it has more than
        ``most`` bytes: a program may be full of marks, and what each asks for is copied."""
        window, length, shift = self._window, 0, 0
        while shift < 35 and window.has(at + 1):
            byte = window.raw[at]
            length |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                if length > most or not window.has(at + length):
                    return b"", at
                return window.raw[at : at + length], at + length
        return b"", at

    def _look_for_old(self) -> None:
        """What stands before the mark in programs of Go before 1.18: the modules, and every text that may be the
        version."""
        window = self._window
        if not self._modules:
            begin = window.raw.find(_BEGIN)
            if begin >= 0:
                self._modules = self._between(begin + len(_BEGIN))
        for match in _GO.finditer(window.raw):
            if len(self._versions) < _MAX_VERSIONS:
                offset = window.offset + match.start()
                text = window.raw[match.start() : match.start() + _VERSION_BYTES]
                self._versions[offset] = max(text, self._versions.get(offset, b""), key=len)

    def _between(self, begin: int) -> str:
        window = self._window
        end = window.raw.find(_END, begin)
        while end < 0 and len(window.raw) - begin < MAX_TEXT_BYTES:
            known = len(window.raw)
            if not window.has(known + 1):
                return ""
            end = window.raw.find(_END, max(begin, known - len(_END)))
        return window.raw[begin:end].decode("utf-8", "replace") if end >= 0 else ""

    def _pointed_at(self, pointer: int, size: int, order: str) -> bytes:
        """The text whose place and length stand at a virtual address, which comes later in the file."""
        window, program = self._window, self._program
        place = program.offset(pointer) if program else None
        if place is None or place < window.offset or place - window.offset > MAX_TEXT_BYTES * 16:
            return b""
        at = place - window.offset
        if not window.has(at + 2 * size):
            return b""
        text, length = struct.unpack_from(order + ("QQ" if size == 8 else "II"), window.raw, at)
        offset = program.offset(text) if program else None
        known = self._versions.get(offset, b"") if offset is not None else b""
        return known[:length] if 0 < length <= len(known) else b""


class _Program(NamedTuple):
    """Where an ELF file's parts are loaded (System V ABI, chapter 5)."""

    segments: tuple[tuple[int, int, int], ...]
    """Address, offset in the file, bytes in the file."""

    @classmethod
    def read(cls, head: bytes) -> _Program:
        order, wide = ">" if head[5:6] == b"\2" else "<", head[4:5] == b"\2"
        try:
            if wide:
                start, size, count = (*struct.unpack_from(order + "Q", head, 32), *_two(head, order, 54))
                shape, fields = struct.Struct(order + "IIQQQQQQ"), (3, 2, 5)
            else:
                start, size, count = (*struct.unpack_from(order + "I", head, 28), *_two(head, order, 42))
                shape, fields = struct.Struct(order + "IIIIIIII"), (2, 1, 4)
            entries = [shape.unpack_from(head, start + number * size) for number in range(min(count, 256))]
        except (struct.error, OverflowError):  # a place behind the end, or beyond any number of bytes
            return cls(())
        address, offset, length = fields
        return cls(tuple((entry[address], entry[offset], entry[length]) for entry in entries if entry[0] == 1))

    def offset(self, address: int) -> int | None:
        for start, offset, length in self.segments:
            if start <= address < start + length:
                return offset + address - start
        return None


def _two(head: bytes, order: str, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(order + "HH", head, at)
    return first, second


def _is_version(text: bytes) -> bool:
    return text.startswith((b"go1", b"go2", b"devel")) and len(text) <= MAX_VERSION_BYTES


def _unwrapped(modules: bytes) -> str:
    """Without the two marks around it; nothing where they are not there, as Go itself does."""
    if len(modules) < 33 or modules[-17:-16] != b"\n":
        return ""
    return modules[16:-16].decode("utf-8", "replace")


def go_release(text: str) -> str:
    """``go1.21rc2`` as the semantic version that Go's vulnerability database has, 1.21.0-rc.2; empty for others
    (``devel go1.22-...``)."""
    match = _RELEASE.match(text)
    if not match:
        return ""
    version = f"{int(match[1])}.{int(match[2])}.{int(match[3] or 0)}"
    return f"{version}-{match[4]}.{int(match[5])}" if match[4] else version


def _parsed(name: str, version: str, text: str, *, problem: str = "") -> GoProgram:
    main: GoModule | None = None
    modules: list[GoModule] = []
    skipped = 0
    path = ""
    for line in text.split("\n"):
        kind, _, rest = line.partition("\t")
        if kind == "path":
            path = rest.strip()
        if kind not in ("mod", "dep", "=>"):
            continue
        module = _module(rest.split("\t"))
        if module is None:
            skipped += 1
        elif kind == "mod":
            main = module
        elif kind == "dep":
            modules.append(module)
        elif modules:
            modules[-1] = _replaced(modules[-1], module)
        elif main is not None:
            main = _replaced(main, module)
    if main is None and _PATH.match(path) and path != "command-line-arguments":
        main = GoModule(path=path)
    go = go_release(version)
    if version and not go:
        problem = problem or f"it was made by a version of Go between releases ({version[:60]!r})"
    if len(modules) > MAX_MODULES:
        problem, modules = f"it has {len(modules)} modules, at most {MAX_MODULES} are read", modules[:MAX_MODULES]
    if skipped:
        problem = problem or f"{skipped} of its modules have no usable name and version"
    return GoProgram(name=name, go=go, main=main, modules=tuple(dict.fromkeys(modules)), problem=problem)


def _module(fields: list[str]) -> GoModule | None:
    path = fields[0]
    version = fields[1] if len(fields) > 1 else ""
    if path.startswith((".", "/")):
        return GoModule(path="")
    if not _PATH.match(path):
        return None
    if version == "(devel)":
        version = ""
    return GoModule(path=path, version=version) if not version or _VERSION.match(version) else None


def _replaced(module: GoModule, other: GoModule) -> GoModule:
    """What replaces a module is what went in; where that is a folder, nobody knows its version."""
    return other if other.path else GoModule(path=module.path)
