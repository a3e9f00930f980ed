"""A bundle as a registry that is read: its repositories, tags, manifests and referrers, and blobs out of its parts.

What a receipt let the near side leave out comes out of the far side's own registry, where the receipt saw it. So our
engine copies a bundle as it copies from any registry: it plans, mounts, goes on after a kill, and reads back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from registry_pipelines.errors import (
    ClosureIncomplete,
    ManifestInvalid,
    NotFound,
    RegistryError,
    Unsupported,
)
from registry_pipelines.mirror.bundle.format import Bundle, BundleBlob, BundleImage, Need
from registry_pipelines.mirror.bundle.sliced import PartStream
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import MAX_MANIFEST_BYTES, Descriptor, Index, ManifestBytes, descriptors
from registry_pipelines.oci.referrers import describe
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Registry
from registry_pipelines.registry.through_cache import ReadOnly


class OpenBundle(ReadOnly):
    """Implements Registry over a bundle whose parts were verified. far: the far side's registry, for what the bundle
    leaves out.

    All manifests are read when it is opened, and each is checked against its digest, so that a bundle that does not
    hold together is refused before anything is written. Raises ManifestInvalid, ClosureIncomplete, DigestMismatch;
    LocalError for a part that cannot be read.
    """

    def __init__(self, bundle: Bundle, paths: Sequence[Path], far: Registry) -> None:
        self.bundle = bundle
        self.name = f"{bundle.name}.bundle"
        self._far = far
        self._stream = PartStream(paths, bundle.part_size)
        self._blobs: Mapping[Digest, BundleBlob] = {blob.digest: blob for blob in bundle.blobs}
        self._needs: Mapping[Digest, Need] = {need.digest: need for need in bundle.needs}
        self._tags: dict[str, dict[str, Digest]] = defaultdict(dict)
        self._manifests: dict[str, set[Digest]] = defaultdict(set)
        self._referrers: dict[tuple[str, Digest], dict[Digest, Descriptor]] = defaultdict(dict)
        self.held: dict[Digest, str] = {need.digest: need.repository for need in bundle.needs}
        """The far side's repository that has each thing that is left out; who looked there corrects it."""
        self.needs_of: dict[Digest, set[str]] = defaultdict(set)
        """Repositories of the bundle in which something that is left out belongs, by its digest."""
        self.content: dict[str, dict[Digest, int]] = defaultdict(dict)
        """Configs and layers with their sizes, by repository."""
        read: dict[Digest, _Links] = {}
        for image in bundle.images:
            self._take(image, read)

    def hide(self, tags: Iterable[tuple[str, str]]) -> None:
        """Leave tags out, each with its repository: what they name is there by digest alone."""
        for repository, tag in tags:
            self._tags[repository].pop(tag, None)

    def _take(self, image: BundleImage, read: dict[Digest, _Links]) -> None:
        tags = {**dict.fromkeys(image.tags, image.digest), **image.digest_tags}
        for tag, digest in tags.items():
            if self._tags[image.repository].setdefault(tag, digest) != digest:
                raise ManifestInvalid(
                    f"two images are to be {image.repository}:{tag}",
                    where=self.name,
                    do="Give one of them another repository on the near side, and make the bundle again",
                )
        for digest in image.manifests:
            if digest not in read:
                read[digest] = self._read(digest)
            links = read[digest]
            self._manifests[image.repository].add(digest)
            if links.subject:
                self._referrers[image.repository, links.subject][digest] = links.entry
            for blob in links.blobs:
                self._know(image, digest, blob)

    def _know(self, image: BundleImage, manifest: Digest, blob: Descriptor) -> None:
        here = self._blobs.get(blob.digest) or self._needs.get(blob.digest)
        if here is None and blob.urls:
            return  # its publisher keeps it elsewhere
        if here is None or here.size != blob.size:
            raise ClosureIncomplete(
                f"blob {blob.digest} of {manifest} is neither in the bundle nor named as left out",
                where=f"{self.name}/{image.repository}",
                do="Have the near side make the bundle again",
            )
        self.content[image.repository][blob.digest] = blob.size
        if isinstance(here, Need):
            self.needs_of[blob.digest].add(image.repository)

    def _read(self, digest: Digest) -> _Links:
        manifest = self._manifest(digest)
        content = manifest.content()
        below = content.manifests if isinstance(content, Index) else ()
        blobs = [each for each in descriptors(content) if not (below and each.is_manifest)]
        subject = content.subject.digest if content.subject else None
        return _Links(describe(manifest, content), subject, blobs)

    def _manifest(self, digest: Digest) -> ManifestBytes:
        blob = self._blobs[digest]
        if blob.size > MAX_MANIFEST_BYTES:
            raise ManifestInvalid(f"manifest {digest} has {blob.size} bytes", where=self.name)
        raw = self._stream.read(blob.offset, blob.size)
        digest.check(raw, where=self.name)
        return ManifestBytes(raw, blob.media_type, digest)

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry."""
        blob = self._blobs[self._find(repository, reference)]
        return Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size)

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry."""
        return self._manifest(self._find(repository, reference))

    def _find(self, repository: str, reference: str) -> Digest:
        found = Digest(reference) if ":" in reference else self._tags.get(repository, {}).get(reference)
        if found is None or found not in self._manifests.get(repository, ()):
            where = f"{self.name}/{repository}"
            raise NotFound(f"there is no manifest {reference}", where=where, code="MANIFEST_UNKNOWN")
        return found

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry. What is left out counts: the far side has it."""
        return self.content.get(repository, {}).get(digest)

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        if digest in self.held:
            return self._far.open_blob(self.held[digest], digest, start=start, stop=stop)
        blob, where = self._blobs.get(digest), f"{self.name}/{repository}@{digest}"
        if blob is None or digest not in self.content.get(repository, ()):
            raise NotFound("there is no such blob", where=where, code="BLOB_UNKNOWN")
        if start < 0 or start > blob.size or (start == blob.size and blob.size):
            raise RegistryError(f"byte {start} is outside of the blob of {blob.size} bytes", where=where, status=416)
        end = blob.size if stop is None else min(stop, blob.size)
        return self._stream.reader(blob.offset + start, blob.offset + max(start, end), size=blob.size, first=start)

    def tags(self, repository: str) -> Iterator[str]:
        """See Registry; in ASCII order."""
        if repository not in self._manifests:
            raise NotFound("there is no such repository", where=f"{self.name}/{repository}", code="NAME_UNKNOWN")
        return iter(sorted(self._tags[repository]))

    def repositories(self) -> Iterator[str]:
        """See Registry; in ASCII order."""
        return iter(sorted(self._manifests))

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry: what the manifests in the bundle say themselves."""
        found = self._referrers.get((repository, digest), {}).values()
        return [each for each in found if not artifact_type or each.artifact_type == artifact_type]

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry; known without probing."""
        return Capabilities(referrers_api=True, mount=False, range_reads=True, delete=False, notes=("bundle",))

    def refusal(self, repository: str) -> Unsupported:
        """See ReadOnly."""
        return Unsupported("a bundle is only read", where=f"{self.name}/{repository}", do="Load it into a registry")


class _Links:
    """What a manifest says of others. entry: its own in a list of referrers."""

    __slots__ = ("blobs", "entry", "subject")

    def __init__(self, entry: Descriptor, subject: Digest | None, blobs: Sequence[Descriptor]) -> None:
        self.entry, self.subject, self.blobs = entry, subject, tuple(blobs)
