"""What the headers of a layer say, in a file beside its content, for the pull that merges the layers later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.toc import FileMetadata

_BATCH = 256
"""Entries that are written, and read, at once."""


class EntryWriter:
    """Writes the entries of a layer; whoever opened it closes it. Raises DiskFull, LocalError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batch: list[FileMetadata] = []
        with local_errors(path):
            self._file = path.open("wb")
        self._compressed: Any = zstandard.ZstdCompressor(level=1, write_checksum=True).stream_writer(self._file)

    def add(self, entry: FileMetadata) -> None:
        """The next one."""
        self._batch.append(entry)
        if len(self._batch) == _BATCH:
            self._write()

    def _write(self) -> None:
        raw = msgspec.msgpack.encode(self._batch)
        with local_errors(self._path):
            self._compressed.write(len(raw).to_bytes(4, "little") + raw)
        self._batch = []

    def finish(self) -> None:
        """After the last one: all of them are in the file."""
        self._write()
        with local_errors(self._path):
            self._compressed.close()

    def close(self) -> None:
        """Let the file go, whole or not; safe to call twice."""
        self._file.close()


def read_entries(path: Path) -> Iterator[FileMetadata]:
    """What a writer wrote, in its order. Raises LocalError: the file is damaged, or gone."""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            while head := reader.read(4):
                raw = reader.read(int.from_bytes(head, "little"))
                yield from msgspec.msgpack.decode(raw, type=ready(list[FileMetadata]))
    except (OSError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise LocalError(f"what was kept of a layer cannot be read: {error}", where=str(path)) from error


__all__ = ["EntryWriter", "read_entries"]
