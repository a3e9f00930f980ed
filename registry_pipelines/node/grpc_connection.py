"""A client's connection to a server of gRPC: requests of one message, answers of any number. HTTP/2 is h2's.

One thread reads and answers. Others wait beside it, each woken by the kernel for what comes while all before it are
busy, and for nothing else: a call costs the threads of this process one wake, where grpcio's server takes five, and
nobody else asks for the interpreter meanwhile.

Rules: ``doc/PROTOCOL-HTTP2.md`` of gRPC. What clients may leave out of it is left out: compression, trailers of
requests. Deadlines are the client's: it hears of its own.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

Call = Callable[[bytes], Iterable[bytes]]
"""From a request's message to those of its answer. Raises Failed."""

MAX_MESSAGE_BYTES = 4 << 20
"""Of a request."""
MAX_CALLS = 100
"""At once, and so many threads and one more: a call may wait for a registry. Clients of gRPC wait for a free one; the
connection of who does not is ended (by h2, which refuses no single call)."""
SPARE_THREADS = 4
"""That wait for the next request; of the others each ends with its call."""
UNKNOWN, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 2, 12, 13, 14
"""gRPC's numbers of errors."""
MAX_REASON_BYTES = 4000
_READ_BYTES = 1 << 16
_WINDOW = 16 << 20
"""What a client may send of a call, and of all together, before it hears more: more than a message has."""
_FIRST_WINDOW = 65535
_PREFIX = struct.Struct(">BI")

_Fields = list[tuple[bytes, bytes]]
_OK_HEAD: _Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK_TAIL: _Fields = [(b"grpc-status", b"0")]


class Failed(Exception):
    """A call that ends with an error. code: gRPC's number for it."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


class _Gone(Exception):
    """Nobody waits for an answer any more."""


class _Stream:
    """A call."""

    __slots__ = ("body", "cancelled", "number", "path", "whole")

    def __init__(self, number: int, path: bytes) -> None:
        self.number, self.path = number, path
        self.body, self.whole, self.cancelled = bytearray(), False, False


class Connection:
    """One client's, from :meth:`start` until either side ends it. ended: is told then."""

    def __init__(
        self,
        link: socket.socket,
        calls: Mapping[bytes, Call],
        log: Callable[[str], object],
        ended: Callable[[Connection], object] = lambda connection: None,
    ) -> None:
        """calls: by path. log: is told of what no call should raise."""
        self._link, self._calls, self._log, self._ended = link, calls, log, ended
        self._http = _http()
        self._state = threading.Condition()
        """Of what follows, of ``_http``, and of what is read and written."""
        self._streams: dict[int, _Stream] = {}
        self._whole = deque[_Stream]()
        """Calls whose requests are here, and that nobody answers yet."""
        self._threads, self._idle, self._leaving, self._over = 0, 0, False, False
        self._more = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Written to where a thread is to wake for what is here already."""
        self._poll = select.epoll()
        for each in (link.fileno(), self._more):
            self._poll.register(each, select.EPOLLIN | select.EPOLLET)  # of those who wait, one is woken

    def start(self) -> None:
        """Say what this side takes, and begin to read."""
        with self._state, suppress(OSError):  # who reads finds out
            self._http.initiate_connection()
            self._http.increment_flow_control_window(_WINDOW - _FIRST_WINDOW)
            self._flush()
        self._begin_thread()

    def leave(self, timeout_s: float) -> None:
        """Take no more calls, and end it once those are answered that are under way, at the latest then."""
        with self._state, suppress(OSError, ProtocolError):
            self._leaving = True
            self._state.wait_for(lambda: self._over or not self._streams, timeout_s)
            self._http.close_connection()
            self._flush()
        self.close()

    def close(self) -> None:
        """End it at once."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def _begin_thread(self) -> None:
        with self._state:
            self._threads += 1
        threading.Thread(target=self._work, name="snapshots", daemon=True).start()

    def _work(self) -> None:
        """In a thread: read and answer, one call after the other."""
        try:
            while (stream := self._next()) is not None:
                self._answer(stream)
        finally:
            with self._state:
                self._threads -= 1
                is_last = not self._threads
            if is_last:
                self._link.close()
                self._poll.close()
                os.close(self._more)

    def _next(self) -> _Stream | None:
        """The next call whose request is here; None where this thread is needed no more."""
        with self._state:
            if self._idle >= SPARE_THREADS:
                return None
            self._idle += 1
        while True:
            with self._state:
                stream = self._whole.popleft() if self._whole and not self._over else None
                if stream is not None or self._over:
                    self._idle -= 1
                    nobody_reads = not self._idle
                    if self._whole:
                        os.eventfd_write(self._more, 1)
                    break
            self._poll.poll()
            with self._state:
                goes_on = self._over or self._read()
            if not goes_on:
                self._end()
        if stream is not None and nobody_reads:
            self._begin_thread()
        return stream

    def _end(self) -> None:
        """Nobody asks any more."""
        with self._state:
            if self._over:
                return
            self._over = True
            self._state.notify_all()
            self._poll.modify(self._more, select.EPOLLIN)  # wakes all
            os.eventfd_write(self._more, 1)
        self.close()
        self._ended(self)

    def _read(self) -> bool:
        """Take what has come; hold the lock of the state. False: it is over."""
        with suppress(OSError, ProtocolError):
            while True:
                try:
                    raw = self._link.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                except BlockingIOError:  # another thread has it
                    return True
                if not raw:
                    break
                try:
                    for event in self._http.receive_data(raw):
                        self._take(event)
                finally:  # what the client is told of its error, too
                    self._flush()
                self._state.notify_all()  # there may be room for answers
                if len(raw) < _READ_BYTES:  # else there may be more, of which nobody is told again
                    return True
        return False

    def _take(self, event: Event) -> None:
        """What happened; hold the lock of the state."""
        if isinstance(event, RequestReceived):
            number = event.stream_id
            if self._leaving:
                self._http.reset_stream(number, ErrorCodes.REFUSED_STREAM)  # asked again, of who comes next
                return
            path = next((value for name, value in event.headers if name == b":path"), b"")
            self._streams[number] = _Stream(number, bytes(path))
        elif isinstance(event, DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if (stream := self._streams.get(event.stream_id)) is not None:
                stream.body += event.data
                if len(stream.body) > MAX_MESSAGE_BYTES + _PREFIX.size:
                    del self._streams[event.stream_id]
                    self._http.reset_stream(event.stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
        elif isinstance(event, StreamEnded):
            if (stream := self._streams.get(event.stream_id)) is not None and not stream.whole:
                stream.whole = True
                self._whole.append(stream)
        elif isinstance(event, StreamReset) and (stream := self._streams.get(event.stream_id)) is not None:
            stream.cancelled = True
            if not stream.whole:  # else who answers it takes it away
                del self._streams[event.stream_id]

    def _answer(self, stream: _Stream) -> None:
        """One call, to its end."""
        head: _Fields = _OK_HEAD
        before: bytes | None = None
        with suppress(_Gone):
            try:
                for message in self._called(stream):
                    if before is not None:
                        self._send(stream, head, before)
                        head = []
                    before = message
                tail = _OK_TAIL
            except Failed as error:
                tail = _failed_tail(error.code, str(error))
            except _Gone:
                raise
            except Exception as error:
                self._log(f"{stream.path.decode(errors='replace')}: {type(error).__name__}: {error}")
                tail = _failed_tail(UNKNOWN, f"{type(error).__name__}: {error}")
            self._send(stream, head, before, tail)
        with self._state:
            self._streams.pop(stream.number, None)
            self._state.notify_all()

    def _called(self, stream: _Stream) -> Iterable[bytes]:
        call = self._calls.get(stream.path)
        if call is None:
            raise Failed(UNIMPLEMENTED, f"there is no call {stream.path.decode(errors='replace')[:200]}")
        body = bytes(stream.body)
        if len(body) < _PREFIX.size or len(body) != _PREFIX.size + _PREFIX.unpack_from(body)[1]:
            raise Failed(INTERNAL, "the request is not one message")
        if body[0]:
            raise Failed(UNIMPLEMENTED, "the request is compressed")
        return call(body[_PREFIX.size :])

    def _send(self, stream: _Stream, head: _Fields, message: bytes | None, tail: _Fields | None = None) -> None:
        """The fields before an answer's first message, a message, and the fields behind the last; as soon as the client
        takes it. Raises _Gone."""
        with self._state:
            try:
                self._queue(stream, head, message, tail)
                self._flush()
            except (OSError, ProtocolError) as error:
                raise _Gone from error

    def _queue(self, stream: _Stream, head: _Fields, message: bytes | None, tail: _Fields | None) -> None:
        http, number = self._http, stream.number
        self._check(stream)
        if message is None and head and tail is not None:  # nothing but an end
            http.send_headers(number, [*head, *tail], end_stream=True)
            return
        if head:
            http.send_headers(number, head)
        left = memoryview(_PREFIX.pack(0, len(message)) + message if message is not None else b"")
        while left:
            room = min(http.local_flow_control_window(number), http.max_outbound_frame_size, len(left))
            if room <= 0:
                self._flush()
                self._state.wait()
                self._check(stream)
                continue
            http.send_data(number, bytes(left[:room]))
            left = left[room:]
        if tail is not None:
            http.send_headers(number, tail, end_stream=True)

    def _check(self, stream: _Stream) -> None:
        if self._over or stream.cancelled:
            raise _Gone

    def _flush(self) -> None:
        """Write what h2 has ready; hold the lock of the state. Raises OSError."""
        if raw := self._http.data_to_send():
            self._link.sendall(raw)


def _http() -> H2Connection:
    """The server's side. Of a request's fields nothing but the path is used, so none is refused for its form."""
    told = H2Configuration(
        client_side=False,
        header_encoding=None,
        validate_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    found = H2Connection(told)
    ours = {SettingCodes.MAX_CONCURRENT_STREAMS: MAX_CALLS, SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW}
    found.local_settings = Settings(client=False, initial_values=ours)
    return found


def _failed_tail(code: int, what: str) -> _Fields:
    """Percent-encoded, as gRPC has it."""
    raw = what.encode(errors="replace")[:MAX_REASON_BYTES]
    said = b"".join(bytes((each,)) if 0x20 <= each < 0x7F and each != 0x25 else b"%%%02X" % each for each in raw)
    return [(b"grpc-status", b"%d" % code), (b"grpc-message", said)]


__all__ = ["INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN", "Call", "Connection", "Failed"]
