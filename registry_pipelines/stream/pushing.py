"""Bring what was made to a repository: blobs through ``transfer.uploads``, manifests by digest, the tag last."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry_pipelines.errors import TagImmutable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.stream.results import LayerHow
from registry_pipelines.stream.soci import Piece
from registry_pipelines.transfer.blob.produced import Write
from registry_pipelines.transfer.uploads import Uploads

SCRATCH = "scratch-"
ABANDONED_S = 24 * 3600
"""A folder in which nothing was begun or ended for so long was left by a process that was killed."""


def push_piece(uploads: Uploads, piece: Piece) -> tuple[LayerHow, int]:
    """Have a blob of an index at the place; how, and bytes sent. Raises RegistryError, ContentError, LocalError."""
    descriptor = piece.descriptor
    found = uploads.find(descriptor.digest, descriptor.size)
    if found is not None:
        return "mounted" if found == "mounted" else "present", 0

    def produce(write: Write) -> Descriptor:
        for part in _parts(piece.content):
            write(part)
        return descriptor

    uploads.produce(f"index {descriptor.digest}", produce)
    return "uploaded", descriptor.size


def put_missing(place: Place, manifest: ManifestBytes) -> int:
    """Store a manifest or index by its digest unless it is there; bytes sent. Raises RegistryError."""
    if digest_at(place, manifest.digest):
        return 0
    place.registry.put_manifest(place.repository, manifest)
    return len(manifest.raw)


def put_referrer(place: Place, manifest: ManifestBytes, subject: Digest) -> int:
    """Store a manifest that refers to ``subject`` unless it is there **and** listed: after a kill between the manifest
    and the fallback tag no list names what is stored. Bytes sent. Raises RegistryError."""
    listed = any(each.digest == manifest.digest for each in place.registry.referrers(place.repository, subject))
    if listed and digest_at(place, manifest.digest):
        return 0
    place.registry.put_manifest(place.repository, manifest)
    return len(manifest.raw)


def has_tag(place: Place, tag: str, wanted: Digest) -> bool:
    """Whether the tag names ``wanted`` already; False when there is no such tag. Raises TagImmutable when it names
    something else, RegistryError."""
    there = digest_at(place, tag)
    if there not in (None, wanted):
        raise TagImmutable(
            f"the tag {tag} names {there}, and what is made now is {wanted}",
            where=f"{place}:{tag}",
            do="A release never moves: give the settings that made that one, or delete its tag if nobody wants it",
        )
    return there == wanted


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for what is on its way, removed afterwards, with those that killed runs left. Raises DiskFull,
    LocalError."""
    with local_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{SCRATCH}*"):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - ABANDONED_S:
                    shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parts(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with local_errors(content), content.open("rb") as file:
        while part := file.read(BUFFER_BYTES):
            yield part


__all__ = ["has_tag", "push_piece", "put_missing", "put_referrer", "scratch_folder"]
