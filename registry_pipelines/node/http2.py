"""A connection of HTTP/2, from the side of a server of gRPC: requests of one message, answers of any number.

One thread reads and answers, without handing over to another: what it read while nobody else waits to read is left to
the next one first. So a call costs the threads of this process one wake, where a server with queues takes five.

Rules: RFC 9113 (HTTP/2); ``doc/PROTOCOL-HTTP2.md`` of gRPC. What clients may leave out of it is left out: priorities,
server push, compression, trailers of requests. Deadlines are the client's: it hears of its own.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from registry_pipelines.node.header_fields import FieldsInvalid, FieldsReader

Call = Callable[[bytes], Iterable[bytes]]
"""From a request's message to those of its answer. Raises Failed."""

MAX_MESSAGE_BYTES = 4 << 20
"""Of a request."""
MAX_CALLS = 100
"""At once, and so many threads and one more: a call may wait for a registry."""
SPARE_THREADS = 4
"""That wait for the next request; of the others each ends with its call."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES, _MAX_FRAME = 9, 16384
_MAX_BLOCK_BYTES = 64 << 10
_WINDOW = 16 << 20
"""What a client may send of a call, and of all together, before it hears more: more than a message has."""
_FIRST_WINDOW = 65535
_MAX_WINDOW = (1 << 31) - 1
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _MORE_WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _WITH_PRIORITY = 1, 1, 4, 8, 32
_SET_STREAMS, _SET_WINDOW, _SET_FRAME = 3, 4, 5
_PROTOCOL, _FLOW, _FRAME_SIZE, _REFUSED, _COMPRESSION, _CALM = 1, 3, 6, 7, 9, 11
UNKNOWN, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 2, 12, 13, 14
"""gRPC's numbers of errors."""
MAX_REASON_BYTES = 4000
_NO_BLOCK = (0, 0, b"")
"""No block of fields is under way."""
_PREFIX = struct.Struct(">BI")
_SETTING = struct.Struct(">HI")
_WORD = struct.Struct(">I")


class Failed(Exception):
    """A call that ends with an error. code: gRPC's number for it."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


class _Broken(Exception):
    """The peer breaks the rules: the connection ends. code: HTTP/2's number for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Gone(Exception):
    """Nobody waits for an answer any more."""


class _Stream:
    """A call."""

    __slots__ = ("body", "cancelled", "number", "path", "whole", "window")

    def __init__(self, number: int, path: bytes, window: int) -> None:
        self.number, self.path, self.window = number, path, window
        self.body, self.whole, self.cancelled = bytearray(), False, False


def _frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + _WORD.pack(number) + content


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that no table has, as HPACK writes it; both texts shorter than 127 bytes or the value with a length."""
    length = bytes((len(value),)) if len(value) < 127 else b"\x7f" + _rest(len(value) - 127)
    return b"\x00" + bytes((len(name),)) + name + length + value


def _rest(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_OK_HEAD = b"\x88" + _literal(b"content-type", b"application/grpc")  # 0x88: :status 200
_OK_TAIL = _literal(b"grpc-status", b"0")


def _failed_tail(code: int, what: str) -> bytes:
    """Percent-encoded, as gRPC has it."""
    raw = what.encode(errors="replace")[:MAX_REASON_BYTES]
    said = b"".join(bytes((each,)) if 0x20 <= each < 0x7F and each != 0x25 else b"%%%02X" % each for each in raw)
    return _literal(b"grpc-status", b"%d" % code) + _literal(b"grpc-message", said)


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
        self._source = link.makefile("rb", buffering=1 << 16)
        self._fields, self._begun = FieldsReader(), False
        self._reading = threading.Lock()
        self._state = threading.Condition()
        """Of what follows, and of what is written."""
        self._streams: dict[int, _Stream] = {}
        self._last, self._block = 0, _NO_BLOCK
        self._window = self._stream_window = _FIRST_WINDOW
        self._most_frame, self._taken = _MAX_FRAME, 0
        self._idle, self._over = 0, False

    def start(self) -> None:
        """Say what this side takes, and begin to read."""
        settings = _SETTING.pack(_SET_STREAMS, MAX_CALLS) + _SETTING.pack(_SET_WINDOW, _WINDOW)
        more = _frame(_MORE_WINDOW, 0, 0, _WORD.pack(_WINDOW - _FIRST_WINDOW))
        with suppress(OSError):  # who reads finds out
            self._write(_frame(_SETTINGS, 0, 0, settings) + more)
        self._begin_thread()

    def leave(self, timeout_s: float) -> None:
        """Take no more calls, and end it once those are answered that are under way, at the latest then."""
        with self._state, suppress(OSError):
            self._goaway(0)
            self._state.wait_for(lambda: self._over or not self._streams, timeout_s)
        self.close()

    def close(self) -> None:
        """End it at once."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def _begin_thread(self) -> None:
        threading.Thread(target=self._work, name="snapshots", daemon=True).start()

    def _work(self) -> None:
        """In a thread: read and answer, one call after the other."""
        while not self._over:
            with self._state:
                if self._idle >= SPARE_THREADS:
                    return
                self._idle += 1
            with self._reading:
                stream = self._next_or_end()
            with self._state:
                self._idle -= 1
                nobody_reads = not self._idle
            if stream is None:
                return
            if nobody_reads:
                self._begin_thread()
            self._answer(stream)

    def _next_or_end(self) -> _Stream | None:
        """The next call whose request is here; None at the end of the connection, once. Hold the lock of reading."""
        if self._over:
            return None
        try:
            stream = self._next()
        except _Broken as broken:
            stream = None
            with self._state, suppress(OSError):
                self._goaway(broken.code)
        except (OSError, ValueError):
            stream = None
        if stream is None:
            with self._state:
                self._over = True
                self._state.notify_all()
            self.close()
            self._source.close()
            self._link.close()
            self._ended(self)
        return stream

    def _next(self) -> _Stream | None:
        if not self._begun:
            self._begun = True
            if self._source.read(len(_PREFACE)) != _PREFACE:
                return None
        while len(head := self._source.read(_HEAD_BYTES)) == _HEAD_BYTES:
            size, number = int.from_bytes(head[:3], "big"), int.from_bytes(head[5:], "big") & _MAX_WINDOW
            if size > _MAX_FRAME:
                raise _Broken(_FRAME_SIZE)
            content = self._source.read(size)
            if len(content) < size:
                return None
            if (stream := self._take(head[3], head[4], number, content)) is not None:
                stream.whole = True
                return stream
        return None

    def _take(self, kind: int, flags: int, number: int, content: bytes) -> _Stream | None:
        """A frame; the call that is whole with it. Raises _Broken, OSError."""
        if (self._block is not _NO_BLOCK) != (kind == _CONTINUATION):
            raise _Broken(_PROTOCOL)
        if kind == _DATA:
            return self._take_data(flags, number, content)
        if kind == _HEADERS:
            body = _without_padding(flags, content)
            body = body[5:] if flags & _WITH_PRIORITY else body
            return self._take_fields(flags, number, body, flags)
        if kind == _CONTINUATION:
            first_flags, first_number, start = self._block
            if number != first_number or len(start) + len(content) > _MAX_BLOCK_BYTES:
                raise _Broken(_PROTOCOL)
            return self._take_fields(flags, number, start + content, first_flags)
        if kind == _SETTINGS and not flags & _ACK:
            self._take_settings(content)
        elif kind == _PING and not flags & _ACK:
            if len(content) != 8:
                raise _Broken(_FRAME_SIZE)
            self._write(_frame(_PING, _ACK, 0, content))
        elif kind == _MORE_WINDOW:
            self._take_window(number, content)
        elif kind == _RESET:
            with self._state:
                if (stream := self._streams.get(number)) is not None:
                    stream.cancelled = True
                    self._state.notify_all()
                    if not stream.whole:  # else who answers it takes it away
                        del self._streams[number]
        return None

    def _take_data(self, flags: int, number: int, content: bytes) -> _Stream | None:
        self._taken += len(content)
        if self._taken > _WINDOW // 2:
            self._write(_frame(_MORE_WINDOW, 0, 0, _WORD.pack(self._taken)))
            self._taken = 0
        body = _without_padding(flags, content)
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last or not number:
                raise _Broken(_PROTOCOL)
            return None  # of a call that was refused or is over
        stream.body += body
        if len(stream.body) > MAX_MESSAGE_BYTES + _PREFIX.size:
            self._forget(stream, _CALM)
            return None
        return stream if flags & _END_STREAM and not stream.whole else None

    def _take_fields(self, flags: int, number: int, block: bytes, first_flags: int) -> _Stream | None:
        if not flags & _END_HEADERS:
            self._block = first_flags, number, block
            return None
        self._block = _NO_BLOCK
        try:
            fields = self._fields.read(block)
        except FieldsInvalid as error:
            raise _Broken(_COMPRESSION) from error
        known = self._streams.get(number)
        if known is not None or number <= self._last:
            return known if first_flags & _END_STREAM and known is not None and not known.whole else None
        if not number & 1:
            raise _Broken(_PROTOCOL)
        self._last = number
        with self._state:
            if len(self._streams) >= MAX_CALLS:
                self._link.sendall(_frame(_RESET, 0, number, _WORD.pack(_REFUSED)))
                return None
            path = next((value for name, value in fields if name == b":path"), b"")
            stream = self._streams[number] = _Stream(number, path, self._stream_window)
        return stream if first_flags & _END_STREAM else None

    def _take_settings(self, content: bytes) -> None:
        if len(content) % _SETTING.size:
            raise _Broken(_FRAME_SIZE)
        with self._state:
            for kind, value in _SETTING.iter_unpack(content):
                if kind == _SET_WINDOW:
                    if value > _MAX_WINDOW:
                        raise _Broken(_FLOW)
                    for stream in self._streams.values():
                        stream.window += value - self._stream_window
                    self._stream_window = value
                elif kind == _SET_FRAME:
                    self._most_frame = min(max(value, _MAX_FRAME), 1 << 20)
            self._state.notify_all()
            self._link.sendall(_frame(_SETTINGS, _ACK, 0, b""))

    def _take_window(self, number: int, content: bytes) -> None:
        if len(content) != 4:
            raise _Broken(_FRAME_SIZE)
        more = int.from_bytes(content, "big") & _MAX_WINDOW
        with self._state:
            if not number:
                self._window += more
            elif (stream := self._streams.get(number)) is not None:
                stream.window += more
            self._state.notify_all()

    def _answer(self, stream: _Stream) -> None:
        """One call, to its end."""
        head = _frame(_HEADERS, _END_HEADERS, stream.number, _OK_HEAD)
        before: bytes | None = None
        try:
            try:
                for message in self._called(stream):
                    if before is not None:
                        self._send(stream, head, before, b"")
                        head = b""
                    before = message
                tail = _OK_TAIL
            except Failed as error:
                tail = _failed_tail(error.code, str(error))
                head, tail = (b"", _OK_HEAD + tail) if head and before is None else (head, tail)
            except _Gone:
                raise
            except Exception as error:
                self._log(f"{stream.path.decode(errors='replace')}: {type(error).__name__}: {error}")
                tail = _failed_tail(UNKNOWN, f"{type(error).__name__}: {error}")
                head, tail = (b"", _OK_HEAD + tail) if head and before is None else (head, tail)
            end = _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream.number, tail)
            self._send(stream, head, before, end)
        except _Gone:
            pass
        finally:
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

    def _send(self, stream: _Stream, head: bytes, message: bytes | None, tail: bytes) -> None:
        """What goes before a message, the message, and what comes behind it; as soon as the client takes it. Raises
        _Gone."""
        try:
            self._send_all(stream, head, message, tail)
        except OSError as error:
            raise _Gone from error

    def _send_all(self, stream: _Stream, head: bytes, message: bytes | None, tail: bytes) -> None:
        ready = [head]
        left = memoryview(_PREFIX.pack(0, len(message)) + message if message is not None else b"")
        with self._state:
            while left:
                room = min(self._window, stream.window, self._most_frame, len(left))
                if self._over or stream.cancelled:
                    raise _Gone
                if room <= 0:
                    self._link.sendall(b"".join(ready))
                    ready = []
                    self._state.wait()
                    continue
                ready.append(_frame(_DATA, 0, stream.number, bytes(left[:room])))
                self._window -= room
                stream.window -= room
                left = left[room:]
            if self._over or stream.cancelled:
                raise _Gone
            self._link.sendall(b"".join((*ready, tail)))

    def _forget(self, stream: _Stream, code: int) -> None:
        with self._state:
            self._streams.pop(stream.number, None)
            self._link.sendall(_frame(_RESET, 0, stream.number, _WORD.pack(code)))

    def _goaway(self, code: int) -> None:
        self._link.sendall(_frame(_GOAWAY, 0, 0, _WORD.pack(self._last) + _WORD.pack(code)))

    def _write(self, raw: bytes) -> None:
        with self._state:
            self._link.sendall(raw)


def _without_padding(flags: int, content: bytes) -> bytes:
    if not flags & _PADDED:
        return content
    if not content or content[0] >= len(content):
        raise _Broken(_PROTOCOL)
    return content[1 : len(content) - content[0]]


__all__ = ["INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN", "Call", "Connection", "Failed"]
