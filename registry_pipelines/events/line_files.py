"""Files that grow by lines, and are put aside when they are large: read on from where the last run stopped."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from registry_pipelines.oci.files import local_errors
from registry_pipelines.report.audit.model import Reading

MOST_LINE_BYTES = 1 << 20
READ_BYTES = 1 << 20
MOST_ASIDE = 16
BEGIN_BYTES = 64


def new_lines(files: str | Iterable[Path], reading: Reading) -> Iterator[bytes]:
    """Lines that came since, of some files or all of a pattern, the oldest file first; a line without its end waits for
    it. The cursor is each file's number on its disk (a file that is put aside keeps it), the bytes that were read, and
    how it begins: the number of a file that was deleted is given to another. Raises LocalError."""
    seen: dict[str, str] = {}
    paths = map(Path, glob.glob(files, recursive=True)) if isinstance(files, str) else files  # noqa: PTH207
    for path in sorted(paths, key=_age):
        with local_errors(path), path.open("rb") as file:
            told = os.fstat(file.fileno())
            key = f"{told.st_dev:x}:{told.st_ino:x}"
            begin = _begin(file)
            number, _, known = reading.cursor.get(key, "0").partition(" ")
            start = _start(number)
            if start > told.st_size:
                reading.note(f"{path.name} is shorter than it was: it is read from its begin again")
                start = 0
            elif known and not begin.startswith(known):
                reading.note(f"{path.name} begins otherwise than it did: it is read from its begin")
                start = 0
            file.seek(start)
            while line := file.readline(MOST_LINE_BYTES + 1):
                whole = line.endswith(b"\n")
                if not whole and len(line) <= MOST_LINE_BYTES:
                    break  # it is being written
                if not whole:
                    _skip_line(file)
                    reading.cannot(f"{path.name}: a line has more than {MOST_LINE_BYTES} bytes")
                elif line.strip():
                    yield line
                start = file.tell()
                reading.cursor[key] = _place(start, begin)
            seen[key] = _place(start, begin)
    reading.cursor.clear()
    reading.cursor.update(seen)


def append_lines(folder: Path, stem: str, lines: bytes, *, most_bytes: int, most_aside: int = MOST_ASIDE) -> None:
    """Add whole lines to ``stem.jsonl`` in a folder, and be sure that they are on the disk. A file that is larger than
    ``most_bytes`` is put aside before, as ``stem-TIME.jsonl``; of those the newest stay. One process at a time. Raises
    OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.jsonl"
    if path.exists() and path.stat().st_size > most_bytes:
        path.rename(folder / f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl")
        for old in sorted(folder.glob(f"{stem}-*.jsonl"))[:-most_aside]:
            old.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        view = memoryview(lines)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age(path: Path) -> tuple[float, str]:
    with local_errors(path):
        return path.stat().st_mtime, path.name


def _begin(file: BinaryIO) -> str:
    """The first bytes of a file, in hex: its first line has a time or an id."""
    return file.read(BEGIN_BYTES).hex()


def _place(start: int, begin: str) -> str:
    """As a cursor has it: no more of the begin than was read, for the rest may still be written."""
    return f"{start} {begin[: 2 * min(start, BEGIN_BYTES)]}".strip()


def _start(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _skip_line(file: BinaryIO) -> None:
    """Read on to the end of a line that is too long, without keeping it."""
    while (more := file.readline(READ_BYTES)) and not more.endswith(b"\n"):
        continue


__all__ = ["append_lines", "new_lines"]
