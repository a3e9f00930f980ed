"""What a node keeps of the images that it serves, a file for each, so that a new process serves them again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from registry_pipelines.errors import ContentError, DigestInvalid, DiskFull
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json

_SERVED, _UNFIT = ".json", ".unfit"
UNFIT_S = 86400.0
"""For so long an image that was promised and could not be mounted is pulled as usual."""


class ImageNote(msgspec.Struct, frozen=True):
    """What a new process needs to serve an image again."""

    reference: str
    digest: str
    layers: tuple[str, ...]
    """Chain IDs of those that were served."""
    folders: tuple[str, ...] = ()
    """Where what was fetched of them is."""


class ImageNotes:
    """All of a folder, which is there. A note that cannot be read is as none; a full disk keeps none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for path in folder.glob(f"*{_UNFIT}"):
            if not _is_of_today(path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def write(self, note: ImageNote) -> None:
        """Keep it, in place of the one before. Raises LocalError, but not for a full disk."""
        self._write(self._path(Digest(note.digest), _SERVED), encode_json(note))

    def read(self, digest: str) -> ImageNote | None:
        """That of an image, by the digest of its manifest."""
        with suppress(DigestInvalid):
            return self._read(self._path(Digest.parse(digest), _SERVED))
        return None

    def all(self) -> Iterator[ImageNote]:
        """Of every image."""
        for path in sorted(self._folder.glob(f"*{_SERVED}")):
            if (note := self._read(path)) is not None:
                yield note

    def forget(self, digest: str) -> ImageNote | None:
        """No new process serves it again; what was kept of it until now."""
        note = self.read(digest)
        with suppress(OSError, DigestInvalid):
            self._path(Digest.parse(digest), _SERVED).unlink(missing_ok=True)
        return note

    def mark_unfit(self, digest: Digest, why: str) -> None:
        """It was promised, and cannot be mounted."""
        self._write(self._path(digest, _UNFIT), why.encode())

    def is_unfit(self, digest: str) -> bool:
        """Whether that was marked, within a day."""
        with suppress(DigestInvalid):
            return _is_of_today(self._path(Digest.parse(digest), _UNFIT))
        return False

    def _path(self, digest: Digest, ending: str) -> Path:
        return self._folder / f"{digest.hex}{ending}"

    def _write(self, path: Path, content: bytes) -> None:
        with suppress(DiskFull), local_errors(self._folder):
            write_file(path, content, mode=0o600)

    def _read(self, path: Path) -> ImageNote | None:
        with suppress(OSError, ContentError, DigestInvalid):
            return decode_json(path.read_bytes(), ImageNote, what="note of a served image")
        return None


def _is_of_today(path: Path) -> bool:
    """Whether it is there and young enough. A clock that was set back makes nothing unfit for longer."""
    with suppress(OSError):
        return 0 <= time.time() - path.stat().st_mtime < UNFIT_S
    return False


__all__ = ["ImageNote", "ImageNotes"]
