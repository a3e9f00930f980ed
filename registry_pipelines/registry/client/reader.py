"""An open blob over HTTP, and the check that the registry gave the range that was asked for."""

from __future__ import annotations

import re
from types import TracebackType

from registry_pipelines.errors import RegistryError, Unavailable
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.interface import BUFFER_BYTES

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.IGNORECASE)


class HttpBlobReader:
    """See BlobReader. size: bytes of the whole blob; start: first byte given. Content is not verified here."""

    def __init__(self, response: Response, *, size: int, start: int, stop: int, skip: int = 0, where: str = "") -> None:
        self.size = size
        self.start = start
        self._response = response
        self._left = stop - start
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


def make_reader(response: Response, *, start: int, stop: int | None, where: str) -> HttpBlobReader:
    """A reader over an answer 200 or 206. Raises RegistryError when another range came than was asked for."""
    if response.status != 206:
        if response.length is None:
            raise RegistryError("the registry does not say how long the blob is", where=where)
        size = response.length
        return HttpBlobReader(
            response, size=size, start=start, stop=_end(start, stop, size, where), skip=start, where=where
        )
    match = _CONTENT_RANGE.match(response.header("Content-Range"))
    if not match or match[3] == "*":
        raise RegistryError(
            f"the registry answered a range with Content-Range {response.header('Content-Range')[:60]!r}", where=where
        )
    first, last, size = int(match[1]), int(match[2]), int(match[3])
    end = _end(start, stop, size, where)
    if first != start or last + 1 != end or response.length not in (None, last + 1 - first):
        raise RegistryError(f"asked for bytes {start}-{end - 1}, the registry gave {first}-{last}", where=where)
    return HttpBlobReader(response, size=size, start=start, stop=end, where=where)


def _end(start: int, stop: int | None, size: int, where: str) -> int:
    end = size if stop is None else min(stop, size)
    if start > end:
        raise RegistryError(f"byte {start} is behind the end of the blob ({size} bytes)", where=where, status=416)
    return end
