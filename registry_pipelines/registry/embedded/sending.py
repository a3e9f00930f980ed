"""Sending answers: the kernel sends files; TLS goes block by block."""

from __future__ import annotations

import os
import ssl
import time

from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.http_messages import BodyCut, Connection, Deadlines
from registry_pipelines.registry.embedded.responses import FileBody, Response

SEND_BYTES = 1024 * 1024
"""Handed to one ``sendfile``; the deadline is looked at in between."""
TLS_BLOCK_BYTES = 1024 * 1024
"""TLS has no sendfile: read and send in blocks."""


def send_response(connection: Connection, request: Request, response: Response, *, keep_alive: bool) -> int:
    """Send an answer; returns the bytes of its body."""
    head = response.head(keep_alive=keep_alive)
    if request.method == "HEAD" or response.status in (204, 304):
        connection.send(head)
        return 0
    if response.parts is not None:
        connection.send(head)
        return sum(_send_part(connection, part) for part in response.parts)
    if response.file is None:
        connection.send(head + response.body)
        return len(response.body)
    connection.send(head)
    if isinstance(connection.sock, ssl.SSLSocket):
        return _send_blocks(connection, response.file)
    return _send_file(connection, response.file)


def _send_part(connection: Connection, part: bytes | memoryview) -> int:
    connection.send(part)
    return len(part)


def _send_file(connection: Connection, file: FileBody) -> int:
    source, sent = file.stream.fileno(), 0
    pace = _Pace(connection.deadlines)
    while sent < file.length:
        part = min(SEND_BYTES, file.length - sent)
        count = connection.send_file(source, file.start + sent, part, pace.wait(sent))
        if count == 0:
            raise BodyCut("the stored blob is shorter than it was")
        sent += count
    return sent


def _send_blocks(connection: Connection, file: FileBody) -> int:
    source, sent = file.stream.fileno(), 0
    buffer = memoryview(bytearray(TLS_BLOCK_BYTES))
    pace = _Pace(connection.deadlines)
    while sent < file.length:
        count = os.preadv(source, [buffer[: min(len(buffer), file.length - sent)]], file.start + sent)
        if count == 0:
            raise BodyCut("the stored blob is shorter than it was")
        connection.send(buffer[:count], pace.wait(sent))
        sent += count
    return sent


class _Pace:
    """How long one may wait for the next byte to move; bytes that moved earn time."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._began = time.monotonic()

    def wait(self, moved: int) -> float:
        earned = self._deadlines.stall_s + moved / self._deadlines.minimum_bytes_per_s
        left = self._began + earned - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client reads too slowly")
        return min(self._deadlines.stall_s, left)


__all__ = ["SEND_BYTES", "TLS_BLOCK_BYTES", "send_response"]
