"""A declarative HTTP server: exact exchanges in order. It fails on an unexpected request and on an unused answer."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.doubles.wire import Head, Listener, Stream


@dataclass
class Answer:
    """What is sent back. ``{address}`` in header values becomes the server's own address. raw: exactly these bytes.

    length: a Content-Length that lies, None for the true one, -1 for none. hang: the body is sent, then nothing more
    until the client gives up.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | dict[str, Any] | list[Any] = b""
    raw: bytes | None = None
    length: int | None = None
    close: bool = False
    hang: bool = False

    def encode(self, address: str, *, head_only: bool) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = [f"HTTP/1.1 {self.status} Status"]
        lines += [f"{name}: {value.replace('{address}', address)}" for name, value in self.headers.items()]
        if self.length != -1 and not any(name.lower() == "content-length" for name in self.headers):
            lines.append(f"Content-Length: {len(body) if self.length is None else self.length}")
        if self.close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head_only else body)


@dataclass
class Expect:
    """One request that must come next, and its answer. target: a whole-match pattern for path and query.

    headers: patterns that must match; None means the header must be missing. body: the exact bytes, None for any.
    """

    method: str
    target: str
    answer: Answer = field(default_factory=Answer)
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None


@dataclass
class Got:
    """A request as it arrived."""

    head: Head
    body: bytes

    def __str__(self) -> str:
        headers = "".join(f"\n    {name}: {value}" for name, value in self.head.headers)
        return f"{self.head.first}{headers}\n    body: {self.body[:200]!r} ({len(self.body)} bytes)"


class ExchangeServer:
    """``with ExchangeServer(Expect(...), ...) as server: ...``; leaving checks that all answers were used."""

    def __init__(self, *expected: Expect) -> None:
        self._expected = list(expected)
        self._lock = threading.Lock()
        self.problems: list[str] = []
        self.got: list[Got] = []
        self.connections = 0
        self._listener = Listener(self._serve)
        self.address = self._listener.address

    def __enter__(self) -> ExchangeServer:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.stop()
        unused = [f"never asked for: {one.method} {one.target}" for one in self._expected]
        if kind is None and (self.problems or unused):
            raise AssertionError("\n".join([*self.problems, *unused]))
        if error is not None and self.problems:
            error.add_note("\n".join(self.problems))

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
        stream = Stream(sock)
        while True:
            head = stream.read_head()
            got = Got(head, b"".join(stream.request_body(head)))
            answer = self._match(got)
            sock.sendall(answer.encode(self.address, head_only=head.method == "HEAD"))
            if answer.hang:
                sock.recv(1)
            if answer.close or answer.raw is not None or answer.length is not None or answer.hang:
                return

    def _match(self, got: Got) -> Answer:
        with self._lock:
            self.got.append(got)
            if not self._expected:
                return self._problem(f"nothing more was expected, but this came:\n  {got}")
            expected = self._expected.pop(0)
            faults = list(_differences(expected, got))
            if faults:
                return self._problem(f"expected {expected.method} {expected.target}: {'; '.join(faults)}\n  {got}")
            return expected.answer

    def _problem(self, text: str) -> Answer:
        self.problems.append(text)
        return Answer(418, body=b"unexpected request", close=True)


def _differences(expected: Expect, got: Got) -> list[str]:
    found = []
    if got.head.method != expected.method:
        found.append(f"the method is {got.head.method}")
    if not re.fullmatch(expected.target, got.head.target):
        found.append(f"the target is {got.head.target}")
    for name, pattern in expected.headers.items():
        value = got.head.get(name, "(missing)")
        if pattern is None and value != "(missing)":
            found.append(f"{name} must be missing, it is {value!r}")
        if pattern is not None and not re.fullmatch(pattern, value):
            found.append(f"{name} is {value!r}, not {pattern!r}")
    if expected.body is not None and got.body != expected.body:
        found.append(f"the body is {got.body[:200]!r}")
    return found
