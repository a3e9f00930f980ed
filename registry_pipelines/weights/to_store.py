"""Put a set of weights into an object store, from wherever a transfer reads: a folder, a registry, another store.

It is a copy like any other, with the store as its target: many files at once, parts ahead from the source, sent on as
they come and never on a disk. Clouds take parts that outlive the process, so a killed run goes on within a file;
elsewhere it goes on behind the last whole file.

The list comes last. Before the first file of another set is touched it goes away, and what stays of it is written
aside; a note for each file that is up lets the next run trust it. So nobody takes a set for whole that is not.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from registry_pipelines.errors import DigestMismatch, InputError, NotFound, StateLocked
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.blobs import checked_pieces
from registry_pipelines.registry.protocol import BUFFER_BYTES, Capabilities, Place, Readable, UploadSession
from registry_pipelines.stores.blocks import BlockUploads
from registry_pipelines.stores.parts import MOST_PARTS, PartUploads
from registry_pipelines.stores.store import ObjectStore
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.uploads import Uploads, Wanted
from registry_pipelines.weights.hashing import LIST_FILE, SIGNATURE_FILE
from registry_pipelines.weights.in_store import (
    BEFORE,
    CONFIG,
    HERE,
    MANIFEST,
    Found,
    StoredFiles,
    look,
    note_key,
    read_stored_list,
)
from registry_pipelines.weights.listed import ListedFile, WeightList, list_of
from registry_pipelines.weights.model import WeightFile, WeightSet
from registry_pipelines.weights.staging import LOCK, staged_in

NOBODYS = str(Digest.of(b"two sets went up at once"))
"""In place of a manifest's digest, where two pushes met."""
MOST_BYTES_BY_PARTS = MOST_PARTS * PART_BYTES
"""A larger file goes up through ``obstore``, which makes its parts larger."""
MAX_COPY_BYTES = 5_000_000_000
"""S3 copies no larger object in one request."""


@dataclass(frozen=True)
class Source:
    """Where a set comes from. place: has each file as a blob. manifest: the artifact, without a subject. signature:
    of OMS. check: raises where the files are others by now; called behind the last one."""

    place: Place
    weights: WeightSet
    manifest: ManifestBytes
    signature: bytes | None = None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class StoredWeights:
    """A set that is in a store now. changed: something was written. files: how many were ``present``, ``mounted``
    (copied within the store) or ``copied``. bytes_sent: by this run. removed: files of the set before that are no more.
    strangers: objects there that are none of ours, and were left alone."""

    store: str
    descriptor: Descriptor
    changed: bool
    files: Counter[str]
    bytes_sent: int
    removed: tuple[str, ...]
    strangers: tuple[str, ...]


def store_weights(source: Source, store: ObjectStore, *, engine: Engine = PLAIN) -> StoredWeights:
    """Have a set below a prefix, whole; what is there with the same digest is not sent.

    Raises InputError (something else lies there, it lies within the source, a name that cannot be there), ContentError
    (the source gave other bytes, or changed), DiskFull (the store is full), StateLocked (another set goes there at the
    same time), the RegistryError family; then no list is there, and the next run goes on.
    """
    _check_apart(source.place, store)
    for file in source.weights.files:
        if fault := store.fault_of(file.path):
            raise InputError(f"the name {file.path!r} {fault}", where=store.name, do="Rename it, or name a bucket")
    with _alone(store):
        return _store(source, store, engine)


@contextmanager
def _alone(store: ObjectStore) -> Iterator[None]:
    """Into a folder nobody else brings weights meanwhile."""
    if store.folder is None:
        yield
        return
    with staged_in(store.folder) as staging:
        yield
        with local_errors(staging):
            (staging / LOCK).unlink(missing_ok=True)


def _store(source: Source, store: ObjectStore, engine: Engine) -> StoredWeights:
    listed = list_of(source.weights, source.manifest.digest)
    wanted = {file.path: file.digest for file in source.weights.files}
    found = look(store, wanted)
    beside = {LIST_FILE, SIGNATURE_FILE, MANIFEST, CONFIG, BEFORE}
    store.drop_torn(datetime.now(UTC) + timedelta(days=1), of={*wanted, *found.known, *beside})  # nobody else is here
    kept = {path: digest for path, digest in found.known.items() if wanted.get(path) == digest}
    whole = found.listed == listed and len(kept) == len(wanted)
    strangers = tuple(key for key in found.strangers if key not in wanted)
    if whole and _beside(source, store, found):
        count = Counter(present=len(wanted))
        return StoredWeights(store.name, source.manifest.descriptor, False, count, 0, (), strangers)
    gone = tuple(sorted(path for path in found.known if path not in wanted))
    _begin(store, listed, kept, {path: found.known[path] for path in gone}, found)
    brought = _bring(source, store, kept, engine)
    source.check()
    _check_sizes(store, source.weights.files)
    _check_alone(store, listed)
    store.delete_all(gone)
    _finish(source, store, listed)
    return StoredWeights(
        store.name,
        source.manifest.descriptor,
        True,
        Counter(how for how, _ in brought),
        sum(count for _, count in brought),
        gone,
        strangers,
    )


def _check_apart(place: Place, store: ObjectStore) -> None:
    """Neither end lies within the other: what one keeps beside its files would be files of the other. Raises
    InputError."""
    if place.repository:  # of a registry; folders and stores have none
        return
    ends = [each if "://" in each else str(Path(each).resolve()) for each in (place.registry.name, store.name)]
    one, other = (f"{each.rstrip('/')}/" for each in ends)
    if one != other and (one.startswith(other) or other.startswith(one)):
        raise InputError(
            f"it lies within {place.registry.name}, or the other way round",
            where=store.name,
            do="Name a folder or prefix beside it",
        )


def _beside(source: Source, store: ObjectStore, found: Found) -> bool:
    """Whether what lies beside the files is the source's, too."""
    wanted = {MANIFEST: source.manifest.raw, CONFIG: source.weights.config}
    if source.signature is not None:
        wanted[SIGNATURE_FILE] = source.signature
    elif SIGNATURE_FILE in found.objects:
        return False
    return all(
        found.objects.get(key) == len(content) and store.read(key, limit=len(content)) == content
        for key, content in wanted.items()
    )


def _begin(
    store: ObjectStore, listed: WeightList, kept: Mapping[str, Digest], gone: Mapping[str, Digest], found: Found
) -> None:
    """From here on the prefix says that its set is not whole, and what of it is to be believed. gone: files that go
    away at the end, which a run that comes after a kill must know to be ours, too."""
    rows = [each for each in listed.files if each.path in kept]
    rows += [ListedFile(path=path, sha256=each.hex, size=found.objects[path]) for path, each in gone.items()]
    store.write(BEFORE, _encoded(msgspec.structs.replace(listed, files=tuple(rows))))
    store.delete(LIST_FILE)
    store.delete_all([key for key in found.objects if key.startswith(f"{HERE}/") or key == SIGNATURE_FILE])


def _check_alone(store: ObjectStore, listed: WeightList) -> None:
    """Nobody puts another set there meanwhile: files of two would lie below one list. Who notices leaves a prefix of
    which nothing is believed any more, so the other notices, too. Raises StateLocked."""
    objects = {key: each for key in (BEFORE, LIST_FILE) if (each := store.size(key)) is not None}
    now = read_stored_list(store, BEFORE, objects) or read_stored_list(store, LIST_FILE, objects)
    if now is not None and now.manifest == listed.manifest:
        return
    store.write(BEFORE, _encoded(msgspec.structs.replace(listed, manifest=NOBODYS, files=())))
    store.delete(LIST_FILE)
    store.delete_all([each.key for each in store.below(HERE)])
    raise StateLocked(
        "another push or sync put other weights there meanwhile, so neither set is whole",
        where=store.name,
        do="Let it end, then run the command for the set that is to be there",
    )


def _bring(source: Source, store: ObjectStore, kept: Mapping[str, Digest], engine: Engine) -> Sequence[tuple[str, int]]:
    files = source.weights.files
    by_parts = [file for file in files if file.size <= MOST_BYTES_BY_PARTS]
    large = [file for file in files if file.size > MOST_BYTES_BY_PARTS]
    brought: list[tuple[str, int]] = []
    with engine.opened() as state:
        for some, parts in ((by_parts, store.parts), (large, None)):
            if not some:
                continue
            registry = _Target(store, kept) if parts is None else _TargetByParts(store, kept, parts)
            uploads = Uploads(state, engine.place(registry.place), engine.progress)
            done = uploads.bring([_wanted(engine.place(source.place), file, kept) for file in some])
            brought += [(each.how, each.bytes_sent) for each in done]
            state.cancel_abandoned([registry.place.registry])
    return brought


def _wanted(source: Place, file: WeightFile, kept: Mapping[str, Digest]) -> Wanted:
    same = tuple(path for path, digest in kept.items() if digest == file.digest and path != file.path)
    return Wanted(source, file.descriptor, file.path, same[:1] if file.size <= MAX_COPY_BYTES else (), into=file.path)


def _check_sizes(store: ObjectStore, files: Sequence[WeightFile]) -> None:
    """The store has each file, as its own list says."""
    there = {each.key: each.size for each in store.below("")}
    wrong = [file.path for file in files if there.get(file.path) != file.size]
    if wrong:
        for file in files:
            if file.path in wrong:
                store.delete(note_key(file.path, file.digest))
        raise DigestMismatch(
            f"the store took {wrong[0]} and does not have it, or not all of it",
            where=store.name,
            do="Run it again; what is missing is sent once more",
        )


def _finish(source: Source, store: ObjectStore, listed: WeightList) -> None:
    store.write(MANIFEST, source.manifest.raw)
    store.write(CONFIG, source.weights.config)
    if source.signature is not None:
        store.write(SIGNATURE_FILE, source.signature)
    store.write(LIST_FILE, _encoded(listed))
    _check_alone(store, listed)
    store.delete_all([each.key for each in store.below(HERE)])
    store.delete(BEFORE)


def _encoded(listed: WeightList) -> bytes:
    return msgspec.json.format(msgspec.json.encode(listed), indent=1)


class _Target(StoredFiles):
    """Implements what a transfer asks of a target; a repository is the path of a file."""

    def upload_blob(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """See Registry."""
        pieces = map(bytes, checked_pieces(content, descriptor, where=f"{self.name}/{repository}"))
        if descriptor.size <= PART_BYTES:
            self.store.write(repository, b"".join(pieces))
        else:
            self.store.write_pieces(repository, pieces, descriptor.size)
        self._note(repository, descriptor.digest)

    def mount_blob(self, repository: str, digest: Digest, *, source: str) -> bool:
        """See Registry; source: another path, whose content stays."""
        if self.here.get(source) != digest:
            return False
        self.store.copy(source, repository)
        self._note(repository, digest)
        return True

    def _note(self, path: str, digest: Digest) -> None:
        self.store.write(note_key(path, digest), path.encode())
        self.here[path] = digest

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry."""
        return Capabilities(range_reads=self.store.ranges, mount=True, chunked_upload=True)


class _TargetByParts(_Target):
    """Implements UploadSessions, too: each chunk is a part of a multipart upload (in Azure a block), which the journal
    remembers."""

    def __init__(self, store: ObjectStore, here: Mapping[str, Digest], parts: PartUploads | BlockUploads) -> None:
        super().__init__(store, here)
        self._parts, self._begun, self._lock = parts, set[str](), threading.Lock()

    def begin_upload(self, repository: str) -> UploadSession:
        """See UploadSessions."""
        upload = self._parts.begin(repository)
        with self._lock:
            self._begun.add(upload)
        return UploadSession(repository, upload, min_chunk_bytes=PART_BYTES)

    def append_upload(self, session: UploadSession, content: memoryview) -> None:
        """See UploadSessions."""
        number, behind = divmod(session.offset, PART_BYTES)
        if behind:
            raise NotFound("a part is shorter than it was", where=f"{self.name}/{session.repository}", status=404)
        self._parts.send(session.repository, session.location, number + 1, content)
        session.offset += len(content)

    def upload_offset(self, session: UploadSession) -> int | None:
        """See UploadSessions; the parts up to the first one that is missing, or short and not the last."""
        try:
            sent = self._parts.sent(session.repository, session.location)
        except NotFound:
            return None
        offset = 0
        for at, part in enumerate(sent, 1):
            if part.number != at or (part.size != PART_BYTES and at < len(sent)):
                break
            offset += part.size
        return offset

    def commit_upload(self, session: UploadSession, digest: Digest) -> None:
        """See UploadSessions. The transfer hashed what it sent in one go; what several runs sent is read back here."""
        path = session.repository
        try:
            sent = self._parts.sent(path, session.location)
            if sum(part.size for part in sent) != session.offset:
                raise NotFound("the store lost a part of the upload", where=f"{self.name}/{path}", status=404)
            self._parts.complete(path, session.location, sent)
        except NotFound:
            if self.store.size(path) != session.offset or self._read_back(path) != digest.hex:
                raise
        else:
            self._check(session, digest)
        self._note(path, digest)

    def _check(self, session: UploadSession, digest: Digest) -> None:
        path = session.repository
        right = self.store.size(path) == session.offset
        if right and session.location not in self._begun:
            right = self._read_back(path) == digest.hex
        if not right:
            self.store.delete(path)
            raise DigestMismatch("the store has other bytes than were sent", where=f"{self.name}/{path}")

    def _read_back(self, path: str) -> str:
        hashed, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER_BYTES))
        with self.store.open(path) as reader:
            while count := reader.readinto(buffer):
                hashed.update(buffer[:count])
        return hashed.hexdigest()

    def cancel_upload(self, session: UploadSession) -> None:
        """See UploadSessions."""
        self._parts.abort(session.repository, session.location)


__all__ = ["Source", "StoredWeights", "store_weights"]
