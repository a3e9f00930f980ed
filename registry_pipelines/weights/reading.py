"""Read the files of a set in a registry: in parts over several connections, each file held against its digest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

from registry_pipelines.errors import DigestMismatch, LocalError
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.blob.window import PartWindow
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.flow.health import left_to_us
from registry_pipelines.transfer.state import State

FILES_AT_ONCE = 8
"""Files read at once. Memory for parts is shared by all of them, and small files wait for round trips."""


class ReadStopped(LocalError):
    """Another file failed; its error is the one to be told."""


class Reading:
    """Reads blobs of one place, with an open state. Safe for many threads."""

    def __init__(self, state: State, place: Place, engine: Engine) -> None:
        self.place = left_to_us(engine.place(place))
        self._tools: BlobTools = state.blob_tools()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End what is under way at its next part with ReadStopped."""
        self._stopped.set()

    def parts(self, descriptor: Descriptor, *, start: int = 0) -> Iterator[memoryview]:
        """The bytes of a blob from ``start`` on, in order, in pieces of at most 8 MiB, each good until the next is
        asked for. Not held against the digest: whoever takes them does that. Raises NotFound, Unavailable,
        ContentError (another length), ReadStopped."""
        began = self._tools.health.admit(self.place, "read")
        window = PartWindow(
            self.place,
            descriptor,
            self._tools.memory,
            start=start,
            connections=self._tools.connections,
            patience=self._tools.health.reading(self.place, began),
        )
        with closing(window):
            for part in window:
                try:
                    if self._stopped.is_set():
                        raise ReadStopped("another file failed", where=str(self.place), do="Its error says what to do")
                    yield part.view
                finally:
                    part.release()


def wrong_content(place: Place, descriptor: Descriptor, path: str, actual: str) -> DigestMismatch:
    """The error about a file of which the registry gave other bytes."""
    return DigestMismatch(
        f"{path} hashes to {descriptor.digest.algorithm}:{actual}, expected {descriptor.digest}",
        where=str(place),
        do="It is damaged there, or was replaced; push the weights again",
    )


__all__ = ["FILES_AT_ONCE", "ReadStopped", "Reading", "wrong_content"]
