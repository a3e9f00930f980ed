"""OCI layout folders as a registry: a repository is a subfolder of one root.

The same folders may be served by the embedded server or read by skopeo (``oci:<root>/<repository>:<tag>``) at the
same time.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from registry_pipelines.errors import (
    Forbidden,
    ManifestTooLarge,
    NotFound,
    RegistryError,
    Unavailable,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, Descriptor, ManifestBytes, descriptors
from registry_pipelines.registry.blobs import checked_pieces
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Readable


class FileReader:
    """An open blob file; see BlobReader."""

    def __init__(self, stream: BinaryIO, *, size: int, start: int, stop: int) -> None:
        self.size = size
        self.start = start
        self._stream = stream
        self._left = max(0, stop - start)
        stream.seek(start)

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable. Raises Unavailable when the file became shorter."""
        if not self._left:
            return 0
        count: int = self._stream.readinto(buffer[: self._left])  # type: ignore[attr-defined]
        if not count and len(buffer):
            raise Unavailable("the blob's file ended early")
        self._left -= count
        return count

    def close(self) -> None:
        """See BlobReader."""
        self._stream.close()


class LayoutRegistry:
    """Implements Registry over folders. Nothing is created before the first write.

    Raises LocalError's DiskFull when a write finds no space; ReferenceInvalid for a name that cannot be a folder here
    (a part named ``blobs``, ``index.json`` or ``oci-layout`` after the first slash).
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.name = str(self.root)
        self._store = Store(self.root)

    def _existing(self, repository: str) -> Layout:
        layout = self._store.layout(repository)
        if not layout.exists():
            raise NotFound("there is no such repository", where=f"{self.name}/{repository}", code="NAME_UNKNOWN")
        return layout

    @contextmanager
    def _file_errors(self, repository: str) -> Iterator[None]:
        """Translate what the file system says."""
        where = f"{self.name}/{repository}"
        try:
            with disk_errors(where):
                yield
        except PermissionError as error:
            raise Forbidden(f"the folder may not be used: {error.strerror}", where=where) from error
        except OSError as error:
            raise Unavailable(f"the folder cannot be used: {error.strerror}", where=where) from error

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry."""
        with self._file_errors(repository):
            layout = self._existing(repository)
            descriptor = layout.find(reference)
            size = layout.blob_size(descriptor.digest) if descriptor else None
        if descriptor is None or size is None:
            where = f"{self.name}/{repository}"
            raise NotFound(f"there is no manifest {reference}", where=where, code="MANIFEST_UNKNOWN")
        return Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=size)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry."""
        descriptor = self.resolve(repository, reference)
        with self._file_errors(repository):
            manifest = self._store.layout(repository).read_manifest(descriptor)
        if manifest is None:
            raise NotFound(f"there is no manifest {reference}", where=f"{self.name}/{repository}")
        return manifest

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry. Raises ManifestInvalid, ManifestTooLarge, DigestMismatch too."""
        if len(manifest.raw) > MAX_MANIFEST_BYTES:
            raise ManifestTooLarge(
                f"the manifest has {len(manifest.raw)} bytes, at most {MAX_MANIFEST_BYTES} are stored",
                where=f"{self.name}/{repository}",
            )
        manifest.digest.check(manifest.raw, where=f"{self.name}/{repository}")
        with self._file_errors(repository):
            layout = self._store.layout(repository)
            for item in descriptors(manifest.content()):
                layout.touch_blob(item.digest)  # as the embedded server: its grace time begins again
            layout.put_manifest(manifest, (tag,) if tag else ())

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry."""
        with self._file_errors(repository):
            layout = self._store.layout(repository)
            size = layout.blob_size(digest)
            if size is not None:
                layout.touch_blob(digest)
            return size

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry. A range that begins behind the end raises RegistryError with status 416."""
        where = f"{self.name}/{repository}@{digest}"
        with self._file_errors(repository):
            try:
                stream = self._store.layout(repository).open_blob(digest)
            except FileNotFoundError as error:
                raise NotFound("there is no such blob", where=where, code="BLOB_UNKNOWN") from error
            size = os.fstat(stream.fileno()).st_size
        if start < 0 or start > size or (start == size and size):
            stream.close()
            raise RegistryError(f"byte {start} is outside of the blob of {size} bytes", where=where, status=416)
        return FileReader(stream, size=size, start=start, stop=size if stop is None else min(stop, size))

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry. The size must be the descriptor's too. Raises DiskFull."""
        with self._file_errors(repository):
            layout = self._store.layout(repository)
            temporary = layout.temporary_path()
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _copy_checked(content, handle, descriptor, where=f"{self.name}/{repository}")
                layout.install_blob(handle, temporary, descriptor.digest)
            finally:
                os.close(handle)
                with suppress(FileNotFoundError):
                    temporary.unlink()

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry; by hard link, so False between file systems."""
        with self._file_errors(repository):
            return self._store.layout(repository).link_blob(digest, self._store.layout(source))

    def tags(self, repository: str) -> Iterator[str]:
        """See Registry; in ASCII order."""
        with self._file_errors(repository):
            names = sorted(self._existing(repository).tags())
        return iter(names)

    def repositories(self) -> Iterator[str]:
        """See Registry; in ASCII order."""
        with self._file_errors(""):
            names = self._store.repositories()
        return iter(names)

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry; an unknown repository has none."""
        with self._file_errors(repository):
            referrers = self._store.layout(repository).referrers(digest)
        return [entry for entry in referrers if not artifact_type or entry.artifact_type == artifact_type]

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        with self._file_errors(repository):
            if not self._existing(repository).remove_manifest(digest):
                raise NotFound(f"there is no manifest {digest}", where=f"{self.name}/{repository}")

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry."""
        with self._file_errors(repository):
            if not self._existing(repository).remove_tag(tag):
                raise NotFound(f"there is no tag {tag}", where=f"{self.name}/{repository}")

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """See Registry."""
        with self._file_errors(repository):
            if not self._store.layout(repository).delete_blob(digest):
                raise NotFound(f"there is no blob {digest}", where=f"{self.name}/{repository}", code="BLOB_UNKNOWN")

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry; known without probing."""
        return Capabilities(
            referrers_api=True, mount=True, chunked_upload=False, range_reads=True, delete=True, notes=("folder",)
        )


def _copy_checked(content: Readable, handle: int, descriptor: Descriptor, *, where: str) -> None:
    """Write and hash. Raises DigestMismatch, also when the length is another."""
    for piece in checked_pieces(content, descriptor, where=where):
        while piece:
            piece = piece[os.write(handle, piece) :]


__all__ = ["FileReader", "LayoutRegistry"]
