"""Serves a configuration's embedded registries and writes down what is uploaded.

``python -m tests.cluster.serving CONFIG LOG [SECONDS]``; a connection rests for so many seconds after each answer, as a
registry far away is waited for.

A line of the log is a request that brought bytes of a blob, or asked for a mount: registry, method, path with its
query, bytes and status.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from registry_pipelines.config import EmbeddedRegistry, load
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.http_server import Exchange


def main(config: Path, log: Path, far_s: float = 0) -> None:
    """Until TERM."""
    ended, writing = threading.Event(), threading.Lock()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    settings = load(config)
    with log.open("a") as file, ExitStack() as stack:

        def noted(registry: str) -> Callable[[Exchange], None]:
            def note(exchange: Exchange) -> None:
                time.sleep(far_s)
                if exchange.method in ("POST", "PATCH", "PUT") and "/blobs/uploads/" in exchange.target:
                    line = [registry, exchange.method, exchange.target, exchange.bytes_in, exchange.status]
                    with writing:
                        file.write(json.dumps(line) + "\n")
                        file.flush()

            return note

        for each in settings.registries.values():
            assert isinstance(each, EmbeddedRegistry)
            root = settings.root(each)
            stack.enter_context(EmbeddedServer(root, host=each.host, port=each.port, on_exchange=noted(each.name)))
            print(f"{each.name} serves {root}", flush=True)
        ended.wait()


@dataclass(frozen=True)
class Upload:
    """A blob that was sent, whole or as far as it came. bytes: of its content. digest: empty where it was not ended."""

    registry: str
    digest: str
    bytes: int


def uploads(log: Path) -> list[Upload]:
    """What was sent, by the log; mounts and empty requests are no uploads."""
    open_bytes: dict[tuple[str, str], int] = {}
    found: list[Upload] = []
    for line in log.read_text().splitlines():
        registry, method, target, size, status = json.loads(line)
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        digest = query.get("digest", [""])[0]
        if method == "PATCH":
            open_bytes[registry, path] = open_bytes.get((registry, path), 0) + size
        elif digest and status == 201:
            sent = size + open_bytes.pop((registry, path), 0)
            if sent:
                found.append(Upload(registry, digest, sent))
    return found + [Upload(registry, "", size) for (registry, _), size in open_bytes.items() if size]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:4]))
