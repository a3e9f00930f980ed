"""Layers on their way into a registry: known ones cost a HEAD, new ones stream while they are made.

A layer's digest is known only when its last byte is written. Registries that take uploads in chunks get the bytes
while they are made, and the digest with the closing request: nothing touches the disk. For the others (Artifact
Registry, layout folders) the layer goes through a spool file in the state directory, which is removed afterwards.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO

from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.interface import LayerRow
from registry_pipelines.build.splice import LayerDigests, LayerWriter
from registry_pipelines.errors import NotFound, Refused, RegistryPipelinesError, Unavailable, Unsupported
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.interface import Place, UploadSession, UploadSessions

CHUNK_BYTES = 8 * 1024 * 1024
"""One upload request. ECR wants at least 5 MiB for all but the last."""

MODULE_BYTES = 512 * 1024
"""Compiling a module of usual size (3 ms) takes as long as taking over so many bytes of a wheel."""

ATTEMPTS = 3
"""Times a layer is made and sent when the registry fails in the middle; the client's own retries come first."""


@dataclass(frozen=True)
class LayerJob:
    """A layer that may have to be made. ``write`` gets a fresh writer and a callback for progress."""

    key: str
    contents: str
    work_bytes: int
    """Input bytes, for progress."""
    write: Callable[[LayerWriter, Callable[[int], None]], None]
    modules: int = 0
    """Python sources that are compiled."""

    @property
    def effort(self) -> int:
        """How long it takes beside other layers, as bytes that are only taken over."""
        return self.work_bytes + self.modules * MODULE_BYTES


def ensure_layer(
    job: LayerJob, place: Place, *, platform: str, cache: BuildCache, spool: Path, progress: Progress
) -> LayerRow:
    """Have the layer at the place: found, mounted from another repository of the registry, or made and uploaded."""
    task = f"layer {job.contents}"
    known = cache.layer(job.key)
    how, sent = "", 0
    if known:
        how = place_blob(known.digest, place, cache)
    if not known or not how:
        progress.begin(task, total_bytes=job.work_bytes)
        known = _make(job, place, spool, lambda count: progress.advance(task, count))
        how, sent = "uploaded", known.size
        cache.remember_layer(job.key, known)
        cache.remember_seen(known.digest, place.registry.name, place.repository)
    progress.end(task, note=how)
    return layer_row(job, known, platform=platform, how=how, bytes_uploaded=sent)


def layer_row(
    job: LayerJob, digests: LayerDigests, *, platform: str, how: str = "", bytes_uploaded: int = 0
) -> LayerRow:
    """The row of a layer that came out as ``digests``."""
    return LayerRow(
        platform=platform,
        contents=job.contents,
        key=job.key,
        digest=digests.digest,
        diff_id=digests.diff_id,
        size=digests.size,
        how=how,
        bytes_uploaded=bytes_uploaded,
    )


def measure_layer(job: LayerJob, *, cache: BuildCache, progress: Progress) -> LayerDigests:
    """What the layer comes out as; made and thrown away when that is not known yet. Nothing is sent."""
    known = cache.layer(job.key)
    if known is None:
        task = f"compare {job.contents}"
        progress.begin(task, total_bytes=job.work_bytes)
        with LayerWriter(lambda piece: None) as writer:
            job.write(writer, lambda count: progress.advance(task, count))
            known = writer.finish()
        cache.remember_layer(job.key, known)
        progress.end(task)
    return known


def place_blob(digest: Digest, place: Place, cache: BuildCache) -> str:
    """``present`` or ``mounted`` when the blob is at the place now without sending it, else empty."""
    registry = place.registry
    if registry.blob_size(place.repository, digest) is not None:
        cache.remember_seen(digest, registry.name, place.repository)
        return "present"
    for source in cache.seen(digest, registry.name):
        if source != place.repository and registry.mount_blob(place.repository, digest, source=source):
            cache.remember_seen(digest, registry.name, place.repository)
            return "mounted"
    return ""


def layer_descriptor(row: LayerRow) -> Descriptor:
    """The descriptor of a layer we made."""
    return Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=row.digest, size=row.size)


def _make(job: LayerJob, place: Place, spool: Path, advance: Callable[[int], None]) -> LayerDigests:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if isinstance(place.registry, UploadSessions) and _takes_chunks(place):
                # Registries say in different ways that they take no chunks, or lost the session. What is wrong for good
                # comes again with the spool file.
                with contextlib.suppress(Unsupported, Refused, NotFound):
                    return _stream(job, place, place.registry, advance)
            return _spool(job, place, spool, advance)
        except Unavailable:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _takes_chunks(place: Place) -> bool:
    return place.registry.capabilities(place.repository).chunked_upload is not False


def _stream(job: LayerJob, place: Place, sessions: UploadSessions, advance: Callable[[int], None]) -> LayerDigests:
    session = sessions.begin_upload(place.repository)
    try:
        sink = _ChunkSink(sessions, session)
        with LayerWriter(sink) as writer:
            job.write(writer, advance)
            digests = writer.finish()
        sink.flush()
        sessions.commit_upload(session, digests.digest)
    except BaseException:
        with contextlib.suppress(RegistryPipelinesError):
            sessions.cancel_upload(session)
        raise
    return digests


class _ChunkSink:
    """Collects pieces into chunks and sends them."""

    def __init__(self, sessions: UploadSessions, session: UploadSession) -> None:
        self._sessions = sessions
        self._session = session
        self._chunk = bytearray(max(CHUNK_BYTES, session.min_chunk_bytes))
        self._filled = 0

    def __call__(self, piece: memoryview | bytes, /) -> None:
        view = memoryview(piece)
        while view:
            taken = min(len(view), len(self._chunk) - self._filled)
            self._chunk[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if self._filled == len(self._chunk):
                self.flush()

    def flush(self) -> None:
        """Send what is collected."""
        if self._filled:
            with memoryview(self._chunk)[: self._filled] as chunk:
                self._sessions.append_upload(self._session, chunk)
            self._filled = 0


def _spool(job: LayerJob, place: Place, spool: Path, advance: Callable[[int], None]) -> LayerDigests:
    with disk_errors(spool):
        spool.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would be written once more while closing, and hide the error of a full disk.
        file = tempfile.NamedTemporaryFile(dir=spool, prefix="layer-", buffering=0)  # noqa: SIM115 - closed below
    with file:
        with disk_errors(spool), LayerWriter(lambda piece: _write_all(file, piece)) as writer:
            job.write(writer, advance)
            digests = writer.finish()
        descriptor = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=digests.digest, size=digests.size)
        with SpooledLayer(file.name) as source:
            place.registry.upload_blob(place.repository, descriptor, source)
    return digests


def _write_all(file: IO[bytes], piece: memoryview | bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]


class SpooledLayer(FileIO):
    """A layer's file as a Readable that the client may start again when an upload breaks."""

    def rewind(self) -> None:
        """Start again from the first byte."""
        self.seek(0)


def copy_blob(source: Place, target: Place, descriptor: Descriptor) -> None:
    """Stream a blob from place to place; a connection that breaks is begun anew. Raises NotFound, DigestMismatch,
    Unavailable."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with source.registry.open_blob(source.repository, descriptor.digest) as reader:
                target.registry.upload_blob(target.repository, descriptor, reader)
            return
        except Unavailable:
            if attempt == ATTEMPTS:
                raise
