"""Lines that are kept until an audit reads them: a file that grows in a state folder, and for workers that share their
state a document for each addition, so that whoever reads the logs next finds what any of them was told.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Protocol

from registry_pipelines.events.line_files import append_lines, new_lines
from registry_pipelines.oci.files import local_errors
from registry_pipelines.report.audit.model import Reading
from registry_pipelines.shared.documents import Documents, FolderDocuments

MOST_FILE_BYTES = 64 << 20
MOST_ADDED = 20_000
"""Documents that wait; the oldest go then, as nobody reads the logs."""
LOOK_EVERY = 100
"""Additions between two looks at how many wait."""


class Lines(Protocol):
    """Safe for threads; of files one process adds at a time."""

    where: str

    def add(self, lines: bytes) -> None:
        """Keep whole lines; they are kept when this returns. Raises LocalError, DiskFull."""
        ...

    def new(self, reading: Reading) -> Iterator[bytes]:
        """Lines that are new by the cursor. Raises LocalError."""
        ...


def lines_of(documents: Documents, stem: str) -> Lines:
    """The lines of a name in a folder of the state."""
    if isinstance(documents, FolderDocuments):
        return FileLines(documents, stem)
    return AddedLines(documents.under(f"{stem}-lines"))


class FileLines:
    """See Lines; ``stem.jsonl`` and what was put aside of it."""

    def __init__(self, documents: FolderDocuments, stem: str) -> None:
        self._folder, self._stem, self.where = documents.root, stem, documents.where

    def add(self, lines: bytes) -> None:
        """See Lines."""
        with local_errors(self._folder):
            append_lines(self._folder, self._stem, lines, most_bytes=MOST_FILE_BYTES)

    def new(self, reading: Reading) -> Iterator[bytes]:
        """See Lines."""
        if not self._folder.is_dir():
            reading.note(f"{self._folder} is not there: was anything told on this machine?")
        return new_lines(f"{self._folder}/{self._stem}*.jsonl", reading)


class AddedLines:
    """See Lines; a document for each addition. What the cursor says is read was kept as events, and goes with the next
    look."""

    def __init__(self, documents: Documents) -> None:
        self._documents, self.where = documents, documents.where
        self._added = 0

    def add(self, lines: bytes) -> None:
        """See Lines."""
        self._documents.write(f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl", lines)
        if self._added % LOOK_EVERY == 0:
            for each in self._documents.entries()[:-MOST_ADDED]:
                self._documents.delete(each.name)
        self._added += 1

    def new(self, reading: Reading) -> Iterator[bytes]:
        """See Lines."""
        waiting = self._documents.entries()
        for each in waiting:
            if each.name in reading.cursor:
                self._documents.delete(each.name)
        before = set(reading.cursor)
        reading.cursor.clear()
        for each in waiting:
            if each.name in before or (found := self._documents.read(each.name)) is None:
                continue
            yield from (line for line in found.content.splitlines(keepends=True) if line.strip())
            reading.cursor[each.name] = "read"


__all__ = ["Lines", "lines_of"]
