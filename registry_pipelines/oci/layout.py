"""OCI image layout folders (OCI image-spec 1.1, image-layout.md), read and written safely.

A layout is a folder with ``oci-layout``, ``index.json`` and ``blobs/<algorithm>/<hex>``. Ours may be read by any tool
(skopeo's ``oci:`` among them) and written by many threads and processes at once: every change of ``index.json`` happens
under a file lock and ends in a rename, so that a reader sees the old state or the new one, and kill -9 leaves no half
of either. Tools that take no lock (skopeo) may still overwrite a change made at the same moment. What ``index.json``
says is in ``layout_index``.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from registry_pipelines.errors import ContentError, DiskFull
from registry_pipelines.oci.blob_folder import PRIVATE_FOLDER, BlobFolder
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors, install_file, sync_folder, write_file
from registry_pipelines.oci.layout_index import (
    EMPTY,
    NO_LINKS,
    IndexVersion,
    ManifestLinks,
    Signature,
    manifest_links,
    with_manifest,
    without_tags,
)
from registry_pipelines.oci.manifests import (
    MAX_DEPTH,
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    ManifestBytes,
    encode_json,
)
from registry_pipelines.oci.references import check_tag

MAX_INDEX_BYTES = 256 * 1024 * 1024
"""An ``index.json`` with a million entries; a larger one is not ours and would fill the memory."""

_LOCK_FILE = ".lock"
_LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


class Layout(BlobFolder):
    """One layout folder. Safe for many threads and processes; nothing is created before the first write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._index_path = folder / "index.json"
        self._guard = threading.RLock()
        self._state: IndexVersion | None = None
        self._links: dict[Digest, ManifestLinks] = {}

    def exists(self) -> bool:
        """Whether the folder is a layout."""
        return self._index_path.is_file()

    def create(self) -> None:
        """Make the folder a layout; an existing one stays as it is. Raises DiskFull, OSError."""
        if self.exists():
            return
        with disk_errors(self.folder), self.locked():
            for algorithm in ("sha256", "sha512"):
                (self.folder / "blobs" / algorithm).mkdir(parents=True, exist_ok=True)
            if not self.exists():
                write_file(self.folder / "oci-layout", _LAYOUT_FILE, temporary_folder=self.private)
                self._store(EMPTY)
            sync_folder(self.folder / "blobs")
            sync_folder(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude every other writer, of this process and of others, until the end of the block."""
        self._make_private()
        descriptor = os.open(self.folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # Blobs

    def install_blob(self, descriptor: int, temporary: Path, digest: Digest) -> None:
        """Turn a finished, checked temporary file into a blob. Raises DiskFull, OSError."""
        self.create()
        install_file(descriptor, temporary, self.blob_path(digest))

    def link_blob(self, digest: Digest, source: Layout) -> bool:
        """Take a blob over from another layout by hard link; False when it is not there or cannot be linked."""
        origin, target = source.blob_path(digest), self.blob_path(digest)
        if source.folder == self.folder:
            return self.touch_blob(digest)
        if not source.touch_blob(digest):
            return False
        self.create()
        try:
            with disk_errors(target):
                os.link(origin, target)
                sync_folder(target.parent)
        except FileExistsError:
            return True
        except DiskFull:
            raise
        except OSError:
            return False
        return True

    def put_blob(self, digest: Digest, content: bytes) -> None:
        """Store a small blob whose digest was checked. Raises DiskFull, OSError."""
        self.create()
        if not self.touch_blob(digest):
            self._make_private()  # another program made the layout, and keeps no such folder
            write_file(self.blob_path(digest), content, temporary_folder=self.private)

    # Manifests and tags

    def tags(self) -> dict[str, Descriptor]:
        """All tags with what they point to."""
        return self._load().tags

    def manifests(self) -> dict[Digest, Descriptor]:
        """Every manifest that ``index.json`` lists."""
        return self._load().listed

    def known_manifests(self) -> dict[Digest, Descriptor]:
        """Every manifest that is listed or that a listed index refers to, whether its bytes are there or not."""
        return self._known(self._load())

    def learn(self) -> None:
        """Read what all manifests say of others, before :meth:`known_manifests` needs it: that one holds up whoever
        asks this object for anything meanwhile."""
        listed = self._load().listed
        level = [listed[digest] for digest in listed.keys() - self._links.keys()]
        for _ in range(MAX_DEPTH):
            below = [child for entry in level for child in self._links_of(entry).children]
            level = [child for child in below if child.is_manifest and child.digest not in self._links]

    def find(self, reference: str) -> Descriptor | None:
        """The descriptor of a tag or digest, None when its manifest is not there."""
        state = self._load()
        if ":" not in reference:
            entry = state.tags.get(reference)
        else:
            digest = Digest.parse(reference)
            entry = state.listed.get(digest) or self._known(state).get(digest)
        if entry is None or not self.blob_path(entry.digest).is_file():
            return None
        return Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)

    def read_manifest(self, descriptor: Descriptor) -> ManifestBytes | None:
        """A manifest's bytes, checked against its digest; None when the file is gone. Raises ContentError."""
        path = self.blob_path(descriptor.digest)
        try:
            with path.open("rb") as stream:
                raw = stream.read(MAX_MANIFEST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        descriptor.digest.check(raw, where=str(path))
        return ManifestBytes(raw, descriptor.media_type, descriptor.digest)

    def put_manifest(self, manifest: ManifestBytes, tags: Sequence[str] = ()) -> None:
        """Store a manifest and move tags to it. Raises DiskFull, OSError, ReferenceInvalid; ManifestInvalid.

        A manifest that lost its last tag stays listed.
        """
        for tag in tags:
            check_tag(tag)
        links = manifest_links(manifest)
        self.put_blob(manifest.digest, manifest.raw)
        with self._guard:
            self._links[manifest.digest] = links
        with self.locked():
            self.put_blob(manifest.digest, manifest.raw)  # again: it may have been deleted in between
            state = self._load()
            if manifest.digest in state.listed or any(tag in state.tags for tag in tags):
                self._edit(lambda entries: with_manifest(entries, manifest.descriptor, tags))
            else:
                self._append(state, with_manifest([], manifest.descriptor, tags), links)

    def remove_tag(self, tag: str) -> bool:
        """Remove a tag, keep its manifest; False when there is no such tag."""
        if not self.exists():
            return False
        with self.locked():
            return self._edit(lambda entries: without_tags(entries, {tag}))

    def remove_manifest(self, digest: Digest) -> bool:
        """Remove a manifest with all its tags, and its bytes; False when it is not there."""
        if not self.exists():
            return False
        with self.locked():
            known = self.find(digest) is not None
            listed = self._edit(lambda entries: [entry for entry in entries if entry.digest != digest])
            if known or listed:
                self.delete_blob(digest)
        with self._guard:
            self._links.pop(digest, None)
        return known or listed

    def referrers(self, digest: Digest) -> list[Descriptor]:
        """Manifests whose subject is ``digest``, in a steady order."""
        state = self._load()
        self._known(state)
        referrers = state.referrers.get(digest, ())
        return [entry for entry in referrers if self.blob_path(entry.digest).is_file()]

    # The index

    def _signature(self) -> Signature:
        try:
            facts = self._index_path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def _load(self) -> IndexVersion:
        """The current state; read again only when the file was replaced. Raises ContentError."""
        with self._guard:
            signature = self._signature()
            if self._state is None or self._state.signature != signature:
                self._state = IndexVersion.read(signature, self._read_index() if signature else b"")
            return self._state

    def _read_index(self) -> bytes:
        try:
            with self._index_path.open("rb") as stream:
                raw = stream.read(MAX_INDEX_BYTES + 1)
        except FileNotFoundError:
            return b""
        if len(raw) > MAX_INDEX_BYTES:
            raise ContentError(f"index.json is larger than {MAX_INDEX_BYTES} bytes", where=str(self._index_path))
        return raw

    def _edit(self, edit: Callable[[list[Descriptor]], list[Descriptor]]) -> bool:
        """Replace the entries of ``index.json``, with the lock held; False when the edit changed nothing."""
        state = self._load()
        before = list(state.index.manifests)
        after = edit(before)
        if after == before:
            return False
        self._store(msgspec.structs.replace(state.index, manifests=tuple(after)))
        return True

    def _append(self, state: IndexVersion, entries: list[Descriptor], links: ManifestLinks) -> None:
        """Add a new manifest, with the lock held. The usual push: what is known of the others is carried over, else a
        repository of thousands of manifests would be worked through for each new one."""
        index, raw = state.appended(entries)
        write_file(self._index_path, raw, temporary_folder=self.private)
        with self._guard:  # another thread may just be finding out what ``state`` knows
            self._state = state.after(self._signature(), index, raw, entries, links)

    def _store(self, index: Index) -> None:
        raw = encode_json(index)
        write_file(self._index_path, raw, temporary_folder=self.private)
        with self._guard:
            self._state = IndexVersion.of(self._signature(), index, raw)

    def _known(self, state: IndexVersion) -> dict[Digest, Descriptor]:
        with self._guard:
            return state.know(self._links_of)

    def _links_of(self, entry: Descriptor) -> ManifestLinks:
        links = self._links.get(entry.digest)
        if links is None:
            try:
                manifest = self.read_manifest(entry)
            except ContentError:
                return NO_LINKS
            if manifest is None:
                return NO_LINKS
            try:
                links = manifest_links(manifest)
            except ContentError:
                links = NO_LINKS
            self._links[entry.digest] = links
        return links


__all__ = ["MAX_INDEX_BYTES", "PRIVATE_FOLDER", "Layout"]
