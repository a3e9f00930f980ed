"""Finding what belongs to a reference: index, children, configs, layers, and the referrers of all of them, recursively.

Sources: image-spec 1.1 (image-index.md, manifest.md); distribution-spec 1.1 ("Listing Referrers", "Referrers Tag
Schema"); cosign's tag scheme (``sha256-<hex>.sig``, ``.att``, ``.sbom``).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Literal

import msgspec
from msgspec.structs import replace

from registry_pipelines.errors import ClosureIncomplete, ManifestInvalid, ManifestTooLarge, NotFound
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
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Closure, Omission, storing_order
from registry_pipelines.transfer.closure.digest_tags import DigestTags
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.closure.platforms import Selection, rewrite, select

MAX_CLOSURE_MANIFESTS = 10_000
"""Manifests of one closure; the largest real ones (40 platforms, each with a dozen attestations) have some hundreds."""

MAX_CLOSURE_BYTES = 64 * 1024 * 1024
"""Manifests of one closure, all of them together, which are held until it is copied. Those hundreds have 1 KiB to 10
KiB each; 10,000 of the largest permitted size would be 40 GiB of memory."""

MAX_REFERRER_DEPTH = 16
"""A signature of an attestation of an image is 2; a registry that invents ever new referrers is stopped here."""

LOOKUP_THREADS = 8
"""Manifests and referrers of one closure looked up at once; small requests, so latency and not bandwidth counts."""

DISCOVERY_THREADS = 16
"""Closures looked up at once, each with a few lookups of its own."""

_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable."


def discover(
    place: Place,
    reference: str,
    *,
    platforms: Sequence[Platform] = (),
    selection: Selection = "sparse",
    cache: ManifestFolder | None = None,
    digest_tags: DigestTags | None = None,
    foreign_layers: bool = False,
) -> Closure:
    """Find the closure of a tag or digest; reads manifests and referrers only, no blobs.

    platforms: index children to keep, all when empty. cache: manifests already known, so that they cost no request.
    foreign_layers: take those too that their publisher keeps elsewhere, where the source holds them (one HEAD each);
    the addresses in their descriptors are never asked.
    digest_tags: the repository's tags that are named after digests, when the caller listed them already (one list
    serves many references). A referrer that is listed wrongly, gone or not whole is left out and named in
    ``unbelieved``: who copies cannot repair the source.
    Raises NotFound (the reference), ClosureIncomplete (a piece of it is missing or endless), ManifestInvalid (also: no
    child for a platform), RegistryError.
    """
    with Pool(LOOKUP_THREADS, "closure") as pool:
        return _Search(place, reference, platforms, selection, cache, pool, foreign_layers).run(digest_tags)


class _Wanted(msgspec.Struct):
    """Something to open. via: the referrer, or what a cosign tag names, that led to it and that can be left out; None
    for what the reference itself needs."""

    digest: Digest
    why: str
    index_depth: int = 0
    referrer_depth: int = 0
    subject: Digest | None = None
    via: Digest | None = None
    tag: str = ""


class _Opened(msgspec.Struct):
    manifest: ManifestBytes
    content: Manifest | Index
    referrers: list[Descriptor]
    tagged: dict[str, Descriptor]


class _Search:
    def __init__(
        self,
        place: Place,
        reference: str,
        platforms: Sequence[Platform],
        selection: Selection,
        cache: ManifestFolder | None,
        pool: Executor,
        foreign_layers: bool,
    ) -> None:
        self.place, self.reference, self.platforms, self.selection = place, reference, tuple(platforms), selection
        self.cache, self.pool, self.foreign_layers = cache, pool, foreign_layers
        self.manifests: dict[Digest, ManifestBytes] = {}
        self.contents: dict[Digest, Manifest | Index] = {}
        self.absent: dict[Digest, Descriptor] = {}
        self.foreign: dict[Digest, Descriptor] = {}
        self.blobs: dict[Digest, Descriptor] = {}
        self.blobs_of: dict[Digest, tuple[Digest, ...]] = {}
        self.subjects: dict[Digest, Digest] = {}
        self.digest_tags: dict[str, Digest] = {}
        self.leads_to: dict[Digest, set[Digest]] = defaultdict(set)
        self.via: dict[Digest, Digest | None] = {}
        self.claims: dict[Digest, Omission] = {}
        """What is listed, or under a tag, and not believed. It may belong to the closure for another reason."""
        self.doubts: dict[Digest, Omission] = {}
        """What was opened and is not whole further below."""
        self.bad_lists: dict[str, Omission] = {}
        self.opened = 0
        self.held_bytes = 0
        self.holding = threading.Lock()

    def run(self, digest_tags: DigestTags | None) -> Closure:
        root = self._root()
        self._hold(len(root.raw))
        self.tags = digest_tags if digest_tags is not None else DigestTags.of(self.place)
        level = [_Wanted(root.digest, "the reference")]
        where = f"{self.place}@{root.digest}"
        rewritten = rewrite(root, self.platforms, where=where) if self.selection == "rewritten" else None
        named = root.digest if rewritten else None
        behind: list[Omission] = []
        if rewritten:
            top = _Wanted(rewritten.digest, "the reference")
            self._accept(top, rewritten, rewritten.content())
            level = self._below(top, rewritten)
            behind = self._left_behind(root.digest)
            root = rewritten
        else:
            self.manifests[root.digest] = root
        while level:
            level = self._next_level(level)
        self._find_blobs()
        self._prune(root.digest)
        return Closure(
            source=self.place,
            reference=self.reference,
            root=root.descriptor,
            manifests=tuple(self.manifests[digest] for digest in storing_order(self.contents)),
            blobs=self.blobs,
            blobs_of=self.blobs_of,
            digest_tags=self.digest_tags,
            subjects=self.subjects,
            absent=tuple(self.absent.values()),
            foreign=tuple(self.foreign.values()),
            named=named,
            behind=tuple(behind),
            unbelieved=tuple(self._unbelieved()),
            foreign_layers=self.foreign_layers,
        )

    def _unbelieved(self) -> Iterator[Omission]:
        yield from (each for digest, each in self.doubts.items() if digest not in self.contents)
        for digest, each in self.claims.items():
            yield replace(each, kind="claim") if digest in self.contents else each
        yield from self.bad_lists.values()

    def _left_behind(self, index: Digest) -> list[Omission]:
        """What refers to an index that is written anew, named only."""
        why = "it is about the whole index, and a new one is written"
        referrers = self._listed(index)
        behind = [Omission("referrer", referrer.digest, why, referrer.size) for referrer in referrers]
        return [*behind, *(Omission("tag", tag, why) for tag in self.tags.signatures(index))]

    def _root(self) -> ManifestBytes:
        if self.cache is None or (self.cache.is_new and not self._learnt()):
            manifest = self.place.registry.get_manifest(self.place.repository, self.reference)
            if self.cache:
                self.cache.keep_manifest(manifest)
            return manifest
        try:
            top = self.place.registry.resolve(self.place.repository, self.reference)
        except NotFound:  # some registries say more to a reader: that the image is archived
            return self.place.registry.get_manifest(self.place.repository, self.reference)
        return self._fetch(top.digest)

    def _learnt(self) -> bool:
        """Whether a digest's manifest is there all the same: from another place that had it."""
        return ":" in self.reference and bool(self.cache and self.cache.manifest(Digest.parse(self.reference)))

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
        new: dict[Digest, list[_Wanted]] = {}
        for wanted in level:
            if wanted.digest not in self.contents:
                new.setdefault(wanted.digest, []).append(wanted)
        self.opened += len(new)
        if self.opened > MAX_CLOSURE_MANIFESTS:
            raise self._incomplete(f"more than {MAX_CLOSURE_MANIFESTS} manifests belong to it")
        following: list[_Wanted] = []
        each = self.pool.map if len(new) > 1 else map  # for one, which is the most frequent, no thread is begun
        results = list(each(self._look_up, new.values()))
        for group, opened in zip(new.values(), results, strict=True):
            if isinstance(opened, str):
                self._doubt(group, opened)
            else:
                wanted = _firmest(group)
                self._accept(wanted, opened.manifest, opened.content)
                following += [*self._below(wanted, opened.manifest), *self._beside(wanted, opened)]
        for wanted in level:
            self._relate(wanted)
        return following

    def _beside(self, wanted: _Wanted, opened: _Opened) -> Iterator[_Wanted]:
        """What refers to a manifest, or is named after it."""
        depth = wanted.referrer_depth + 1
        if depth > MAX_REFERRER_DEPTH and (opened.referrers or opened.tagged):
            raise self._incomplete(f"referrers are nested more than {MAX_REFERRER_DEPTH} deep at {wanted.digest}")
        for each in opened.referrers:
            why = f"listed as a referrer of {wanted.digest}"
            yield _Wanted(each.digest, why, 0, depth, subject=wanted.digest, via=each.digest)
        for tag, each in opened.tagged.items():
            yield _Wanted(
                each.digest, f"under the tag {tag}", 0, depth, subject=wanted.digest, via=each.digest, tag=tag
            )

    def _look_up(self, group: list[_Wanted]) -> _Opened | str:
        """What is there, or why it is left out. Raises ClosureIncomplete, ManifestInvalid for what cannot be."""
        wanted = _firmest(group)
        self._hold(0)  # others may have found too much while this one waited for its turn
        manifest = self.manifests.get(wanted.digest)
        try:
            if manifest is None:
                manifest = self._fetch(wanted.digest)
                self._hold(len(manifest.raw))
            content = manifest.content()
        except NotFound as error:
            if wanted.via is None:
                raise self._incomplete(f"{wanted.digest} ({wanted.why}) is missing") from error
            return "is not there"
        except (ManifestInvalid, ManifestTooLarge) as error:
            if wanted.via is None:
                raise
            return f"cannot be read: {error.what}"
        if not any(_is_true(each, content) for each in group):
            self.manifests[manifest.digest] = manifest  # it may be wanted for another reason
            return _says_otherwise(content)
        return _Opened(manifest, content, self._listed(wanted.digest), self.tags.signatures(wanted.digest))

    def _listed(self, subject: Digest) -> list[Descriptor]:
        """What the registry lists, and what is listed under the tag; a list that is none is named."""
        referrers = {one.digest: one for one in self.place.registry.referrers(self.place.repository, subject, tags=())}
        tag_list = self.tags.list_of(subject)
        for entry in tag_list.entries:
            referrers.setdefault(entry.digest, entry)
        tag = subject.fallback_tag
        if tag_list.refused and tag != self.reference and not self.tags.is_told(tag):
            self.bad_lists[tag] = Omission("tag", tag, tag_list.refused)
        elif tag_list.unreadable:
            self.bad_lists[tag] = Omission(
                "tag", tag, f"{count_text(tag_list.unreadable, 'entry', 'entries')} of this list cannot be read"
            )
        return list(referrers.values())

    def _doubt(self, group: list[_Wanted], what: str) -> None:
        """Leave out what led here; of a referrer that is an index, all of it."""
        for wanted in group:
            if wanted.via == wanted.digest:
                self._disbelieve(wanted, what)
            elif wanted.via is not None:
                why = f"{wanted.digest} ({wanted.why}) {what}"
                self.doubts.setdefault(wanted.via, Omission("referrer", wanted.via, why))

    def _disbelieve(self, wanted: _Wanted, what: str) -> None:
        kind: Literal["tag", "referrer"] = "tag" if wanted.tag else "referrer"
        omission = Omission(kind, wanted.tag or wanted.digest, f"it is {wanted.why} and {what}")
        self.claims.setdefault(wanted.digest, omission)

    def _accept(self, wanted: _Wanted, manifest: ManifestBytes, content: Manifest | Index) -> None:
        self.manifests[manifest.digest] = manifest
        self.contents[manifest.digest] = content
        self.via[manifest.digest] = wanted.via

    def _relate(self, wanted: _Wanted) -> None:
        """A listing is only a claim, and a fallback tag can be edited: the manifest itself must say what it refers to.
        This also ends circles, because no manifest can contain a digest of something that contains its own."""
        content = self.contents.get(wanted.digest)
        if wanted.subject is None or content is None:
            return
        if not _is_true(wanted, content):
            self._disbelieve(wanted, _says_otherwise(content))
            return
        self.leads_to[wanted.subject].add(wanted.digest)
        if wanted.tag:
            self.digest_tags[wanted.tag] = wanted.digest
        else:
            self.subjects[wanted.digest] = wanted.subject

    def _find_blobs(self) -> None:
        """Every blob once, those of the reference itself first: a referrer that says another size of one is wrong."""
        firm = [digest for digest, via in self.via.items() if via is None]
        for digest in (*firm, *(digest for digest, via in self.via.items() if via is not None)):
            blobs = list(self._blobs(self.contents[digest]))
            for blob in blobs:
                known = self.blobs.get(blob.digest, blob)
                if known.size != blob.size:
                    what = f"blob {blob.digest} has two sizes, {known.size} and {blob.size}"
                    via = self.via[digest]
                    if via is None:
                        raise ManifestInvalid(what, where=str(self.place))
                    self.doubts.setdefault(via, Omission("referrer", via, f"in {digest}, {what}"))
                    break
            else:
                self.blobs.update({blob.digest: blob for blob in blobs if blob.digest not in self.blobs})
                self.blobs_of[digest] = tuple(dict.fromkeys(blob.digest for blob in blobs))

    def _blobs(self, content: Manifest | Index) -> Iterator[Descriptor]:
        for descriptor in descriptors(content):
            if isinstance(content, Index) and descriptor.is_manifest:
                continue
            if descriptor.urls and _is_foreign(descriptor) and not self._brings(descriptor):
                self.foreign[descriptor.digest] = descriptor
            else:
                yield descriptor

    def _prune(self, root: Digest) -> None:
        """Leave out what is in doubt with all that only it leads to."""
        if not self.doubts.keys() & self.contents.keys():
            return
        reached: set[Digest] = set()
        waiting = [root]
        while waiting:
            digest = waiting.pop()
            if digest in reached or digest not in self.contents:
                continue
            reached.add(digest)
            content = self.contents[digest]
            waiting += [child.digest for child in content.manifests] if isinstance(content, Index) else []
            waiting += [each for each in self.leads_to[digest] if each not in self.doubts]
        self.contents = {digest: content for digest, content in self.contents.items() if digest in reached}
        self.subjects = {one: subject for one, subject in self.subjects.items() if {one, subject} <= reached}
        self.digest_tags = {tag: digest for tag, digest in self.digest_tags.items() if digest in reached}
        self.blobs_of = {digest: blobs for digest, blobs in self.blobs_of.items() if digest in reached}
        held = {blob for blobs in self.blobs_of.values() for blob in blobs}
        self.blobs = {digest: blob for digest, blob in self.blobs.items() if digest in held}

    def _brings(self, layer: Descriptor) -> bool:
        """Whether a foreign layer comes along: it is wanted, and the source holds it."""
        if not self.foreign_layers or layer.digest in self.foreign:
            return False
        place = self.place
        return layer.digest in self.blobs or place.registry.blob_size(place.repository, layer.digest) == layer.size

    def _below(self, wanted: _Wanted, manifest: ManifestBytes) -> list[_Wanted]:
        content = self.contents[manifest.digest]
        if not isinstance(content, Index):
            return []
        if wanted.index_depth >= MAX_DEPTH:
            raise self._incomplete(f"indexes are nested more than {MAX_DEPTH} deep at {manifest.digest}")
        # Platforms are chosen of the image, never of what refers to it.
        platforms = self.platforms if wanted.via is None else ()
        chosen = select(content.manifests, platforms, where=f"{self.place}@{manifest.digest}")
        keys = {child.digest for child in chosen}
        self.absent.update({child.digest: child for child in content.manifests if child.digest not in keys})
        why = f"child of {manifest.digest}"
        return [
            _Wanted(child.digest, why, wanted.index_depth + 1, wanted.referrer_depth, via=wanted.via)
            for child in chosen
            if child.is_manifest
        ]

    def _incomplete(self, what: str, *, do: str = "Push the image again at the source, or copy another") -> Exception:
        return ClosureIncomplete(what, where=f"{self.place} ({self.reference})", do=do)


def _firmest(group: list[_Wanted]) -> _Wanted:
    """Of several reasons to open one manifest, the one that makes it needed."""
    return min(group, key=lambda wanted: wanted.via is not None)


def _is_true(wanted: _Wanted, content: Manifest | Index) -> bool:
    if wanted.subject is None or wanted.tag:
        return True
    return content.subject is not None and content.subject.digest == wanted.subject


def _says_otherwise(content: Manifest | Index) -> str:
    return f"names {f'{content.subject.digest} as its subject' if content.subject else 'no subject'}"


def _is_foreign(descriptor: Descriptor) -> bool:
    return descriptor.media_type == DOCKER_FOREIGN_LAYER or descriptor.media_type.startswith(_NONDISTRIBUTABLE)
