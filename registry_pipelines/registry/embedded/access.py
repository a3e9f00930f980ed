"""The access log of the embedded registry: who did what to which image, a JSON object a line.

No line has a header, a query or a body: no password and no token can be in it. The file is put aside when it is large
(``access-20261129T120000.jsonl`` beside ``access.jsonl``), and of those the newest stay. A line that cannot be written
does not stop the registry; how many were lost stands in the next line.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from registry_pipelines.registry.embedded.heads import split_target
from registry_pipelines.registry.embedded.http_server import Exchange

MOST_BYTES = 64 << 20
"""Of a file: about 200,000 requests."""
MOST_ASIDE = 16
_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<what>manifests|blobs)/(?P<reference>[^/]+)")


class Access(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. id: its own, for good. what: ``manifests`` or ``blobs``. digest: what was asked for or answered.
    tag: by which it was. bytes: of the content, sent or received. lost: lines before it that could not be written."""

    id: str
    time: datetime
    who: str = ""
    method: str
    what: str
    repository: str
    digest: str = ""
    tag: str = ""
    status: int
    bytes: int = 0
    seconds: float = 0.0
    address: str = ""
    agent: str = ""
    lost: int = 0


def accesses(exchange: Exchange, *, now: datetime, run: str, number: int) -> list[Access]:
    """The lines of one exchange: none for what is of no image, and for HEAD; several for a push of several tags."""
    path, query = split_target(exchange.target)  # as the server reads it: what it did not log would be hidden
    match = _ROUTE.fullmatch(path)
    if match is None or exchange.method == "HEAD":
        return []
    reference = match["reference"]
    is_digest = ":" in reference
    tags = query.get("tag", [""]) if is_digest and exchange.method == "PUT" else [""]
    return [
        Access(
            id=f"{run}-{number}" + (f"/{place}" if place else ""),
            time=now,
            who=exchange.user,
            method=exchange.method,
            what=match["what"],
            repository=match["name"],
            digest=reference if is_digest else exchange.digest,
            tag=tag if is_digest else reference,
            status=exchange.status,
            bytes=max(exchange.bytes_in, exchange.bytes_out),
            seconds=round(exchange.seconds, 6),
            address=exchange.peer,
            agent=exchange.agent,
        )
        for place, tag in enumerate(tags)
    ]


class AccessLogFile:
    """Writes the log of one server; call it with each exchange, from many threads."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.path, self._most = path, most_bytes
        self._run = uuid.uuid4().hex[:16]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._descriptor, self._size, self._lost = -1, 0, 0

    def __call__(self, exchange: Exchange) -> None:
        """Write what an exchange was. Never raises."""
        found = accesses(exchange, now=datetime.now(UTC), run=self._run, number=next(self._numbers))
        with self._lock:
            for line in found:
                if self._lost:
                    line = msgspec.structs.replace(line, lost=self._lost)
                try:
                    self._write(msgspec.json.encode(line) + b"\n")
                    self._lost = 0
                except (OSError, ValueError):  # full, or text that is none
                    self._lost += 1
                    self.close()

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            self._size = os.fstat(self._descriptor).st_size
            self._end_torn_line()
        if self._size >= self._most:
            self._put_aside()
            self._write(line)
            return
        written = os.write(self._descriptor, line)
        self._size += written
        if written < len(line):  # the disk is full: what is torn is ended with the next line
            raise OSError("the line was not written whole")

    def _end_torn_line(self) -> None:
        """A process that was killed, or a full disk, left a line without its end."""
        if not self._size:
            return
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                self._size += os.write(self._descriptor, b"\n")

    def _put_aside(self) -> None:
        self.close()
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))
        for old in sorted(set(files_of(self.path)) - {self.path})[:-MOST_ASIDE]:
            old.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the next exchange opens it again."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = -1


def files_of(path: Path) -> list[Path]:
    """A log's files, those put aside too, and not those of another whose name begins alike. Raises OSError."""
    aside = re.compile(rf"{re.escape(path.stem)}-[0-9]{{8}}T[0-9]{{12}}{re.escape(path.suffix)}")
    if not path.parent.is_dir():
        return []
    return [each for each in path.parent.iterdir() if each.name == path.name or aside.fullmatch(each.name)]


__all__ = ["Access", "AccessLogFile", "accesses", "files_of"]
