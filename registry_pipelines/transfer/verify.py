"""Compare two places digest for digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.interface import BUFFER_BYTES, Place
from registry_pipelines.transfer.closure import Closure, discover
from registry_pipelines.transfer.look import digest_at
from registry_pipelines.transfer.platforms import Selection

COMPARE_THREADS = 16
"""Small requests, so latency counts; with ``content`` also the number of blobs read at once (1 MiB each)."""


@dataclass(frozen=True)
class Mismatch:
    """One difference. ``subject``: the tag, manifest or blob; expected is what A has, found what B has ("" nothing)."""

    kind: Literal["root", "tag", "manifest", "blob", "referrer", "content"]
    subject: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: expected {self.expected or 'nothing'}, found {self.found or 'nothing'}"


def compare(
    a: Place,
    b: Place,
    reference: str,
    *,
    platforms: Sequence[Platform] = (),
    selection: Selection = "sparse",
    content: bool = False,
) -> list[Mismatch]:
    """Everything in which B differs from A for a tag or digest; empty when they are equal.

    A's closure is looked for at B: manifests by digest, blobs by digest and size, digest tags, and that B lists each
    referrer; what B has beyond A is told too. content: also read every blob of B and check its digest. Raises NotFound
    and ClosureIncomplete for A, RegistryError; what B lacks is a mismatch, never an error.
    """
    closure = discover(a, reference, platforms=platforms, selection=selection)
    return list(_Comparison(closure, b, content).run())


class _Comparison:
    def __init__(self, closure: Closure, place: Place, content: bool) -> None:
        self.closure, self.place, self.content = closure, place, content
        self.registry, self.repository = place.registry, place.repository

    def run(self) -> Iterator[Mismatch]:
        checks: list[Callable[[], list[Mismatch]]] = []
        if self.closure.by_tag:
            checks.append(lambda: self._tag("root", self.closure.reference, self.closure.root.digest))
        for tag, named in self.closure.digest_tags.items():
            checks.append(lambda tag=tag, named=named: self._tag("tag", tag, named))  # type: ignore[misc]
        for manifest in self.closure.manifests:
            checks.append(lambda digest=manifest.digest: self._manifest(digest))  # type: ignore[misc]
        for blob in self.closure.blobs.values():
            checks.append(lambda blob=blob: self._blob(blob))  # type: ignore[misc]
        with ThreadPoolExecutor(COMPARE_THREADS, thread_name_prefix="compare") as pool:
            for found in pool.map(lambda check: check(), checks):
                yield from found

    def _tag(self, kind: Literal["root", "tag"], tag: str, named: Digest) -> list[Mismatch]:
        found = digest_at(self.place, tag)
        return [] if found == named else [Mismatch(kind, tag, named, found or "")]

    def _manifest(self, digest: Digest) -> list[Mismatch]:
        if digest_at(self.place, digest) != digest:
            return [Mismatch("manifest", digest, digest, "")]
        there = {item.digest for item in self.registry.referrers(self.repository, digest)}
        here = {referrer for referrer, subject in self.closure.subjects.items() if subject == digest}
        lost = [Mismatch("referrer", f"of {digest}", item, "") for item in sorted(here - there)]
        return lost + [Mismatch("referrer", f"of {digest}", "", item) for item in sorted(there - here)]

    def _blob(self, blob: Descriptor) -> list[Mismatch]:
        size = self.registry.blob_size(self.repository, blob.digest)
        if size != blob.size:
            found = "" if size is None else f"{size} bytes"
            return [Mismatch("blob", blob.digest, f"{blob.size} bytes", found)]
        if not self.content:
            return []
        actual = self._hash(blob)
        return [] if actual == blob.digest else [Mismatch("content", blob.digest, blob.digest, actual)]

    def _hash(self, blob: Descriptor) -> str:
        hasher, buffer = blob.digest.hasher(), memoryview(bytearray(BUFFER_BYTES))
        try:
            with self.registry.open_blob(self.repository, blob.digest) as reader:
                while count := reader.readinto(buffer):
                    hasher.update(buffer[:count])
        except (ContentError, NotFound) as error:
            return error.what
        return f"{blob.digest.algorithm}:{hasher.hexdigest()}"
