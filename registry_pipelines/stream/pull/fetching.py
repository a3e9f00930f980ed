"""The layers of an image on their way to this machine: several at once, the largest first, each over one connection, or
over several where that brings more, in a memory that does not grow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from types import TracebackType

from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES, Part, PartMemory
from registry_pipelines.transfer.blob.window import CONNECTIONS, PartWindow

LAYERS_AT_ONCE = 3
"""As Docker and containerd have it. More would wait for each other: two keep the processor busy."""

MEMORY_BYTES = 8 * PART_BYTES
"""For all parts that are fetched ahead."""


class BlobFlow:
    """One blob as it comes, in order; a context manager that frees its connections. Implements Readable. Not verified.

    stopped: when it is set, who reads gets CancelledError. Raises NotFound, Unavailable when the patience is over,
    ContentError.
    """

    def __init__(
        self,
        place: Place,
        blob: Descriptor,
        memory: PartMemory,
        progress: Progress,
        task: str,
        stopped: threading.Event,
        *,
        connections: int = CONNECTIONS,
    ) -> None:
        self._window = PartWindow(place, blob, memory, connections=connections, group=blob.digest)
        self._parts = iter(self._window)
        self._part: Part | None = None
        self._left = memoryview(b"")
        self._progress, self._task, self._stopped = progress, task, stopped
        self.byte_count = 0
        """How many were read."""

    def __enter__(self) -> BlobFlow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the connections; safe to call twice."""
        self._let_go()
        self._window.close()

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        piece = self.next_piece(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def next_piece(self, most: int) -> memoryview:
        """The next bytes without a copy, until more are asked for; none at the end."""
        if not self._left and not self._next_part():
            return self._left
        piece, self._left = self._left[:most], self._left[most:]
        self.byte_count += len(piece)
        self._progress.advance(self._task, len(piece))
        return piece

    def _next_part(self) -> bool:
        self._let_go()
        if self._stopped.is_set():
            raise CancelledError
        self._part = next(self._parts, None)
        if self._part is None:
            return False
        self._left = self._part.view
        return True

    def _let_go(self) -> None:
        self._left = memoryview(b"")
        part, self._part = self._part, None
        if part is not None:
            part.release()


OpenFlow = Callable[[Descriptor], BlobFlow]
"""Opens a blob of the image's place."""

__all__ = ["LAYERS_AT_ONCE", "MEMORY_BYTES", "BlobFlow", "OpenFlow"]
