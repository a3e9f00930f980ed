"""What BuildKit tells while it builds: a row of JSON documents, then plain words.

The form is that of ``--progress=rawjson`` of ``docker buildx build`` and ``buildctl build``: BuildKit's ``SolveStatus``
(github.com/moby/buildkit, client/graph.go), one document a line, or printed over many lines by buildx 0.13.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from registry_pipelines.build.dockerfile.engines.protocol import LAST_LINES, Order, Step, hidden
from registry_pipelines.oci.decoding import ready
from registry_pipelines.progress import Progress

MAX_DOCUMENT_BYTES = 16 << 20
"""A document has what happened within a tenth of a second; BuildKit cuts a step's log off at 2 MiB."""
MAX_VERTEXES = 20_000
"""Steps that are followed; more are not shown. Dockerfiles with matrices of platforms have some hundred."""
MAX_TEXT_LINES = 400
"""Lines of plain words that are kept: the excerpt of the Dockerfile and the error."""

_CACHE = "importing cache manifest"
"""The name of a step that may fail: the build then goes on without that cache."""
_LINE = re.compile(r"^(?P<file>\S.*):(?P<line>\d{1,7})$")
"""What stands above the excerpt: ``Dockerfile:4``."""


class _Vertex(msgspec.Struct):
    digest: str
    name: str = ""
    started: datetime | None = None
    completed: datetime | None = None
    cached: bool = False
    error: str = ""


class _Status(msgspec.Struct):
    id: str
    vertex: str
    total: int = 0
    current: int = 0


class _Log(msgspec.Struct):
    vertex: str
    data: bytes = b""


class _Warning(msgspec.Struct):
    vertex: str = ""
    short: bytes = b""


class _Solve(msgspec.Struct):
    vertexes: list[_Vertex] | None = None
    statuses: list[_Status] | None = None
    logs: list[_Log] | None = None
    warnings: list[_Warning] | None = None


def documents(lines: Iterable[bytes]) -> Iterator[_Solve | str]:
    """The documents, and each line that is part of none. A document that cannot be read is left out: the build goes on
    and its end counts."""
    decoder = msgspec.json.Decoder(ready(_Solve))
    parts, size = list[bytes](), 0
    for line in lines:
        if not parts and not line.startswith(b"{"):
            yield line.decode(errors="replace").rstrip("\r\n")
            continue
        parts.append(line)
        size += len(line)
        ended = line.rstrip() == b"}" or (len(parts) == 1 and line.rstrip().endswith(b"}"))
        if ended or size > MAX_DOCUMENT_BYTES:
            with suppress(msgspec.DecodeError, msgspec.ValidationError):
                yield decoder.decode(b"".join(parts))
            parts, size = [], 0


@dataclass
class _Followed:
    name: str
    task: str
    started: datetime | None = None
    seconds: float = 0.0
    cached: bool = False
    over: bool = False
    cut_off: bool = False
    error: str = ""
    total: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    half_line: str = ""


@dataclass(frozen=True)
class FailedStep:
    """The step that ended a build."""

    name: str
    error: str
    last_lines: tuple[str, ...]


class Following:
    """Follows a build: tells its progress, and keeps what its end needs. order: its progress, and the values of
    secrets, which appear in nothing that comes out of here."""

    def __init__(self, order: Order) -> None:
        self._progress: Progress = order.progress
        self._secrets = order.secret_values
        self._vertexes: dict[str, _Followed] = {}
        self._tasks: set[str] = set()
        self._text: deque[str] = deque(maxlen=MAX_TEXT_LINES)
        self._warnings: dict[str, None] = {}

    def read(self, lines: Iterable[bytes]) -> None:
        """Read to the end of the stream."""
        for document in documents(lines):
            if isinstance(document, str):
                self._text.append(hidden(document, self._secrets))
            else:
                self._take(document)

    @property
    def text(self) -> str:
        """The plain words."""
        return "\n".join(self._text).strip()

    @property
    def line(self) -> int:
        """The line of the Dockerfile that the words name; 0 for none."""
        found = [match for text in self._text if (match := _LINE.match(text))]
        return int(found[-1]["line"]) if found else 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What BuildKit's own checks of the Dockerfile say."""
        return tuple(self._warnings)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the Dockerfile that were done or found in a cache."""
        return tuple(
            Step(name=each.name, seconds=each.seconds, cached=each.cached)
            for each in self._vertexes.values()
            if each.over and not each.error and _is_step(each.name)
        )

    def failed(self) -> FailedStep | None:
        """The step that failed; None where none did. Those that were ended because another failed do not count."""
        found = [
            each
            for each in self._vertexes.values()
            if each.error and not _ended(each) and not each.name.startswith(_CACHE)
        ]
        return self._told(found[-1]) if found else None

    def running(self) -> FailedStep | None:
        """The step that was under way at the end; None for none."""
        found = [each for each in self._vertexes.values() if _is_step(each.name) and (each.cut_off or _ended(each))]
        return self._told(found[-1]) if found else None

    def _told(self, step: _Followed) -> FailedStep:
        lines = [*step.last, *([step.half_line] if step.half_line else [])]
        return FailedStep(step.name, step.error, tuple(hidden(text, self._secrets) for text in lines)[-LAST_LINES:])

    def end(self) -> None:
        """Nothing more comes: what is still shown is over."""
        for each in self._vertexes.values():
            if not each.over and each.started:
                each.over = each.cut_off = True
                self._progress.end(each.task, note="ended")

    def _take(self, document: _Solve) -> None:
        for vertex in document.vertexes or ():
            self._vertex(vertex)
        for status in document.statuses or ():
            self._status(status)
        for log in document.logs or ():
            self._log(log)
        for warning in document.warnings or ():
            self._warnings[hidden(warning.short.decode(errors="replace").strip(), self._secrets)] = None

    def _vertex(self, vertex: _Vertex) -> None:
        known = self._vertexes.get(vertex.digest)
        if known is None:
            if len(self._vertexes) >= MAX_VERTEXES:
                return
            name = " ".join(hidden(vertex.name, self._secrets).split())
            known = self._vertexes[vertex.digest] = _Followed(name, self._task(name))
        known.cached |= vertex.cached
        if vertex.error:
            known.error = hidden(vertex.error, self._secrets)
        if vertex.started and known.started is None:
            known.started = vertex.started
            self._progress.begin(known.task)
        if vertex.completed and known.started and not known.over:
            known.over = True
            known.seconds = max(0.0, (vertex.completed - known.started).total_seconds())
            self._progress.end(known.task, note=_note(known))

    def _task(self, name: str) -> str:
        """A name of its own for each step: two platforms may have the same."""
        task, number = name[:100], 1
        while task in self._tasks:
            number += 1
            task = f"{name[:100]} ({number})"
        self._tasks.add(task)
        return task

    def _status(self, status: _Status) -> None:
        known = self._vertexes.get(status.vertex)
        if known is None or known.over or known.started is None or status.current <= 0:
            return
        if status.total > known.total.get(status.id, 0):
            known.total[status.id] = status.total
            self._progress.begin(known.task, total_bytes=sum(known.total.values()))
        grown = status.current - known.current.get(status.id, 0)
        if grown > 0:
            known.current[status.id] = status.current
            self._progress.advance(known.task, grown)

    def _log(self, log: _Log) -> None:
        known = self._vertexes.get(log.vertex)
        if known is None:
            return
        *whole, known.half_line = (known.half_line + log.data.decode(errors="replace")).split("\n")
        known.last.extend(text.rstrip("\r") for text in whole)


def _ended(step: _Followed) -> bool:
    """Whether it was ended from outside: the time was over, or another step had failed."""
    return "context canceled" in step.error or "signal: killed" in step.error


def _note(step: _Followed) -> str:
    if step.error:
        return "none there" if step.name.startswith(_CACHE) and "not found" in step.error else "failed"
    return "cached" if step.cached else ""


def _is_step(name: str) -> bool:
    return name.startswith("[") and not name.startswith("[internal]")
