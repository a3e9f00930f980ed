"""Compare two places digest for digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from registry_pipelines.errors import ContentError, ManifestInvalid, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Closure, Omission
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.closure.omissions import companions
from registry_pipelines.transfer.closure.platforms import Selection

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


@dataclass(frozen=True)
class Comparison:
    """Two places compared for one reference. Without differences they are equal in all that was compared."""

    differences: tuple[Mismatch, ...]
    not_compared: tuple[Omission, ...]
    """What belongs to the image and was not looked at, or could not be: no word about the copy covers it."""
    companions: frozenset[str] = frozenset()
    """Tags named after digests that were compared with it, or that keep a list which was."""


def compare(
    a: Place,
    b: Place,
    reference: str,
    *,
    platforms: Sequence[Platform] = (),
    selection: Selection = "sparse",
    content: bool = False,
    foreign_layers: bool = False,
) -> list[Mismatch]:
    """The differences of :func:`examine`: everything in which B differs from A for a tag or digest."""
    examination = examine(
        a, b, reference, platforms=platforms, selection=selection, content=content, foreign_layers=foreign_layers
    )
    return list(examination.differences)


def examine(
    a: Place,
    b: Place,
    reference: str,
    *,
    platforms: Sequence[Platform] = (),
    selection: Selection = "sparse",
    content: bool = False,
    foreign_layers: bool = False,
) -> Comparison:
    """Compare a tag or digest at two places, and say what was not compared.

    A's closure is looked for at B: manifests by digest, blobs by digest and size, digest tags, and that B lists each
    referrer; what B has beyond A is told too. content: also read every blob of B and check its digest. foreign_layers:
    B must have those that A holds; else it is only told where they are. Raises NotFound and ClosureIncomplete for A,
    RegistryError; what B lacks is a mismatch, never an error.
    """
    closure = discover(a, reference, platforms=platforms, selection=selection, foreign_layers=foreign_layers)
    comparison = _Comparison(closure, b, content)
    differences = tuple(comparison.run())
    left_out = (*comparison.left_out(), *comparison.doubtful)
    return Comparison(differences, left_out, frozenset(companions(closure)))


class _Comparison:
    def __init__(self, closure: Closure, place: Place, content: bool) -> None:
        self.closure, self.place, self.content = closure, place, content
        self.registry, self.repository = place.registry, place.repository
        self.doubtful: list[Omission] = []
        """What B lists as referrers and what is none."""

    def left_out(self) -> Iterator[Omission]:
        """What A's closure left out; of foreign layers also who holds them."""
        foreign = {item.digest: item for item in self.closure.foreign}
        for each in self.closure.omissions:
            layer = foreign.get(Digest(each.what)) if each.kind == "foreign-layer" else None
            yield replace(each, why=f"{each.why}; {self._who_holds(layer)}") if layer else each

    def _who_holds(self, layer: Descriptor) -> str:
        here, there = (
            place.registry.blob_size(place.repository, layer.digest) == layer.size
            for place in (self.closure.source, self.place)
        )
        if here == there:
            return "both places hold it" if here else "neither place holds it"
        return f"{self.closure.source if here else self.place} holds it, the other does not"

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
        with Pool(COMPARE_THREADS, "compare") as pool:
            for mismatches in pool.map(lambda check: check(), checks):
                yield from mismatches

    def _tag(self, kind: Literal["root", "tag"], tag: str, named: Digest) -> list[Mismatch]:
        digest = digest_at(self.place, tag)
        return [] if digest == named else [Mismatch(kind, tag, named, digest or "")]

    def _manifest(self, digest: Digest) -> list[Mismatch]:
        if digest_at(self.place, digest) != digest:
            return [Mismatch("manifest", digest, digest, "")]
        there = {item.digest for item in self.registry.referrers(self.repository, digest)}
        here = {referrer for referrer, subject in self.closure.subjects.items() if subject == digest}
        lost = [Mismatch("referrer", f"of {digest}", item, "") for item in sorted(here - there)]
        more = [item for item in sorted(there - here) if self._refers(item, digest)]
        return lost + [Mismatch("referrer", f"of {digest}", "", item) for item in more]

    def _refers(self, referrer: Digest, subject: Digest) -> bool:
        """Whether what B lists beyond A is a referrer by its own word; a list is only a claim."""
        try:
            stated = self.registry.get_manifest(self.repository, referrer).content().subject
            why = f"{self.place} lists it for {subject}, and it names no such subject"
        except (NotFound, ManifestInvalid):
            stated, why = None, f"{self.place} lists it for {subject}, and there is no such manifest"
        if stated is not None and stated.digest == subject:
            return True
        self.doubtful.append(Omission("referrer", referrer, why))
        return False

    def _blob(self, blob: Descriptor) -> list[Mismatch]:
        size = self.registry.blob_size(self.repository, blob.digest)
        if size != blob.size:
            actual = "" if size is None else f"{size} bytes"
            return [Mismatch("blob", blob.digest, f"{blob.size} bytes", actual)]
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
