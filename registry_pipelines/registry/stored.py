"""A registry in an object store: images lie there as they lie in a registry, and every copy goes there and back.

Below the store's prefix:

- ``registry-pipelines.json``: what this is, and its format
- ``blobs/sha256/<hex>``: content, also manifests; once, whatever repositories have it
- ``repositories/<repository>/_manifests/sha256-<hex>``: a descriptor, for each manifest of the repository
- ``repositories/<repository>/_tags/<tag>``: the descriptor that a tag names
- ``garbage.json``: content that nothing needed at the last look; see ``stored_garbage``
- ``repositories/<repository>/_referrers/sha256-<hex>/sha256-<hex>``: the descriptor of what refers to a manifest

Each object is whole or not there, so whoever is killed leaves content that nothing names yet, and no half image. There
is no program beside the store: two who write the same write the same content, and of two who move a tag the last one
counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from registry_pipelines.errors import (
    ContentError,
    InputError,
    ManifestTooLarge,
    NotFound,
    RegistryError,
    Unsupported,
)
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Manifest,
    ManifestBytes,
    decode_json,
    encode_json,
)
from registry_pipelines.oci.references import check_repository, check_tag
from registry_pipelines.oci.referrers import describe
from registry_pipelines.registry.blobs import checked_pieces
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Readable
from registry_pipelines.registry.stored_garbage import MARK_S, Freed, Mark, free_content, read_mark
from registry_pipelines.stores.store import ObjectStore

FORMAT = 1
MARKER = "registry-pipelines.json"
KIND = "registry-pipelines: images in an object store"
MAX_NOTE_BYTES = 1 << 20
"""Of a descriptor; annotations of an artifact are in it."""
WORKERS = 8
"""Small objects read at once."""


class _Marker(msgspec.Struct, frozen=True):
    kind: str
    format: int


class StoredRegistry:
    """Implements Registry; see the module. Nothing is asked or written before the first use.

    Raises InputError where the store has something else at that prefix, or a newer format.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.name = store, store.name
        self._lock = threading.Lock()
        self._is_checked = self._is_marked = False
        self._marked, self._mark_until = Mark(), 0.0

    def ping(self) -> None:
        """Ask whether the store answers and has what is ours, or nothing."""
        self._check()

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry."""
        self._check()
        is_digest = ":" in reference
        key = _manifest_key(repository, Digest.parse(reference)) if is_digest else _tag_key(repository, reference)
        found = self._note(key)
        if found is None:
            raise NotFound(f"there is no manifest {reference}", where=self._at(repository), code="MANIFEST_UNKNOWN")
        return Descriptor(media_type=found.media_type, digest=found.digest, size=found.size)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry."""
        found = self.resolve(repository, reference)
        raw = self._store.read(_blob_key(found.digest), limit=MAX_MANIFEST_BYTES)
        found.digest.check(raw, where=self._at(repository))
        return ManifestBytes(raw, found.media_type, found.digest)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        """See Registry. Raises ManifestInvalid, ManifestTooLarge, DigestMismatch too; RegistryError where a blob that
        was marked as garbage is not there: it was deleted after it had been sent again, or a clock was set back."""
        where = self._at(repository)
        if len(manifest.raw) > MAX_MANIFEST_BYTES:
            raise ManifestTooLarge(
                f"the manifest has {len(manifest.raw)} bytes, at most {MAX_MANIFEST_BYTES} are stored", where=where
            )
        manifest.digest.check(manifest.raw, where=where)
        content = manifest.content()
        tag_key = _tag_key(repository, tag) if tag else ""
        self._begin()
        if isinstance(content, Manifest):
            self._refuse_freed(repository, content)
        if self.blob_size(repository, manifest.digest) != len(manifest.raw):
            self._store.write(_blob_key(manifest.digest), manifest.raw)
        if content.subject is not None:  # before the manifest itself: what is here is listed
            key = _referrer_key(repository, content.subject.digest, manifest.digest)
            self._store.write(key, encode_json(describe(manifest, content)))
        self._store.write(_manifest_key(repository, manifest.digest), encode_json(manifest.descriptor))
        if tag_key:
            self._store.write(tag_key, encode_json(manifest.descriptor))

    def _refuse_freed(self, repository: str, content: Manifest) -> None:
        mark = self._mark()
        for each in (content.config, *content.layers):
            if each.digest in mark.digests and not each.urls and self.blob_size(repository, each.digest) is None:
                raise RegistryError(
                    f"the blob {each.digest.short} of the manifest is being freed",
                    where=self._at(repository),
                    do="Run it again. Where that repeats, a clock was wrong: `collect garbage` writes a new mark",
                    status=400,
                    code="MANIFEST_BLOB_UNKNOWN",
                )

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry. What one repository has all have; what is marked as garbage and was not sent again since is not
        there for who wants to rely on it (``stored_garbage``)."""
        self._check()
        found = self._store.describe(_blob_key(digest))
        mark = self._mark() if found is not None else Mark()
        if found is None or (digest in mark.digests and mark.time is not None and found.changed < mark.time):
            return None
        return found.size

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry. A range that begins behind the end raises RegistryError with status 416."""
        self._check()
        where = f"{self._at(repository)}@{digest}"
        if start or stop is not None:
            size = self._store.size(_blob_key(digest))
            if size is not None and (start < 0 or start > size or (start == size and size)):
                raise RegistryError(f"byte {start} is outside of the blob of {size} bytes", where=where, status=416)
            stop = size if stop is None or size is None else min(stop, size)
        try:
            return self._store.open(_blob_key(digest), start=start, stop=stop)
        except NotFound as error:
            raise NotFound("there is no such blob", where=where, code="BLOB_UNKNOWN") from error

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry. The size must be the descriptor's too."""
        check_repository(repository)
        self._begin()
        pieces = map(bytes, checked_pieces(content, descriptor, where=self._at(repository)))
        self._store.write_pieces(_blob_key(descriptor.digest), pieces, descriptor.size)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry."""
        return self.blob_size(repository, digest) is not None

    def tags(self, repository: str) -> Iterator[str]:
        """See Registry; in ASCII order."""
        self._check()
        names = [each.key.rpartition("/")[2] for each in self._store.below(f"{_folder(repository)}/_tags")]
        if not names and next(iter(self._store.below(f"{_folder(repository)}/_manifests")), None) is None:
            raise NotFound("there is no such repository", where=self._at(repository), code="NAME_UNKNOWN")
        return iter(sorted(names))

    def repositories(self) -> Iterator[str]:
        """See Registry; in ASCII order of their parts."""
        self._check()
        yield from self._below("")

    def _below(self, name: str) -> Iterator[str]:
        folders = sorted(self._store.folders(f"repositories/{name}".rstrip("/")))
        if name and "_manifests" in folders:
            yield name
        for folder in folders:
            if not folder.startswith("_"):
                yield from self._below(f"{name}/{folder}".lstrip("/"))

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry; an unknown repository has none."""
        self._check()
        found = self._notes(f"{_folder(repository)}/_referrers/{_name(digest)}")
        return [each for each in found if not artifact_type or each.artifact_type == artifact_type]

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """See Registry; its content stays, for other repositories may have it."""
        manifest = self.get_manifest(repository, digest)
        for tag in self.tags(repository):
            named = self._note(_tag_key(repository, tag))
            if named is not None and named.digest == digest:
                self._store.delete(_tag_key(repository, tag))
        if (subject := manifest.content().subject) is not None:  # before the manifest: nothing is listed that is gone
            self._store.delete(_referrer_key(repository, subject.digest, digest))
        self._store.delete(_manifest_key(repository, digest))

    def delete_tag(self, repository: str, tag: str) -> None:
        """See Registry."""
        self.resolve(repository, check_tag(tag))
        self._store.delete(_tag_key(repository, tag))

    def delete_blob(self, repository: str, digest: Digest) -> None:
        """See Registry: Unsupported, for what one repository has others may have."""
        raise Unsupported(
            "content of an object store belongs to all repositories there", where=f"{self._at(repository)}@{digest}"
        )

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry; known without probing."""
        return Capabilities(
            referrers_api=True, mount=None, chunked_upload=False, range_reads=True, delete=True, notes=("object store",)
        )

    def _mark(self) -> Mark:
        """Read again every few minutes: a mark counts a day after it was written."""
        with self._lock:
            if time.monotonic() >= self._mark_until:
                self._marked, self._mark_until = read_mark(self._store), time.monotonic() + MARK_S
            return self._marked

    def free_content(self, *, unused_s: float, dry_run: bool = False) -> Freed:
        """See ``stored_garbage.free_content``."""
        self._check()
        with self._lock:
            self._mark_until = 0.0
        return free_content(self._store, unused_s=unused_s, dry_run=dry_run)

    def _at(self, repository: str) -> str:
        return f"{self.name}/{repository}"

    def _note(self, key: str) -> Descriptor | None:
        try:
            raw = self._store.read(key, limit=MAX_NOTE_BYTES)
        except NotFound:
            return None
        return decode_json(raw, ready(Descriptor), where=f"{self.name}/{key}", what="descriptor")

    def _notes(self, prefix: str) -> list[Descriptor]:
        keys = [each.key for each in self._store.below(prefix)]
        if len(keys) < 2:
            return [found for key in keys if (found := self._note(key))]
        with ThreadPoolExecutor(WORKERS, "store-note") as pool:
            return [found for found in pool.map(self._note, keys) if found]

    def _check(self) -> None:
        """That what is there is ours, once."""
        self._once(lambda: self._read_marker() is not None, "_is_checked")

    def _begin(self) -> None:
        """The same before something is written, with a marker where there is none."""
        self._once(self._write_marker, "_is_marked")

    def _once(self, work: Callable[[], object], done: str) -> None:
        if not getattr(self, done):
            with self._lock:
                if not getattr(self, done):
                    work()
                    setattr(self, done, True)

    def _write_marker(self) -> None:
        if self._read_marker() is None:
            self._store.write_new(MARKER, encode_json(_Marker(KIND, FORMAT)))

    def _read_marker(self) -> _Marker | None:
        """Raises InputError; see the class."""
        try:
            found = decode_json(self._store.read(MARKER, limit=MAX_NOTE_BYTES), ready(_Marker), what="marker")
        except NotFound:
            stranger = next(iter(self._store.below("")), None)
            if stranger is None:
                return None
            raise InputError(
                f"something else lies there, for instance {stranger.key}, and no {MARKER}",
                where=self.name,
                do="Name a prefix of its own for the images",
            ) from None
        except ContentError as error:
            raise InputError(f"{MARKER} is none of ours: {error.what}", where=self.name) from error
        if found.kind != KIND or found.format > FORMAT:
            what = f"format {found.format}" if found.kind == KIND else found.kind[:80]
            raise InputError(
                f"what lies there is {what}, and this program knows format {FORMAT}",
                where=self.name,
                do="Use the version that wrote it, or a newer one",
            )
        return found


def _folder(repository: str) -> str:
    return f"repositories/{check_repository(repository)}"


def _name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"


def _blob_key(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _manifest_key(repository: str, digest: Digest) -> str:
    return f"{_folder(repository)}/_manifests/{_name(digest)}"


def _tag_key(repository: str, tag: str) -> str:
    return f"{_folder(repository)}/_tags/{check_tag(tag)}"


def _referrer_key(repository: str, subject: Digest, digest: Digest) -> str:
    return f"{_folder(repository)}/_referrers/{_name(subject)}/{_name(digest)}"


__all__ = ["StoredRegistry"]
