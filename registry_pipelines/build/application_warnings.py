"""What is packed of an application folder, and will surprise: said, not refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from registry_pipelines.build.content import LayerEntry
from registry_pipelines.build.entries import PROGRAM_MODE

NAMED = 3
"""Paths named in a warning; the rest is counted."""

MAX_POINTER_BYTES = 1024
"""Git LFS pointers are smaller."""
_POINTER_START = b"version https://git-lfs.github.com/spec/v1\n"

_FIRST_LINE_BYTES = 256
"""What Linux reads of a script to find its interpreter."""


def some_of(paths: Iterable[str]) -> str:
    """The first few, sorted, and how many more there are."""
    ordered = sorted(paths)
    more = f", and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(path.encode("utf-8", "backslashreplace").decode() for path in ordered[:NAMED]) + more


def pointer_warnings(entries: Iterable[LayerEntry]) -> list[str]:
    """One line when Git LFS pointers are packed instead of what they point to; else nothing.

    entries: of the application. A pointer is a small text that begins with its version (git-lfs, ``docs/spec.md``).
    """
    pointers = [entry.path for entry in entries if entry.source and _is_pointer(entry.source)]
    return [f"Git LFS pointers are packed, not their content (git lfs pull): {some_of(pointers)}"] if pointers else []


def _is_pointer(path: Path) -> bool:
    return path.stat().st_size <= MAX_POINTER_BYTES and _start(path, len(_POINTER_START)) == _POINTER_START


def script_warnings(entries: Iterable[LayerEntry], programs: Iterable[str]) -> list[str]:
    """One line when programs are packed that no interpreter of the base can start; else nothing.

    entries: of the application. programs: what the base has, with leading slash.
    """
    there = set(programs)
    lost = []
    for entry in entries:
        if entry.source is not None and entry.mode == PROGRAM_MODE:
            interpreter = _interpreter(entry.source)
            if interpreter and interpreter not in there:
                lost.append(f"{entry.path} ({interpreter})")
    return [f"the base has no interpreter for programs that are packed: {some_of(lost)}"] if lost else []


def _interpreter(path: Path) -> str:
    """The program that the first line names; empty for what is no script."""
    line = _start(path, _FIRST_LINE_BYTES).partition(b"\n")[0]
    words = line.removeprefix(b"#!").split()
    return words[0].decode(errors="backslashreplace") if line.startswith(b"#!") and words else ""


def _start(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)
