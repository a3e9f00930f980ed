"""The blobs of an OCI layout folder: files named by their digests, and the private folder beside them.

A blob that is on its way out is *set aside* first: renamed into the private folder, where every use still finds it and
brings it back. So garbage is collected without a lock (``registry/embedded/garbage.py``).
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors, sync_folder

PRIVATE_FOLDER = ".uploads"
"""Inside a layout: content that is not complete yet. Never read by other tools."""

_ASIDE = "aside-"
"""Before the digest, in the name of a blob that is set aside."""


def is_aside(name: str) -> bool:
    """Whether a file of the private folder is a blob that is set aside, by its name."""
    return name.startswith(_ASIDE)


class BlobFolder:
    """A folder with ``blobs/<algorithm>/<hex>``. Safe for many threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / PRIVATE_FOLDER

    def blob_path(self, digest: Digest) -> Path:
        """Where a blob is, or would be."""
        return self.folder / "blobs" / digest.algorithm / digest.hex

    def blob_size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None when it is not there."""
        try:
            return self.blob_path(digest).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open_blob(self, digest: Digest) -> BinaryIO:
        """A blob's file, unbuffered; the caller closes it. Raises FileNotFoundError, OSError."""
        try:
            return self.blob_path(digest).open("rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.bring_back(digest):
                raise FileNotFoundError(error.errno, error.strerror) from error
            return self.blob_path(digest).open("rb", buffering=0)

    def touch_blob(self, digest: Digest) -> bool:
        """Start the blob's grace time again (see ``collect_garbage``), also of one that is set aside; False when it is
        not there."""
        path = self.blob_path(digest)
        try:
            with suppress(PermissionError):
                os.utime(path)
            path.stat()  # again: set aside and removed in between, its time would have been set for nobody
        except (FileNotFoundError, NotADirectoryError):
            return self.bring_back(digest) and self.touch_blob(digest)
        return True

    def aside_path(self, digest: Digest) -> Path:
        """Where a blob is that is set aside: on its way out, and there for whoever uses it."""
        return self.private / f"{_ASIDE}{digest.algorithm}-{digest.hex}"

    def put_aside(self, digest: Digest) -> bool:
        """Set a blob aside; False when it is not there."""
        self._make_private()
        return _renamed(self.blob_path(digest), self.aside_path(digest))

    def bring_back(self, digest: Digest) -> bool:
        """Undo :meth:`put_aside`; False when it is not set aside."""
        return _renamed(self.aside_path(digest), self.blob_path(digest))

    def set_aside(self) -> list[Digest]:
        """Blobs that are set aside, since a collection of garbage was killed."""
        try:
            names = sorted(path.name for path in self.private.iterdir() if is_aside(path.name))
        except FileNotFoundError:
            return []
        return [Digest.parse(name.removeprefix(_ASIDE).replace("-", ":", 1)) for name in names]

    def delete_blob(self, digest: Digest) -> bool:
        """Remove a blob; False when it is not there."""
        try:
            self.blob_path(digest).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def temporary_path(self) -> Path:
        """A fresh name for content that is not complete yet, on the same file system as the blobs."""
        with disk_errors(self.folder):
            self._make_private()
        return self.private / uuid.uuid4().hex

    def _make_private(self) -> None:
        if self.private.is_dir():
            return
        made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.private.mkdir(parents=True, exist_ok=True)
        for folder in made:
            sync_folder(folder.parent)


def _renamed(path: Path, target: Path) -> bool:
    try:
        path.rename(target)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


__all__ = ["PRIVATE_FOLDER", "BlobFolder", "is_aside"]
