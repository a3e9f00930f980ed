"""A TCP proxy that stands before any registry and plays faults on request; it counts requests and bytes.

``with FaultRegistry(upstream_address) as faults: faults.play("PUT", r".*/blobs/uploads/.*", LoseAnswer())``. The client
uses ``faults.address``. Works before the embedded server and before docker-registry (both plain HTTP). Redirected
blobs are served from a second port, the "object store", which takes no Authorization, as S3 does.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from tests.doubles.faults import (
    Corrupt,
    CutAnswer,
    CutRequest,
    DropQuery,
    Fault,
    HoldAnswer,
    HoldContent,
    LoseAnswer,
    NoRange,
    Redirect,
    Rewrite,
    Status,
    StuckRange,
    Throttle,
)
from tests.doubles.wire import Closed, Head, Listener, Stream
from tests.patience import patient


@dataclass
class Seen:
    """One request that passed: what was asked, what was answered (0: nothing), bytes of both bodies on the wire."""

    method: str
    target: str
    status: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    authorization: str = ""
    range: str = ""
    fault: str = ""
    held: bool = False
    """Whether the registry has answered, and that waits (HoldAnswer)."""


@dataclass
class _Rule:
    method: str
    target: re.Pattern[str]
    fault: Fault
    skip: int
    times: int


class _Counter:
    """What the proxy saw; safe for many threads."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._lock = threading.Lock()

    def add(self, head: Head, fault: Fault | None = None) -> Seen:
        one = Seen(head.method, head.target, authorization=head.get("Authorization"), range=head.get("Range"))
        one.fault = type(fault).__name__ if fault else ""
        with self._lock:
            self.seen.append(one)
        return one

    def select(self, method: str, target: str) -> list[Seen]:
        with self._lock:
            return [one for one in self.seen if one.method == method and re.fullmatch(target, one.target)]


class FaultRegistry:
    """See the module. seen: all requests in order. token_gate: see :meth:`require_tokens`."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host.strip("[]"), int(port))
        self._rules: list[_Rule] = []
        self._holds: list[threading.Event] = []
        self._lock = threading.Lock()
        self._counter = _Counter()
        self._stored = _Counter()
        self._signed: dict[str, tuple[str, int, int]] = {}
        self._first_ranges: dict[str, str] = {}
        self._token = ""
        self.token_life_s = 300
        self._listener = Listener(lambda sock: self._serve(sock, self._answer))
        self._store = Listener(lambda sock: self._serve(sock, self._answer_stored))
        self.address = self._listener.address
        self.store_address = self._store.address

    def __enter__(self) -> FaultRegistry:
        self._listener.start()
        self._store.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for release in self._holds:
            release.set()
        self._listener.stop()
        self._store.stop()

    def play(self, method: str, target: str, fault: Fault, *, times: int = 1_000_000, skip: int = 0) -> None:
        """Play a fault for requests of a method whose path and query match a whole-match pattern.

        skip: so many matching requests pass first. times: so many are hit, later ones pass. The first rule that has
        something left to do wins.
        """
        with self._lock:
            if isinstance(fault, HoldAnswer | HoldContent):
                self._holds.append(fault.release)
            self._rules.append(_Rule(method, re.compile(target), fault, skip, times))

    def clear(self) -> None:
        """No faults from now on."""
        with self._lock:
            self._rules.clear()

    def require_tokens(self) -> None:
        """Ask for a bearer token (own ``/token`` endpoint) from now on."""
        self._token = secrets.token_hex(8)

    def expire_tokens(self) -> None:
        """Every token given out so far is refused from now on."""
        self._token = secrets.token_hex(8)

    @property
    def seen(self) -> list[Seen]:
        """All requests so far."""
        return list(self._counter.seen)

    @property
    def stored(self) -> list[Seen]:
        """All requests at the object store."""
        return list(self._stored.seen)

    def requests(self, method: str, target: str = ".*") -> list[Seen]:
        """The requests of a method whose path and query match."""
        return self._counter.select(method, target)

    @property
    def bytes_up(self) -> int:
        """Bytes of all request bodies."""
        return sum(one.bytes_up for one in self.seen)

    @property
    def bytes_down(self) -> int:
        """Bytes of all answer bodies, the object store's too."""
        return sum(one.bytes_down for one in [*self.seen, *self.stored])

    def reset_counts(self) -> None:
        """Forget what was seen."""
        self._counter.seen.clear()
        self._stored.seen.clear()

    def _serve(self, sock: socket.socket, answer: object) -> None:
        stream = Stream(sock)
        while True:
            head = stream.read_head()
            if head.get("Expect"):
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = head.without("Expect")
            if not answer(stream, head):  # type: ignore[operator]
                return

    def _answer(self, stream: Stream, head: Head) -> bool:
        """Handle one request; whether the connection goes on."""
        fault = self._check_token(head) or self._pick(head)
        seen = self._counter.add(head, fault)  # last: of who is seen it is known what it meets, and others do not
        if isinstance(fault, Status):
            return _play_status(stream, head, fault, seen)
        if isinstance(fault, Redirect):
            return self._redirect(stream, head, fault, seen)
        return self._relay(stream, head, fault, seen)

    def _pick(self, head: Head) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if not re.fullmatch(rule.method, head.method) or not rule.target.fullmatch(head.target):
                    continue
                if rule.skip:
                    rule.skip -= 1
                elif rule.times:
                    rule.times -= 1
                    return rule.fault
        return None

    def _check_token(self, head: Head) -> Status | None:
        if not self._token:
            return None
        if head.target.split("?")[0] == "/token":
            body = f'{{"token": "{self._token}", "expires_in": {self.token_life_s}}}'.encode()
            return Status(200, {"Content-Type": "application/json"}, body)
        if head.get("Authorization") == f"Bearer {self._token}":
            return None
        challenge = f'Bearer realm="http://{self.address}/token",service="fault"'
        return Status(401, {"WWW-Authenticate": challenge})

    def _redirect(self, stream: Stream, head: Head, fault: Redirect, seen: Seen) -> bool:
        name = secrets.token_hex(8)
        self._signed[name] = (head.target, fault.uses, fault.expired)
        location = f"http://{self.store_address}/signed/{name}?X-Amz-Signature={secrets.token_hex(16)}"
        return _play_status(stream, head, Status(307, {"Location": location}), seen)

    def _answer_stored(self, stream: Stream, head: Head) -> bool:
        seen = self._stored.add(head)
        name = urllib.parse.urlsplit(head.target).path.removeprefix("/signed/")
        with self._lock:
            target, uses, expired = self._signed.get(name, ("", 0, 404))
            self._signed[name] = (target, max(0, uses - 1), expired)
        if head.get("Authorization"):
            return _play_status(stream, head, Status(400, body=b"<Error>only one auth mechanism</Error>"), seen)
        if not uses:
            return _play_status(stream, head, Status(expired, body=b"<Error>Request has expired</Error>"), seen)
        return self._relay(stream, Head(f"{head.method} {target} HTTP/1.1", head.headers), None, seen)

    def _relay(self, stream: Stream, head: Head, fault: Fault | None, seen: Seen) -> bool:
        upstream = self._listener.adopt(socket.create_connection(self._upstream))
        try:
            if isinstance(fault, CutRequest) and fault.kept:
                _keep_beginning(stream, head, upstream, fault.at_byte, seen)
                return False
            upstream.sendall(_for_upstream(head, fault).encode())
            if not _pass_request(stream, head, upstream, fault, seen):
                return False
            back = Stream(upstream)
            answer = back.read_head()
            while 100 <= answer.status < 200:
                answer = back.read_head()
            return self._give_back(stream, head, answer, back, fault, seen)
        finally:
            self._listener.release(upstream)

    def _give_back(
        self, stream: Stream, head: Head, answer: Head, back: Stream, fault: Fault | None, seen: Seen
    ) -> bool:
        answer = self._rewritten(head, answer.without("Connection"), fault)
        if isinstance(fault, LoseAnswer):
            return False
        if isinstance(fault, HoldAnswer) and fault.after_bytes < 0:
            seen.held = True
            fault.release.wait(patient(60))
        seen.status = answer.status
        stream.sock.sendall(answer.encode())
        if head.method == "HEAD":
            return True
        if isinstance(fault, HoldContent):
            fault = HoldAnswer(fault.release, max(0, fault.from_byte - _first_byte(answer)))
        for block in _faulty(back.read_rest(), fault):
            seen.bytes_down += len(block)  # first: who has them all may count them at once
            stream.sock.sendall(block)
        sized = answer.get("Content-Length") or "chunked" in answer.get("Transfer-Encoding") or answer.status == 204
        return bool(sized) and not isinstance(fault, CutAnswer)

    def _rewritten(self, head: Head, answer: Head, fault: Fault | None) -> Head:
        if isinstance(fault, Rewrite):
            answer = answer.without(*fault.drop)
            for name, value in fault.set.items():
                answer = answer.with_header(name, value.replace("{address}", self.address))
            if fault.status:
                answer = Head(f"HTTP/1.1 {fault.status} Rewritten", answer.headers)
        if isinstance(fault, StuckRange) and answer.get("Range"):
            upload = urllib.parse.urlsplit(head.target).path
            first = self._first_ranges.setdefault(upload, answer.get("Range"))
            answer = answer.with_header("Range", first)
        return answer


def _first_byte(answer: Head) -> int:
    """Where the content of an answer begins in the whole."""
    found = re.match(r"bytes (\d+)-", answer.get("Content-Range"))
    return int(found[1]) if found else 0


def _for_upstream(head: Head, fault: Fault | None) -> Head:
    asked = head.without("Connection", "Keep-Alive").with_header("Connection", "close")
    if isinstance(fault, DropQuery):
        asked = Head(f"{head.method} {head.target.split('?')[0]} HTTP/1.1", asked.headers)
    return asked.without("Range") if isinstance(fault, NoRange) else asked


def _pass_request(stream: Stream, head: Head, upstream: socket.socket, fault: Fault | None, seen: Seen) -> bool:
    left = fault.at_byte if isinstance(fault, CutRequest) else None
    for block in stream.request_body(head):
        piece = block if left is None else block[:left]
        try:
            upstream.sendall(piece)
        except OSError:
            return True
        seen.bytes_up += len(piece)
        if left is not None:
            left -= len(piece)
            if left <= 0:
                return False
    return True


def _keep_beginning(stream: Stream, head: Head, upstream: socket.socket, at_byte: int, seen: Seen) -> None:
    """Let the registry have a complete request with the content up to a byte; its answer is lost."""
    content = bytearray()
    for block in stream.request_content(head):
        content += block[: at_byte - len(content)]
        if len(content) == at_byte:
            break
    seen.bytes_up = len(content)
    sized = head.without("Transfer-Encoding", "Connection").with_header("Content-Length", str(len(content)))
    upstream.sendall(sized.with_header("Connection", "close").encode() + content)
    for _ in Stream(upstream).read_rest():
        pass


def _play_status(stream: Stream, head: Head, fault: Status, seen: Seen) -> bool:
    body = stream.request_body(head)
    cut = False
    for block in body:
        seen.bytes_up += len(block)
        if fault.after_bytes and seen.bytes_up >= fault.after_bytes:
            cut = True
            break
    headers = [*fault.headers.items(), ("Content-Length", str(len(fault.body)))]
    if cut:
        headers.append(("Connection", "close"))
    seen.status = fault.status
    answer = Head(f"HTTP/1.1 {fault.status} Fault", headers).encode()
    stream.sock.sendall(answer + (b"" if head.method == "HEAD" else fault.body))
    if cut:
        _drain(stream)
    return not cut


def _drain(stream: Stream) -> None:
    """Let the client read the answer before the connection ends: unread bytes would turn the close into a reset."""
    stream.sock.shutdown(socket.SHUT_WR)
    for _ in stream.read_rest():
        pass


def _faulty(blocks: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
    passed = 0
    for block in blocks:
        if isinstance(fault, CutAnswer) and passed + len(block) > fault.at_byte:
            yield block[: fault.at_byte - passed]
            return
        if isinstance(fault, Corrupt) and passed <= fault.at_byte < passed + len(block):
            at = fault.at_byte - passed
            block = block[:at] + bytes([block[at] ^ 0xFF]) + block[at + 1 :]
        if isinstance(fault, HoldAnswer) and fault.after_bytes >= 0 and passed + len(block) > fault.after_bytes:
            keep = max(0, fault.after_bytes - passed)
            yield block[:keep]
            fault.release.wait(patient(60))
            block = block[keep:]
            passed += keep
        if isinstance(fault, Throttle | NoRange) and fault.bytes_per_s:
            time.sleep(len(block) / fault.bytes_per_s)
        passed += len(block)
        yield block


__all__ = [
    "Closed",
    "Corrupt",
    "CutAnswer",
    "CutRequest",
    "DropQuery",
    "FaultRegistry",
    "HoldAnswer",
    "HoldContent",
    "LoseAnswer",
    "NoRange",
    "Redirect",
    "Rewrite",
    "Seen",
    "Status",
    "StuckRange",
    "Throttle",
]
