"""Several servers in one process until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from registry_pipelines.oci.files import raise_file_limit
from registry_pipelines.registry.embedded.http_server import HttpServer

_Server = TypeVar("_Server", bound=HttpServer)


def serve(
    servers: Sequence[_Server],
    *,
    ready: Callable[[Sequence[_Server]], None] = lambda servers: None,
    stop: threading.Event | None = None,
) -> None:
    """Start all, call ``ready`` once, wait for SIGTERM, SIGINT or ``stop``, stop all.

    Call it from the main thread, or give ``stop``. When one cannot start, those before it are stopped. Raises what
    ``HttpServer.start`` raises.
    """
    ended = stop or threading.Event()
    raise_file_limit()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.signal(number, lambda _number, _frame: ended.set())
                stack.callback(signal.signal, number, before)
        for server in servers:
            stack.enter_context(server)
        ready(servers)
        ended.wait()


__all__ = ["raise_file_limit", "serve"]
