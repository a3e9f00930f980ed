"""Bring manifests from one repository of a registry into another one, byte for byte; blobs are mounted, not sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from registry_pipelines.errors import ManifestInvalid, NotFound, RegistryError, Unauthorized, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, descriptors
from registry_pipelines.registry.blobs import BlobStream
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at, put_tag
from registry_pipelines.transfer.closure.closure import storing_order


class Locks:
    """One writer at a time of what has a digest. docker-registry 2.8 writes its links in place: who stores a manifest
    while another one mounts a blob of it anew may get 400 DIGEST_INVALID."""

    def __init__(self) -> None:
        self._locks = tuple(threading.Lock() for _ in range(64))

    def of(self, digest: Digest) -> threading.Lock:
        """The lock of a digest, which some others share."""
        return self._locks[int(digest.hex[:8], 16) % len(self._locks)]


@dataclass
class Brought:
    """What it took. mounted: blobs that were taken over; sent, sent_bytes: those that the registry let nobody mount."""

    mounted: int = 0
    sent: int = 0
    sent_bytes: int = 0
    manifests: int = 0
    manifest_locks: Locks = field(default_factory=Locks)
    blob_locks: Locks = field(default_factory=Locks)
    whole: set[tuple[str, Digest]] = field(default_factory=set)
    """Repository and manifest, of those that are known to be there with their blobs."""
    blobs: set[tuple[str, Digest, int]] = field(default_factory=set)
    """Repository, blob and its size, likewise: images share most of theirs, and each is looked for once."""


Attached = Callable[[Digest], Iterable[Digest]]
"""A manifest to those that belong to it beside its children."""


@dataclass(frozen=True)
class Pieces:
    """Manifests in the order in which a registry stores them: children before their index, subjects before what refers
    to them."""

    manifests: Mapping[Digest, ManifestBytes] = field(default_factory=dict)

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Of all, in that order."""
        return tuple(self.manifests)


def read_pieces(
    place: Place,
    wanted: Iterable[Digest],
    attached: Attached | None = None,
    known: Mapping[Digest, ManifestBytes] | None = None,
) -> Pieces:
    """Manifests of a place, with the children of those that are indexes. What is not there is left out: a copy of
    chosen platforms has indexes without some of their children. attached: gives what else belongs to a manifest. known:
    what was read before. Raises RegistryError, ContentError."""
    found: dict[Digest, ManifestBytes] = {}
    contents: dict[Digest, Manifest | Index] = {}
    waiting = list(dict.fromkeys(wanted))
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        stored = known.get(digest) if known else None
        try:
            stored = stored or place.registry.get_manifest(place.repository, digest)
        except NotFound:
            continue
        content = stored.content()
        found[digest], contents[digest] = stored, content
        if isinstance(content, Index):
            waiting += [child.digest for child in content.manifests]
        waiting += attached(digest) if attached else ()
    return Pieces({digest: found[digest] for digest in storing_order(contents)})


def bring(
    pieces: Pieces,
    source: Place,
    target: Place,
    pool: Executor,
    brought: Brought,
    tags: Mapping[Digest, str] | None = None,
    unread: Collection[Digest] = (),
) -> None:
    """Store all of them at the target, with their blobs: by digest, or under a tag of ``tags``, which is read back but
    for those of ``unread``, which the caller reads later.
    What is there already is not touched, but its blobs are looked for: a registry may have lost them. Raises
    RegistryError, ContentError; whatever was stored until then stays, and a second call goes on."""
    for digest, manifest in pieces.manifests.items():
        tag = tags.get(digest, "") if tags else ""
        with brought.manifest_locks.of(digest):
            is_there = digest_at(target, tag or digest) == digest
            if is_there and (target.repository, digest) in brought.whole:
                continue
            content = manifest.content()
            if isinstance(content, Manifest):
                blobs = {blob.digest: blob for blob in descriptors(content) if not blob.urls}
                list(pool.map(lambda blob: _bring_blob(blob, source, target, brought), blobs.values()))
            brought.whole.add((target.repository, digest))
            if is_there:
                continue
            if tag and digest not in unread:
                put_tag(target, manifest, tag)
            else:
                target.registry.put_manifest(target.repository, manifest, tag=tag)
            brought.manifests += 1


def _bring_blob(blob: Descriptor, source: Place, target: Place, brought: Brought) -> None:
    known = (target.repository, blob.digest, blob.size)
    with brought.blob_locks.of(blob.digest):
        if known in brought.blobs:
            return
        # Where all were mounted so far there is no need to look: what is there can be mounted, too.
        mounts = bool(brought.mounted) and not brought.sent
        if mounts or target.registry.blob_size(target.repository, blob.digest) != blob.size:
            if _mount(blob, source, target):
                brought.mounted += 1
            else:
                with BlobStream(source, blob) as content:
                    target.registry.upload_blob(target.repository, blob, content)
                brought.sent += 1
                brought.sent_bytes += blob.size
        brought.blobs.add(known)


def _mount(blob: Descriptor, source: Place, target: Place) -> bool:
    """A mount may fail whatever was promised, so look. A registry that refuses one for good has said no."""
    try:
        if target.registry.mount_blob(target.repository, blob.digest, source=source.repository):
            return True
    except (Unavailable, Unauthorized):
        raise
    except RegistryError:
        pass
    return target.registry.blob_size(target.repository, blob.digest) == blob.size


def refers(place: Place, referrer: Digest, subject: Digest) -> bool:
    """Whether what is listed is there, and refers to the manifest by its own word."""
    try:
        stated = place.registry.get_manifest(place.repository, referrer).content().subject
    except (NotFound, ManifestInvalid):
        return False
    return stated is not None and stated.digest == subject


def referring(place: Place, digest: Digest) -> list[Digest]:
    """What refers to a manifest by its own word: a list is only a claim."""
    listed = place.registry.referrers(place.repository, digest)
    return [one.digest for one in listed if refers(place, one.digest, digest)]
