"""HTTP/1.1 as bytes: heads of requests written, answers read (RFC 9112). One socket, no policy.

``http.client`` reads each header with the parser for e-mail: a quarter of all processor time of a copy of many small
images, and a tenth of a start to load. What is wrong with an answer has the names that it has there.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

MAX_HEAD_BYTES = 64 * 1024
"""Of an answer's head. Signed addresses in a Location take up to 8 KiB; servers stop at 8 to 32 KiB themselves."""

MAX_HEADERS = 100
"""Registries send about fifteen, object stores behind a CDN forty."""

MAX_INTERIM = 10
"""Answers 1xx before the final one (RFC 9110 section 15.2); one or two are seen."""

MAX_LINE_BYTES = 4 * 1024
"""Of a chunk's size line, with extensions, and of each trailer."""

MAX_TRAILERS = 100

RECEIVE_BYTES = 16 * 1024
"""Asked for while a head is read; what comes behind it is the body's beginning."""

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_BEGIN = b"HTTP/1."
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: .*)?\Z", re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,18}\Z")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\Z", re.DOTALL)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_USUAL = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):(.*)$", re.MULTILINE)
"""A header line as almost all are: one search for all takes half of the time that a look at each line takes."""
_NO_TARGET = re.compile(r"[^\x21-\x7e]")
_NO_VALUE = re.compile(r"[\x00\r\n]")


class HTTPException(Exception):
    """What came, or was to be sent, is not HTTP."""


class InvalidURL(HTTPException):
    """No target of a request."""


class IncompleteRead(HTTPException):
    """The connection ended within an answer."""


class BadStatusLine(HTTPException):
    """Another protocol."""


class LineTooLong(HTTPException):
    """Nobody sends so much of a head or of a chunk's size."""


class Stream(Protocol):
    """A socket, or what was received elsewhere."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Some bytes; 0 at the end."""
        ...


class Headers:
    """Of an answer, in their order; names without regard to case."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._first = dict(reversed(pairs))

    def get(self, name: str) -> str:
        """The first value, empty when there is none."""
        return self._first.get(name.lower(), "")

    def get_all(self, name: str) -> list[str]:
        """Every value."""
        wanted = name.lower()
        if wanted not in self._first:  # most of what is asked for
            return []
        return [value for key, value in self._pairs if key == wanted]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Request line and headers with the empty line. Raises InvalidURL, ValueError (a header)."""
    if _NO_TARGET.search(target):
        raise InvalidURL("the target has a character that no URL has")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers.items():
        if _NO_VALUE.search(value):
            raise ValueError(f"header {name} has a line break")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


class Answer:
    """A response whose head was read; the body is read from the front.

    length: bytes of the body, None when the server did not say. will_close: whether the connection ends with it.
    """

    def __init__(self, stream: Stream, method: str) -> None:
        """Read the head. Raises what the stream raises, ConnectionError (it ended before a byte came), and
        HTTPException for what is not HTTP."""
        self._stream = stream
        self._ahead = bytearray()
        for _ in range(MAX_INTERIM):
            minor, self.status, self.headers = self._read_head()
            if self.status >= 200 or self.status == 101:
                break
        else:
            raise HTTPException(f"more than {MAX_INTERIM} interim answers")
        coding = ",".join(self.headers.get_all("Transfer-Encoding")).lower()
        coding = "" if coding == "identity" else coding  # RFC 2616 section 3.6, which some servers still follow
        bare = method == "HEAD" or self.status in (101, 204, 304) or (method == "CONNECT" and self.status < 300)
        self._chunked = bool(coding) and not bare
        self._in_chunks = False
        if self._chunked and coding != "chunked":
            raise HTTPException("an unknown transfer coding")
        self.length = 0 if bare else None if self._chunked else self._content_length()
        self._left = self.length if not self._chunked else 0
        self._ended = self.length == 0
        named = {word.strip() for value in self.headers.get_all("Connection") for word in value.lower().split(",")}
        endless = (self.length is None and not self._chunked) or self.status == 101
        # Of two lengths the chunks count, but who says both cannot be trusted about where the next answer begins (RFC
        # 9112 section 6.3).
        unclear = self._chunked and (minor == 0 or bool(self.headers.get("Content-Length")))
        self.will_close = endless or unclear or "close" in named or (minor == 0 and "keep-alive" not in named)

    @property
    def ended(self) -> bool:
        """Whether the body was read to its end."""
        return self._ended

    @property
    def clean(self) -> bool:
        """Whether nothing came behind the body that nobody asked for."""
        return self._ended and not self._ahead

    def readinto(self, buffer: memoryview, until: float = math.inf) -> int:
        """Fill the buffer, less only at the body's end and after ``until`` (of the monotonic clock); 0 is the end, or
        the connection's. Raises what the stream raises, and HTTPException for a broken chunk."""
        done = 0
        while done < len(buffer) and not self._ended:
            count = self._some(buffer[done:])
            if not count:
                break
            done += count
            if until < math.inf and time.monotonic() > until:
                break
        return done

    def _some(self, buffer: memoryview) -> int:
        if self._chunked and not self._left:
            self._begin_chunk()
            if self._ended:
                return 0
        if self._left is not None:
            buffer = buffer[: self._left]
        count = self._receive(buffer)
        if not count:
            self._ended = self._left is None
            if self._chunked:
                raise IncompleteRead("the connection ended")
            return 0
        if self._left is not None:
            self._left -= count
            self._ended = not self._left and not self._chunked
        return count

    def _receive(self, buffer: memoryview) -> int:
        if not self._ahead:
            return self._stream.recv_into(buffer)
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        del self._ahead[:count]
        return count

    def _begin_chunk(self) -> None:
        if self._in_chunks and self._line():
            raise HTTPException("a chunk is longer than it says")
        self._in_chunks = True
        size = _CHUNK.match(self._line())
        if not size:
            raise HTTPException("the size of a chunk cannot be read")
        self._left = int(size[1], 16)
        if self._left:
            return
        for _ in range(MAX_TRAILERS):
            if not self._line():
                self._ended = True
                return
        raise HTTPException(f"more than {MAX_TRAILERS} trailers")

    def _line(self) -> bytes:
        """The next line, without its end."""
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > MAX_LINE_BYTES:
                raise LineTooLong("chunk")
            if not self._more():
                raise IncompleteRead("the connection ended")
        line = bytes(self._ahead[:end]).removesuffix(b"\r")
        del self._ahead[: end + 1]
        return line

    def _more(self) -> int:
        piece = bytearray(RECEIVE_BYTES)
        count = self._stream.recv_into(memoryview(piece))
        self._ahead += piece[:count]
        return count

    def _read_head(self) -> tuple[int, int, Headers]:
        searched = 0
        while not (end := _HEAD_END.search(self._ahead, searched)):
            # At once: who speaks another protocol waits for us, or has closed, and would look like a broken connection.
            if not (_BEGIN.startswith(self._ahead) or self._ahead.startswith(_BEGIN)):
                raise BadStatusLine("no status line")
            searched = max(0, len(self._ahead) - 3)
            if len(self._ahead) > MAX_HEAD_BYTES:
                raise LineTooLong("head of an answer")
            if not self._more():
                if not self._ahead:
                    raise ConnectionResetError("the connection was closed without an answer")
                raise IncompleteRead("the connection ended")
        if end.end() > MAX_HEAD_BYTES:
            raise LineTooLong("head of an answer")
        raw = bytes(self._ahead[: end.start()])
        del self._ahead[: end.end()]
        first, _, rest = raw.partition(b"\n")
        status = _STATUS.match(first.removesuffix(b"\r"))
        if not status:
            raise BadStatusLine("no status line")
        return int(status[1]), int(status[2]), Headers(_pairs(rest))

    def _content_length(self) -> int | None:
        values = {part.strip() for value in self.headers.get_all("Content-Length") for part in value.split(",")}
        if not values:
            return None
        [value] = values if len(values) == 1 else [""]
        if not _LENGTH.match(value):
            raise HTTPException("a Content-Length that is not one number")
        return int(value)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    """Names in lower case, values without the space around them; a folded line belongs to the one before (RFC 9112
    section 5.2)."""
    text = raw.decode("latin-1")
    lines = text.count("\n") + 1
    if lines > MAX_HEADERS:
        raise HTTPException(f"more than {MAX_HEADERS} headers")
    usual = _USUAL.findall(text)
    if len(usual) == lines:
        return [(name.lower(), value.strip(" \t\r")) for name, value in usual]
    fields: list[tuple[str, str]] = []
    for line in text.split("\n"):
        key, colon, content = line.partition(":")
        if colon and _NAME.match(key):
            fields.append((key.lower(), content.strip(" \t\r")))
        elif line[:1] in (" ", "\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.strip()}")
        elif line.strip("\r"):
            raise HTTPException("a header line without a name and a colon")
    return fields
