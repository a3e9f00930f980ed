"""What belongs to a reference: index, children, configs, layers, and the referrers of all of them, recursively.

A copy moves closures, never images: a signature that stays behind is a lost signature. Sources: image-spec 1.1
(image-index.md, manifest.md); distribution-spec 1.1 ("Listing Referrers", "Referrers Tag Schema"); cosign's tag scheme
(``sha256-<hex>.sig``, ``.att``, ``.sbom``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from registry_pipelines.errors import ClosureIncomplete, Forbidden, ManifestInvalid, NotFound, Refused, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_DEPTH,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    descriptors,
)
from registry_pipelines.oci.media_types import DOCKER_FOREIGN_LAYER
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.platforms import Selection, rewrite, select
from registry_pipelines.transfer.pools import Pool

MAX_CLOSURE_MANIFESTS = 10_000
"""Manifests of one closure; the largest real ones (40 platforms, each with a dozen attestations) have some hundreds."""

MAX_CLOSURE_BYTES = 64 * 1024 * 1024
"""Manifests of one closure, all of them together, which are held until it is copied. Those hundreds have 1 KiB to 10
KiB each; 10,000 of the largest permitted size would be 40 GiB of memory."""

MAX_REFERRER_DEPTH = 16
"""A signature of an attestation of an image is 2; a registry that invents ever new referrers is stopped here."""

LOOKUP_THREADS = 8
"""Manifests and referrers of one closure looked up at once; small requests, so latency and not bandwidth counts."""

MAX_TAG_CHARACTERS = 128
"""Distribution-spec 1.1, "Pulling manifests"."""

COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""Suffixes of cosign's digest tags (cosign specs/SIGNATURE_SPEC.md, "Storage")."""

DIGEST_TAG_PREFIXES = ("sha256-", "sha512-")

CUT_LISTS = (100, 1000)
"""Tags in a list that some registries end there, without a ``Link`` to more: the usual pages."""

_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable."


class ManifestCache(Protocol):
    """Manifests known by digest; content by digest never changes, so a hit saves a request for good. is_new: it was
    empty when it was opened, so what a tag names is fetched at once, without asking first which digest that is."""

    is_new: bool

    def manifest(self, digest: Digest) -> ManifestBytes | None:
        """The cached bytes."""
        ...

    def keep_manifest(self, manifest: ManifestBytes) -> None:
        """Remember the bytes."""
        ...


@dataclass(frozen=True)
class Omission:
    """Something that a copy of a closure does not bring, and why. what: digest or tag. size_bytes: 0 where unknown.

    ``foreign-layer``: content that its publisher keeps elsewhere. ``platform``: a child that was not chosen.
    ``repository``: one that the registry lists and a sync never takes.
    ``referrer``: listed at the source, but not there, or none by its own word. ``tag``: a tag named after a digest that
    is not what its name says.
    """

    kind: Literal["foreign-layer", "platform", "referrer", "tag", "repository"]
    what: str
    why: str
    size_bytes: int = 0


@dataclass(frozen=True)
class Closure:
    """Everything that belongs to a reference, as found at one place."""

    source: Place
    reference: str
    """What was asked for: a tag or a digest."""
    root: Descriptor
    manifests: tuple[ManifestBytes, ...]
    """In the order to store them: children before parents, subjects before referrers."""
    blobs: Mapping[Digest, Descriptor]
    """Every config and layer once."""
    blobs_of: Mapping[Digest, tuple[Digest, ...]]
    """Manifest digest to the digests of its blobs."""
    digest_tags: Mapping[str, Digest] = field(default_factory=dict)
    """cosign's ``.sig``, ``.att`` and ``.sbom`` tags with what they name."""
    subjects: Mapping[Digest, Digest] = field(default_factory=dict)
    """Referrer to its subject, both in this closure."""
    absent: tuple[Descriptor, ...] = ()
    """Index children left out by the platform selection."""
    foreign: tuple[Descriptor, ...] = ()
    """Non-distributable layers with URLs of their own; registries accept their manifests without them."""
    unbelieved: tuple[Omission, ...] = ()
    """What the source lists wrongly: left out and named, never a reason not to copy the image."""
    behind: tuple[Omission, ...] = ()
    """What refers to an index that was written anew: it is about other bytes, so it stays where it is."""
    foreign_layers: bool = False
    """Whether foreign layers that the source holds are among the blobs; ``foreign`` are then those it does not hold."""
    named: Digest | None = None
    """What the reference names at the source where that is not the root, because the index was written anew."""

    @property
    def by_tag(self) -> bool:
        """Whether it was asked for by a tag; a digest has a colon, a tag never."""
        return ":" not in self.reference

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs and manifests, each counted once."""
        return sum(blob.size for blob in self.blobs.values()) + sum(len(item.raw) for item in self.manifests)

    @property
    def omissions(self) -> tuple[Omission, ...]:
        """All that a copy does not bring, to be told wherever it is told what a copy brings."""
        kept = "its publisher keeps it elsewhere" + (", and the source does not hold it" if self.foreign_layers else "")
        foreign = (Omission("foreign-layer", item.digest, kept, item.size) for item in self.foreign)
        absent = (
            Omission("platform", item.digest, f"platform {item.platform or 'unnamed'} was not chosen", item.size)
            for item in self.absent
        )
        return (*foreign, *absent, *self.behind, *self.unbelieved)

    def left_out(self, manifest: ManifestBytes) -> tuple[Descriptor, ...]:
        """The children of an index that the platform selection left out; none for anything else."""
        content = manifest.content() if self.absent else None
        absent = {item.digest for item in self.absent}
        children = content.manifests if isinstance(content, Index) else ()
        return tuple(child for child in children if child.digest in absent)

    @property
    def descriptors(self) -> Iterator[Descriptor]:
        """All manifests, then all blobs."""
        yield from (item.descriptor for item in self.manifests)
        yield from self.blobs.values()


def discover(
    place: Place,
    reference: str,
    *,
    platforms: Sequence[Platform] = (),
    selection: Selection = "sparse",
    cache: ManifestCache | None = None,
    digest_tags: Sequence[str] | None = None,
    foreign_layers: bool = False,
) -> Closure:
    """Find the closure of a tag or digest; reads manifests and referrers only, no blobs.

    platforms: index children to keep, all when empty. cache: manifests already known, so that they cost no request.
    foreign_layers: take those too that their publisher keeps elsewhere, where the source holds them (one HEAD each);
    the addresses in their descriptors are never asked.
    digest_tags: the repository's tags that are named after digests, when the caller listed them already (one list
    serves many references).
    Raises NotFound (the reference), ClosureIncomplete (a piece of it is missing, listed wrongly, or endless),
    ManifestInvalid (also: no child for a platform), RegistryError.
    """
    with Pool(LOOKUP_THREADS, "closure") as pool:
        return _Search(place, reference, platforms, selection, cache, pool, foreign_layers).run(digest_tags)


def named_after_digests(tags: Iterable[str]) -> list[str] | None:
    """The tags that belong to a digest: fallback tags (distribution-spec 1.1, "Referrers Tag Schema") and cosign's.
    None when the list may have been cut: what is not in it may be there all the same."""
    every = list(tags)
    if len(every) in CUT_LISTS:
        return None
    return [tag for tag in every if tag.startswith(DIGEST_TAG_PREFIXES)]


def digest_tags_of(place: Place) -> list[str] | None:
    """The tags named after digests of a repository that is there; None where tags cannot be listed."""
    try:
        return named_after_digests(place.registry.tags(place.repository))
    except (Unsupported, Forbidden, Refused):
        return None
    except NotFound as error:
        # docker-registry says NAME_UNKNOWN of repositories without tags. Any other 404 may be a registry without lists,
        # such as files behind a web server, and then a signature under a tag would be overlooked.
        return [] if error.code == "NAME_UNKNOWN" else None


@dataclass
class _Wanted:
    digest: Digest
    why: str
    index_depth: int = 0
    referrer_depth: int = 0
    subject: Digest | None = None


class _Search:
    def __init__(
        self,
        place: Place,
        reference: str,
        platforms: Sequence[Platform],
        selection: Selection,
        cache: ManifestCache | None,
        pool: Executor,
        foreign_layers: bool,
    ) -> None:
        self.place, self.reference, self.platforms, self.selection = place, reference, tuple(platforms), selection
        self.cache, self.pool, self.foreign_layers = cache, pool, foreign_layers
        self.found: dict[Digest, ManifestBytes] = {}
        self.contents: dict[Digest, Manifest | Index] = {}
        self.absent: dict[Digest, Descriptor] = {}
        self.foreign: dict[Digest, Descriptor] = {}
        self.blobs: dict[Digest, Descriptor] = {}
        self.blobs_of: dict[Digest, tuple[Digest, ...]] = {}
        self.subjects: dict[Digest, Digest] = {}
        self.digest_tags: dict[str, Digest] = {}
        self.tags: frozenset[str] | None = None
        self.lists_longer = False
        self.held_bytes = 0
        self.holding = threading.Lock()

    def run(self, digest_tags: Sequence[str] | None) -> Closure:
        root = self._root()
        self._hold(len(root.raw))
        listed = digest_tags if digest_tags is not None else digest_tags_of(self.place)
        self.tags = None if listed is None else frozenset(listed)
        self.lists_longer = any(tag.partition(".")[0] in (self.tags or ()) for tag in listed or () if "." in tag)
        level = [_Wanted(root.digest, "the reference")]
        where = f"{self.place}@{root.digest}"
        rewritten = rewrite(root, self.platforms, where=where) if self.selection == "rewritten" else None
        named = root.digest if rewritten else None
        behind: list[Omission] = []
        if rewritten:
            self._accept(rewritten)
            level = [_Wanted(child.digest, f"child of {rewritten.digest}", 1) for child in self._children(rewritten)]
            behind = self._left_behind(root.digest)
            root = rewritten
        else:
            self.found[root.digest] = root
        while level:
            level = self._next_level(level)
        return Closure(
            source=self.place,
            reference=self.reference,
            root=root.descriptor,
            manifests=tuple(self._storing_order()),
            blobs=self.blobs,
            blobs_of=self.blobs_of,
            digest_tags=self.digest_tags,
            subjects=self.subjects,
            absent=tuple(self.absent.values()),
            foreign=tuple(self.foreign.values()),
            named=named,
            behind=tuple(behind),
            foreign_layers=self.foreign_layers,
        )

    def _left_behind(self, index: Digest) -> list[Omission]:
        """What refers to an index that is written anew, named only."""
        registry, repository = self.place.registry, self.place.repository
        why = "it is about the whole index, and a new one is written"
        found = registry.referrers(repository, index, tags=self.tags)
        behind = [Omission("referrer", referrer.digest, why, referrer.size) for referrer in found]
        for tag in self._candidate_tags(index):
            try:
                registry.resolve(repository, tag)
            except NotFound:
                continue
            behind.append(Omission("tag", tag, why))
        return behind

    def _root(self) -> ManifestBytes:
        if self.cache is None or self.cache.is_new:
            found = self.place.registry.get_manifest(self.place.repository, self.reference)
            if self.cache:
                self.cache.keep_manifest(found)
            return found
        top = self.place.registry.resolve(self.place.repository, self.reference)
        return self._fetch(top.digest)

    def _fetch(self, digest: Digest) -> ManifestBytes:
        known = self.cache.manifest(digest) if self.cache else None
        if known is not None:
            return known
        manifest = self.place.registry.get_manifest(self.place.repository, digest)
        if self.cache:
            self.cache.keep_manifest(manifest)
        return manifest

    def _hold(self, byte_count: int) -> None:
        with self.holding:
            self.held_bytes += byte_count
        if self.held_bytes > MAX_CLOSURE_BYTES:
            what = f"the manifests that belong to it have more than {MAX_CLOSURE_BYTES >> 20} MiB together"
            raise self._incomplete(what, do="Look at what refers to it at the source, or copy single platforms")

    def _next_level(self, level: list[_Wanted]) -> list[_Wanted]:
        new = {wanted.digest: wanted for wanted in level if wanted.digest not in self.contents}
        if len(self.contents) + len(new) > MAX_CLOSURE_MANIFESTS:
            raise self._incomplete(f"more than {MAX_CLOSURE_MANIFESTS} manifests belong to it")
        following: list[_Wanted] = []
        each = self.pool.map if len(new) > 1 else map  # for one, which is the most frequent, no thread is begun
        results = list(each(self._look_up, new.values()))
        for wanted, (manifest, referrers, tagged) in zip(new.values(), results, strict=True):
            self._accept(manifest)
            following += self._below(wanted, manifest)
            depth = wanted.referrer_depth + 1
            if depth > MAX_REFERRER_DEPTH and (referrers or tagged):
                raise self._incomplete(f"referrers are nested more than {MAX_REFERRER_DEPTH} deep at {wanted.digest}")
            for referrer in referrers:
                why = f"referrer of {wanted.digest}"
                following.append(_Wanted(referrer.digest, why, 0, depth, subject=wanted.digest))
            for tag, descriptor in tagged.items():
                self.digest_tags[tag] = descriptor.digest
                following.append(_Wanted(descriptor.digest, f"tag {tag}", 0, depth))
        for wanted in level:
            self._check_subject(wanted)
        return following

    def _look_up(self, wanted: _Wanted) -> tuple[ManifestBytes, list[Descriptor], dict[str, Descriptor]]:
        registry, repository = self.place.registry, self.place.repository
        self._hold(0)  # others may have found too much while this one waited for its turn
        manifest = self.found.get(wanted.digest)
        try:
            if manifest is None:
                manifest = self._fetch(wanted.digest)
                self._hold(len(manifest.raw))
        except NotFound as error:
            raise self._incomplete(f"{wanted.digest} ({wanted.why}) is missing") from error
        referrers = registry.referrers(repository, wanted.digest, tags=self.tags)
        tagged = {}
        for tag in self._candidate_tags(wanted.digest):
            try:
                tagged[tag] = registry.resolve(repository, tag)
            except NotFound:
                continue
        return manifest, referrers, tagged

    def _candidate_tags(self, digest: Digest) -> list[str]:
        names = [f"{digest.algorithm}-{digest.hex}{suffix}" for suffix in COSIGN_SUFFIXES]
        if self.tags is None:  # of a SHA-512 they are longer than a tag may be, so nobody has them
            return [name for name in names if len(name) <= MAX_TAG_CHARACTERS]
        if digest.fallback_tag in self.tags and not self.lists_longer:
            return names  # distribution 3.1 on S3 leaves out of a list what begins with a listed tag (its issue 4891)
        return [name for name in names if name in self.tags]

    def _accept(self, manifest: ManifestBytes) -> Manifest | Index:
        content = manifest.content()
        self.found[manifest.digest] = manifest
        self.contents[manifest.digest] = content
        blobs = []
        for descriptor in descriptors(content):
            if isinstance(content, Index) and descriptor.is_manifest:
                continue
            if descriptor.urls and _is_foreign(descriptor) and not self._brings(descriptor):
                self.foreign[descriptor.digest] = descriptor
                continue
            known = self.blobs.setdefault(descriptor.digest, descriptor)
            if known.size != descriptor.size:
                raise ManifestInvalid(
                    f"blob {descriptor.digest} has two sizes, {known.size} and {descriptor.size}", where=str(self.place)
                )
            blobs.append(descriptor.digest)
        self.blobs_of[manifest.digest] = tuple(dict.fromkeys(blobs))
        return content

    def _brings(self, layer: Descriptor) -> bool:
        """Whether a foreign layer comes along: it is wanted, and the source holds it."""
        if not self.foreign_layers or layer.digest in self.foreign:
            return False
        place = self.place
        return layer.digest in self.blobs or place.registry.blob_size(place.repository, layer.digest) == layer.size

    def _check_subject(self, wanted: _Wanted) -> None:
        """A listing is only a claim, and a fallback tag can be edited: the manifest itself must say what it refers to.
        This also ends circles, because no manifest can contain a digest of something that contains its own."""
        if wanted.subject is None:
            return
        stated = self.contents[wanted.digest].subject
        actual = stated.digest if stated else None
        if actual != wanted.subject:
            raise self._incomplete(
                f"{wanted.digest} is listed as a referrer of {wanted.subject} but refers to {actual or 'nothing'}",
                do="Repair the referrers list (or its fallback tag) at the source, then copy again",
            )
        self.subjects[wanted.digest] = wanted.subject

    def _below(self, wanted: _Wanted, manifest: ManifestBytes) -> list[_Wanted]:
        content = self.contents[manifest.digest]
        if not isinstance(content, Index):
            return []
        if wanted.index_depth >= MAX_DEPTH:
            raise self._incomplete(f"indexes are nested more than {MAX_DEPTH} deep at {manifest.digest}")
        kept = self._children(manifest)
        keys = {child.digest for child in kept}
        self.absent.update({child.digest: child for child in content.manifests if child.digest not in keys})
        why = f"child of {manifest.digest}"
        return [
            _Wanted(child.digest, why, wanted.index_depth + 1, wanted.referrer_depth)
            for child in kept
            if child.is_manifest
        ]

    def _children(self, manifest: ManifestBytes) -> tuple[Descriptor, ...]:
        content = self.contents[manifest.digest]
        if not isinstance(content, Index):
            return ()
        return select(content.manifests, self.platforms, where=f"{self.place}@{manifest.digest}")

    def _storing_order(self) -> list[ManifestBytes]:
        order: dict[Digest, ManifestBytes] = {}
        for start in self.contents:
            stack = [(start, False)]
            while stack:
                digest, ready = stack.pop()
                if digest in order or digest not in self.contents:
                    continue
                if ready:
                    order[digest] = self.found[digest]
                    continue
                stack.append((digest, True))
                content = self.contents[digest]
                below = content.manifests if isinstance(content, Index) else ()
                first = [child.digest for child in below]
                if content.subject:
                    first.append(content.subject.digest)
                stack.extend((item, False) for item in first)
        return list(order.values())

    def _incomplete(self, what: str, *, do: str = "Push the image again at the source, or copy another") -> Exception:
        return ClosureIncomplete(what, where=f"{self.place} ({self.reference})", do=do)


def _is_foreign(descriptor: Descriptor) -> bool:
    return descriptor.media_type == DOCKER_FOREIGN_LAYER or descriptor.media_type.startswith(_NONDISTRIBUTABLE)
