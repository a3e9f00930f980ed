"""An answer whose body is read once, straight into the caller's buffer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from registry_pipelines.errors import RegistryPipelinesError, Unavailable
from registry_pipelines.registry.client.translate import MAX_ERROR_BODY_BYTES, NETWORK_ERRORS, raise_translated
from registry_pipelines.registry.client.wire import Answer
from registry_pipelines.waits import Wait, host_of


class Response:
    """An answer; its body is read once, from the front. Always closed by whoever asked (a context manager).

    url: what was asked; Location and Link are relative to it. peer: the address that answered, empty behind a proxy.
    length: bytes of the body, None when the registry did not say. release: called once, with whether the connection can
    serve again.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        url: str,
        where: str,
        reusable: bool,
        peer: str,
        release: Callable[[bool], None],
    ) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.url = url
        self.peer = peer
        self.length = answer.length
        self._answer = answer
        self._where = where
        self._release: Callable[[bool], None] | None = release
        self._reusable = reusable and not answer.will_close
        self._left = answer.length
        self._wait = Wait(host_of(where), "the rest of its answer")

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        """A header's value, empty when missing."""
        return self.headers.get(name)

    def readinto(self, buffer: memoryview, until: float = math.inf) -> int:
        """Fill the buffer; 0 at the end. until: of the monotonic clock; what has come by then is enough. Raises
        Unavailable when the body ends before its announced length."""
        if not len(buffer):
            return 0
        try:
            with self._wait:
                count = self._answer.readinto(buffer, until)
        except NETWORK_ERRORS as error:
            self._end(keep=False)
            raise_translated(error, where=self._where, doing="reading content")
        if self._left is not None:
            self._left -= count
            if not count and self._left > 0:
                self._end(keep=False)
                raise Unavailable(
                    f"the connection broke while reading content, {self._left} bytes before its end",
                    where=self._where,
                    do="Try again",
                )
        return count

    def read(self, limit: int) -> bytes | None:
        """The rest of the body; None when it is longer than ``limit`` bytes (the rest is then not read)."""
        if self._left is not None and self._left > limit:
            return None
        content = bytearray()
        buffer = memoryview(bytearray(min(limit + 1, 64 * 1024)))
        while count := self.readinto(buffer):
            content += buffer[:count]
            if len(content) > limit:
                return None
        return bytes(content)

    def close(self) -> None:
        """Keep the connection when the body was read to its end, or is short; else drop it. Safe to call twice."""
        if self._release is None:
            return
        if self._reusable and not self._answer.ended:
            self._drain()
        self._end(keep=self._reusable and self._answer.clean)

    def _drain(self) -> None:
        """Read what little is left, so that the connection can serve again."""
        if self._left is None or self._left > MAX_ERROR_BODY_BYTES:
            return
        buffer = memoryview(bytearray(self._left + 1))
        with contextlib.suppress(RegistryPipelinesError):
            while self.readinto(buffer):
                pass

    def _end(self, *, keep: bool) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(keep)
