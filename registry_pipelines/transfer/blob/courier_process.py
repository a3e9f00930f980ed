"""The courier: a small process that sends content from shared memory and outlives the process that gave it.

Why: distribution 2.8 (docker-registry, and what is built on it) keeps an upload's offset in the ``_state`` of its
Location. When a sender is killed in the middle of a PATCH, the bytes that arrived do not fit any known Location, and
the registry cancels the upload at the next request: all of it is to be sent again. So a sender must not be torn. When
its parent is gone, this process ends every request behind the parts it was given, writes the answer's Location into a
note beside the journal, tells workers elsewhere where there are such (``orphan_process``), and ends too. After TERM,
which a parent sends that is interrupted, it does so in a hurry: a registry that stands still is not waited for, and a
slow one not for long.

Run as a script, isolated, with the standard library, ``dialing`` and ``pem`` alone: ``courier_process.py MEMORY_FD
LOCK_FILE``. Frames on stdin and stdout are a 4-byte big-endian length and JSON. In: ``{shared}`` for the orphan's
process, ``{id, head, ...}`` opens a request, ``{id, start, size}`` adds a piece, ``{id, end}`` ends its body. Out:
``{id, sent}`` for each piece, then ``{id, raw}`` or ``{id, error}``. The lock is held as long as it lives.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import http.client
import json
import mmap
import os
import queue
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

if __name__ == "__main__":  # isolated, so this folder's parents are not searched
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from registry_pipelines.arrivals import is_ready
from registry_pipelines.dialing import Address, Dialer, tls_context

SEND_BYTES = 256 * 1024
STILL_S = 1.0
"""In a hurry, a request of which no byte moves for so long is given up."""
LAST_S = 10.0
"""In a hurry, no request gets longer. What is sent by then, two parts at most, needs a link of 2 MB/s."""
TELLING_S = 90.0
"""How long a shared database may take to hear of it; a restart of it lasts less."""
IDLE_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024
"""Answers to a PATCH have no body worth reading; error texts are short."""


class Connections:
    """Idle connections by destination."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str, int, str], list[tuple[socket.socket, float]]] = {}
        self._lock = threading.Lock()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._dialer = Dialer()

    def take(self, order: dict[str, Any]) -> socket.socket:
        """A live idle connection, else a new one. Raises OSError."""
        key = self._key(order)
        while True:
            with self._lock:
                idle = self._idle.get(key, [])
                connection, idle_since = idle.pop() if idle else (None, 0.0)
            if connection is None:
                return self._connect(order)
            if time.monotonic() - idle_since < IDLE_S and not is_ready(connection):
                return connection
            connection.close()

    def keep(self, order: dict[str, Any], sock: socket.socket) -> None:
        """For the next part."""
        with self._lock:
            self._idle.setdefault(self._key(order), []).append((sock, time.monotonic()))

    def _key(self, order: dict[str, Any]) -> tuple[str, str, int, str]:
        return (order["scheme"], order["host"], order["port"], order["ca_file"])

    def _connect(self, order: dict[str, Any]) -> socket.socket:
        places = [Address(family, tuple(where)) for family, where in order["addresses"]]
        sock = self._dialer.connect(order["host"], order["port"], places, order["connect_s"])
        if order["scheme"] != "https":
            return sock
        try:
            return self._context(order["ca_file"]).wrap_socket(sock, server_hostname=order["host"])
        except BaseException:
            sock.close()
            raise

    def _context(self, ca_file: str) -> ssl.SSLContext:
        with self._lock:
            if ca_file not in self._contexts:
                self._contexts[ca_file] = tls_context(ca_file)
            return self._contexts[ca_file]


Say = Callable[[dict[str, Any]], None]


class Request:
    """One request under way; its pieces come through a queue, None ends them. moved_at: when content left last, for any
    request."""

    moved_at = 0.0

    def __init__(self, order: dict[str, Any], memory: memoryview, connections: Connections, say: Say) -> None:
        self.order, self._memory, self._connections, self._say = order, memory, connections, say
        self.pieces: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._sent = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        result = self._send_all()
        self._say({"id": self.order["id"], **result})

    def _send_all(self) -> dict[str, Any]:
        """Send the request; its answer, or what went wrong."""
        order = self.order
        try:
            sock = self._connections.take(order)
        except OSError as error:
            return {"error": f"connecting failed: {error}", "stalled": isinstance(error, TimeoutError)}
        try:
            sock.settimeout(order["stall_s"])
            sock.sendall(base64.b64decode(order["head"]))
            whole = self._send_pieces(sock)
            sock.settimeout(order["answer_s"])
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            body = answer.read(MAX_ANSWER_BYTES)
            write_note(order, answer, self._sent)
            if answer.will_close or answer.length or not whole:
                sock.close()
            else:
                self._connections.keep(order, sock)
            return {"raw": base64.b64encode(as_received(answer, body)).decode()}
        except (OSError, http.client.HTTPException) as error:
            sock.close()
            return {"error": f"{type(error).__name__}: {error}", "stalled": isinstance(error, TimeoutError)}

    def _send_pieces(self, sock: socket.socket) -> bool:
        """HTTP's chunked coding, one chunk a piece; False when the registry answered before the end."""
        while (piece := self.pieces.get()) is not None:
            start, size = piece
            content = self._memory[start : start + size]
            if not (self._send(sock, b"%x\r\n" % size) and self._send(sock, content) and self._send(sock, b"\r\n")):
                return False
            self._sent += size
            self._say({"id": self.order["id"], "sent": size})
        return self._send(sock, b"0\r\n\r\n")

    def _send(self, sock: socket.socket, content: bytes | memoryview) -> bool:
        """Small calls, so that the socket's time-out is one on progress; False when the other side left (an early
        refusal is then worth reading)."""
        view, sent = memoryview(content), 0
        while sent < len(view):
            try:
                sent += sock.send(view[sent : sent + SEND_BYTES])
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                return False
            Request.moved_at = time.monotonic()
        return True


def as_received(answer: http.client.HTTPResponse, body: bytes) -> bytes:
    """The answer as bytes with a plain length."""
    skip = ("content-length", "transfer-encoding", "connection")
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in skip]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def write_note(order: dict[str, Any], answer: http.client.HTTPResponse, sent: int) -> None:
    """What the registry said last, for a process that comes after our parent's death."""
    if not order["note"] or not 200 <= answer.status < 300:
        return
    order["noted"] = True
    location = answer.headers.get("Location")
    url = urllib.parse.urljoin(order["url"], location) if location else order["url"]
    temporary = Path(order["note"] + ".new")
    temporary.write_text(json.dumps({"location": url, "offset": order["offset"] + sent}), encoding="utf-8")
    temporary.replace(order["note"])


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame, None at the end."""
    size = stream.read(4)
    if len(size) < 4:
        return None
    expected = struct.unpack(">I", size)[0]
    content = stream.read(expected)
    if len(content) < expected:
        return None
    order: dict[str, Any] = json.loads(content)
    return order


def finish(hurry: threading.Event) -> None:
    """Wait for the requests under way."""
    ended_at = time.monotonic()
    for thread in threading.enumerate():
        while thread is not threading.main_thread() and thread.is_alive():
            thread.join(0.05)
            now = time.monotonic()
            if hurry.is_set() and (now - Request.moved_at > STILL_S or now - ended_at > LAST_S):
                return


def begin_to_tell(shared: dict[str, Any]) -> subprocess.Popen[str] | None:
    """Start ``orphan_process``, for other machines; without it they find out what the registry has."""
    command = [sys.executable, "-I", "-m", "registry_pipelines.transfer.blob.orphan_process"]
    with contextlib.suppress(OSError):
        orphan = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        assert orphan.stdin is not None  # noqa: S101 - a pipe was asked for
        orphan.stdin.write(json.dumps(shared) + "\n")
        orphan.stdin.flush()
        return orphan
    return None


def end_telling(orphan: subprocess.Popen[str], requests: list[Request]) -> None:
    """Give it the notes of the requests that were answered."""
    notes = []
    for each in requests:
        if each.order.get("noted"):
            path = Path(each.order["note"])
            notes.append({"upload": path.stem, **json.loads(path.read_text(encoding="utf-8"))})
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        orphan.communicate(json.dumps(notes) + "\n", timeout=TELLING_S)


def main() -> None:
    """Serve until stdin ends; then finish what is under way."""
    memory = memoryview(mmap.mmap(int(sys.argv[1]), 0, prot=mmap.PROT_READ))
    lock = Path(sys.argv[2]).open("a")  # noqa: SIM115 - held for life
    fcntl.flock(lock, fcntl.LOCK_EX)
    hurry = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: hurry.set())
    answers, gate, connections = sys.stdout.buffer, threading.Lock(), Connections()
    requests: dict[int, Request] = {}
    begun: list[Request] = []
    shared: dict[str, Any] = {}

    def say(frame: dict[str, Any]) -> None:
        content = json.dumps(frame).encode()
        with gate, contextlib.suppress(OSError):  # without a parent the note says it all
            answers.write(struct.pack(">I", len(content)) + content)
            answers.flush()

    say({})
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        if "shared" in frame:
            shared = frame["shared"]
        elif "head" in frame:
            requests[frame["id"]] = Request(frame, memory, connections, say)
            begun = [*(each for each in begun if each.thread.is_alive()), requests[frame["id"]]]
        elif "end" in frame:
            requests.pop(frame["id"]).pieces.put(None)
        else:
            requests[frame["id"]].pieces.put((frame["start"], frame["size"]))
    for request in requests.values():
        request.pieces.put(None)
    left = [each for each in begun if each.thread.is_alive()]
    orphan = begin_to_tell(shared) if shared and left else None
    finish(hurry)
    if orphan:
        end_telling(orphan, left)
    os._exit(0)  # stdout may be a broken pipe


if __name__ == "__main__":
    main()
