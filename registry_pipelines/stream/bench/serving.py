"""The registry that is measured against: the embedded one in a process of its own, which counts.

Run as ``python -m registry_pipelines.stream.bench.serving ROOT HOST``; on stdout its address, then for each line that
it is given one line of JSON with what was asked since the line before. Ends with its stdin.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from registry_pipelines.errors import LocalError
from registry_pipelines.interrupts import CHILDREN

PORT = 5000
"""In a namespace of its own nobody else has it."""


@dataclass
class Served:
    """What was asked of a registry. refused: answers 429, and 503, which a busy server gives."""

    requests: int = 0
    bytes: int = 0
    refused: int = 0


class CountingRegistry:
    """``with CountingRegistry(root, host, enter) as registry: registry.address; registry.take()``."""

    def __init__(self, root: Path, host: str = "127.0.0.1", enter: Callable[[Sequence[str]], list[str]] = list) -> None:
        """enter: makes a command one that runs in the registry's namespace."""
        self._command = enter([sys.executable, "-m", __name__, str(root), host])
        self.address = ""

    def __enter__(self) -> CountingRegistry:
        """Raises LocalError."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        CHILDREN.add(self._process)
        self.address = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        CHILDREN.discard(self._process)

    def take(self) -> Served:
        """What was asked since the last call. Raises LocalError."""
        assert self._process.stdin  # noqa: S101 - it is piped
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return Served(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout  # noqa: S101 - it is piped
        line = self._process.stdout.readline().decode().strip()
        if not line:
            raise LocalError("the benchmark's registry ended", do="Its message stands above")
        return line


class _Counter:
    def __init__(self) -> None:
        self._counts, self._lock = Served(), threading.Lock()

    def add(self, status: int, size: int) -> None:
        with self._lock:
            self._counts.requests += 1
            self._counts.bytes += size
            self._counts.refused += status in (429, 503)

    def take(self) -> Served:
        with self._lock:
            counts, self._counts = self._counts, Served()
        return counts


def serve(root: Path, host: str, asked: IO[str], answers: IO[str]) -> None:
    """Until ``asked`` ends."""
    from registry_pipelines.registry.embedded import EmbeddedServer

    counter = _Counter()
    with EmbeddedServer(
        root,
        host=host,
        port=0 if host.startswith("127.") else PORT,
        garbage_interval_s=None,
        on_exchange=lambda exchange: counter.add(exchange.status, exchange.bytes_out),
    ) as server:
        print(server.address, file=answers, flush=True)
        for _ in asked:
            print(json.dumps(asdict(counter.take())), file=answers, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], sys.stdin, sys.stdout)
