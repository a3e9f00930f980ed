"""An open blob over HTTP, and the check that the registry gave the range that was asked for."""

from __future__ import annotations

import re
from types import TracebackType

import msgspec

from registry_pipelines.errors import RegistryError, Unavailable
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.protocol import BUFFER_BYTES

_CONTENT_RANGE = re.compile(r"bytes[ \t=]+(?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)\Z", re.IGNORECASE)


class ContentRange(msgspec.Struct, frozen=True):
    """``Content-Range`` (RFC 9110 section 14.4). stop: behind the last byte. size: of the whole, None for ``*``."""

    start: int
    stop: int
    size: int | None


class HttpBlobReader:
    """See BlobReader. size: bytes of the whole blob, None when the registry does not say; start: first byte given;
    stop: behind the last one, None for the end. Content is not verified here."""

    def __init__(
        self, response: Response, *, size: int | None, start: int, stop: int | None, skip: int = 0, where: str = ""
    ) -> None:
        self.size = size
        self.start = start
        self._response = response
        self._left = None if stop is None else stop - start
        self._where = where
        self._skip = skip

    def __enter__(self) -> HttpBlobReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer; 0 at the end. Raises Unavailable when the body ends early, Stalled."""
        if self._skip:
            self._discard()
        if self._left is None:
            return self._response.readinto(buffer)
        if len(buffer) > self._left:
            buffer = buffer[: self._left]
        if not len(buffer):
            return 0
        count = self._response.readinto(buffer)
        self._left -= count
        if not count:
            raise Unavailable(
                f"the content ended {self._left} bytes early", where=self._where, do="Try again from there"
            )
        return count

    def close(self) -> None:
        """Free the connection; safe to call twice."""
        self._response.close()

    def _discard(self) -> None:
        """Pass over what a registry without ranges sent before the first byte that was asked for."""
        buffer = memoryview(bytearray(min(BUFFER_BYTES, self._skip)))
        while self._skip:
            count = self._response.readinto(buffer[: self._skip])
            if not count:
                raise Unavailable("the content ended before the range", where=self._where, do="Try again")
            self._skip -= count


def range_header(start: int, stop: int | None) -> dict[str, str]:
    """The ``Range`` header for bytes ``start`` up to ``stop``; none for the whole."""
    if stop is not None:
        return {"Range": f"bytes={start}-{stop - 1}"}
    return {"Range": f"bytes={start}-"} if start else {}


def read_content_range(response: Response) -> ContentRange | None:
    """The range an answer gives; None without one, or one that cannot be read. ``bytes */7`` is an empty one."""
    match = _CONTENT_RANGE.match(response.header("Content-Range"))
    if not match:
        return None
    size = None if match[3] == "*" else int(match[3])
    return ContentRange(int(match[1]), int(match[2]) + 1, size) if match[1] else ContentRange(0, 0, size)


def make_reader(response: Response, *, start: int, stop: int | None, where: str) -> HttpBlobReader:
    """A reader over an answer 200 or 206. Raises RegistryError when another range came than was asked for."""
    given = read_content_range(response)
    part = response.length is not None and given is not None and response.length == given.stop - given.start
    if response.status == 206 or (part and given is not None and given.size != response.length):
        # Some caches answer a range with 200 and a Content-Range: the body is the part then.
        return _part(response, given, start=start, stop=stop, where=where)
    size = response.length
    end = stop if size is None else _end(start, stop, size, where)
    return HttpBlobReader(response, size=size, start=start, stop=end, skip=start, where=where)


def _part(
    response: Response, given: ContentRange | None, *, start: int, stop: int | None, where: str
) -> HttpBlobReader:
    if response.header("Content-Type").lower().startswith("multipart/"):
        raise RegistryError("the registry answered one range with several (multipart/byteranges)", where=where)
    if given is None:
        said = response.header("Content-Range")[:60]
        raise RegistryError(f"the registry answered a range with Content-Range {said!r}", where=where)
    end = given.stop if given.size is None else _end(start, stop, given.size, where)
    short = given.size is None and stop is not None and given.stop > stop
    if given.start != start or given.stop != end or short or response.length not in (None, end - start):
        asked = f"{start}-{'' if stop is None else stop - 1}"
        raise RegistryError(f"asked for bytes {asked}, the registry gave {given.start}-{given.stop - 1}", where=where)
    return HttpBlobReader(response, size=given.size, start=start, stop=end, where=where)


def _end(start: int, stop: int | None, size: int, where: str) -> int:
    end = size if stop is None else min(stop, size)
    if start > end:
        raise RegistryError(f"byte {start} is behind the end of the blob ({size} bytes)", where=where, status=416)
    return end
