"""A folder of weights as a place that transfers read from: a blob is the file with that digest."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import cast

from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Place, Registry
from registry_pipelines.weights.hashing import Folder, Origin


def folder_place(folder: Path, read: Folder) -> Place:
    """The place; of the protocol it has what reads blobs. A file that is not as it was when it was hashed is an error,
    at its first byte or behind its last."""
    return Place(cast(Registry, _FolderBlobs(folder, read)), "")


class _FolderBlobs:
    """Implements the reading part of Registry."""

    def __init__(self, folder: Path, read: Folder) -> None:
        self.name = str(folder)
        self._origins = {file.digest: read.origins[file.path] for file in read.weights.files}

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        if digest not in self._origins:
            raise NotFound(f"no file has the digest {digest}", where=self.name)
        return _FileReader(self._origins[digest], start, stop)

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        return Capabilities(range_reads=True)


class _FileReader:
    """Implements BlobReader."""

    def __init__(self, origin: Origin, start: int, stop: int | None) -> None:
        self._origin, self.start, self._position = origin, start, start
        self._stop = origin.identity.size if stop is None else min(stop, origin.identity.size)
        with local_errors(origin.path):
            self._file: int | None = os.open(origin.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            origin.check(os.fstat(self._file))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int | None:
        """See BlobReader."""
        return self._origin.identity.size

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        wanted = min(len(buffer), self._stop - self._position)
        if wanted <= 0 or self._file is None:
            return 0
        with local_errors(self._origin.path):
            count = os.preadv(self._file, [buffer[:wanted]], self._position)
            if count < wanted or self._position + count == self._stop:
                self._origin.check(os.fstat(self._file))
        self._position += count
        return count

    def close(self) -> None:
        """See BlobReader."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["folder_place"]
