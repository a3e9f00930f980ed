"""What is in a repository: every manifest that a tag, an index or a referrer leads to, and what each one needs.

The distribution API lists tags only, so manifests that nothing leads to are not seen; registries collect those
themselves. Anything unclear (an error, a tag that moves while it is read) raises: a survey is whole or it is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime

from registry_pipelines.errors import ClosureIncomplete, ManifestInvalid, ManifestTooLarge, NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import HEX_LENGTHS, Digest
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    descriptors,
    read_image_config,
)
from registry_pipelines.oci.referrers import read_fallback
from registry_pipelines.oci.times import read_created
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import KeepsTagged, Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import DigestTags

MAX_TAGS = 200_000
"""Tags of one repository; ECR permits 100,000 images."""

MAX_MANIFESTS = 500_000
"""Manifests of one repository; each costs about 1 KB of memory here."""

SURVEY_THREADS = 8
"""Small requests at once: latency counts, and more would starve pulls of their request limits."""

COMPANION_SUFFIXES = ("", ".sig", ".att", ".sbom")
"""Of tags named after a digest: the referrers fallback tag (distribution-spec 1.1) and cosign's."""

UNREAD_INDEX = "an index of the repository cannot be read (archived), and may list it"
"""Why what has no tag stays where an index is in ECR's archive."""

_NAMED_AFTER = tuple(f"{algorithm}-" for algorithm in HEX_LENGTHS)

CREATED = "org.opencontainers.image.created"
_CACHED_AT = "buildkit/createdat"
"""Annotation of a layer in a BuildKit cache of the registry, as BuildKit 0.26 writes it."""


@dataclass(frozen=True)
class Node:
    """One manifest. children: of an index, those that are there; images: those of them that tell its age (BuildKit's
    attestations, for platform ``unknown``, do not). missing: of an index, those that are not there. blobs: digest to
    bytes, itself included. created: None when unknown. pushed: when the registry took it, where it says so. referrers:
    manifests that are listed so, which says nothing about their subject. is_list: whether it may be a list of
    referrers. media_type, artifact_type: as the manifest says them (the config's type where it has none).
    """

    digest: Digest
    size_bytes: int
    children: tuple[Digest, ...] = ()
    images: tuple[Digest, ...] = ()
    subject: Digest | None = None
    referrers: tuple[Digest, ...] = ()
    blobs: Mapping[Digest, int] = field(default_factory=dict)
    created: datetime | None = None
    is_list: bool = False
    media_type: str = ""
    artifact_type: str = ""
    layers: int | None = None
    missing: tuple[Digest, ...] = ()
    pushed: datetime | None = None

    @property
    def age_from(self) -> datetime | None:
        """When its age begins: its own time or the push, whichever is later. An old image that was mirrored yesterday
        is new here, and one that names no time is as old as its push."""
        if self.created is None or self.pushed is None:
            return self.created or self.pushed
        return max(self.created, self.pushed)


@dataclass(frozen=True)
class Survey:
    """A repository at one moment. tags: name to digest. nodes: all manifests found. keeps_tagged: the registry deletes
    nothing in it that has a tag. unreadable: names of tags (:attr:`Digest.fallback_tag`) for what is there and is no
    manifest. held: manifests that stay for a reason of the registry's, in a sentence. unlisted: why what has no tag may
    be listed by something that could not be read; empty where all was."""

    repository: str
    tags: Mapping[str, Digest]
    nodes: Mapping[Digest, Node]
    keeps_tagged: bool = False
    unreadable: frozenset[str] = frozenset()
    held: Mapping[Digest, str] = field(default_factory=dict)
    unlisted: str = ""

    @property
    def companions(self) -> dict[str, tuple[Digest, ...]]:
        """Tags named after a digest, with the manifests here that they may stand for. One that names its manifest
        itself, or an image, is a tag like any other (oc-mirror v2 names so what it mirrors by digest)."""
        named = {tag: subject for tag in self.tags if (subject := companion_of(tag))}
        if not named:
            return {}
        known: dict[str, list[Digest]] = {}
        for digest in self.nodes:
            known.setdefault(digest.fallback_tag, []).append(digest)
        return {
            tag: tuple(known.get(subject, ()))
            for tag, subject in named.items()
            if (tag != subject or self._is_list(tag))
        }

    def attached(self, digest: Digest) -> tuple[Digest, ...]:
        """The referrers of a manifest by their own word: a list is only a claim, and condemns nothing."""
        return tuple(one for one in self.nodes[digest].referrers if self.nodes[one].subject == digest)

    def _is_list(self, tag: str) -> bool:
        digest = self.tags[tag]
        return self.nodes[digest].is_list and digest.fallback_tag != tag


def companion_of(tag: str) -> str:
    """For ``sha256-<hex>[.sig|.att|.sbom]`` the part before the suffix, else empty."""
    if not tag.startswith(_NAMED_AFTER):
        return ""
    for suffix in COMPANION_SUFFIXES:
        name = tag.removesuffix(suffix) if suffix else tag
        algorithm, dash, digits = name.partition("-")
        wanted = min(HEX_LENGTHS.get(algorithm, 0), 64)
        if dash and wanted and len(digits) == wanted and not digits.strip("0123456789abcdef"):
            return name
    return ""


def state_of(tags: Mapping[str, Digest]) -> Digest:
    """One digest for a whole tag list, to tell whether anything changed."""
    hasher = hashlib.sha256()
    for tag in sorted(tags):
        hasher.update(f"{tag} {tags[tag]}\n".encode())
    return Digest(f"sha256:{hasher.hexdigest()}")


def tag_names(place: Place, also: Iterable[str] = ()) -> list[str]:
    """All tags. also: tags that are not listed and there all the same. Raises RegistryError; ClosureIncomplete when
    there are too many."""
    names = dict.fromkeys(also)
    for name in place.registry.tags(place.repository):
        names[name] = None
        if len(names) > MAX_TAGS:
            raise ClosureIncomplete(f"more than {MAX_TAGS} tags", where=str(place))
    return list(names)


def read_tags(place: Place, pool: Executor, also: Iterable[str] = ()) -> dict[str, Digest]:
    """All tags with their digests; see :func:`tag_names`. Raises ClosureIncomplete when one vanished."""
    names = tag_names(place, also)
    try:
        digests = pool.map(lambda tag: place.registry.resolve(place.repository, tag).digest, names)
        return dict(zip(names, digests, strict=True))
    except NotFound as error:
        raise _vanished(place) from error


def _vanished(place: Place) -> ClosureIncomplete:
    return ClosureIncomplete("a tag vanished while the tags were read", where=str(place), do="Plan again")


def _read_tagged(place: Place, pool: Executor, also: Iterable[str]) -> tuple[dict[str, Digest], dict[Digest, Node]]:
    """All tags with their digests, and what they name: asked for by the tag, so that no image takes a request for its
    digest and then one for its manifest."""
    names = tag_names(place, also)
    digest_tags = DigestTags.among(place, names).names
    nodes: dict[Digest, Node] = {}

    def read(tag: str) -> Digest:
        try:
            stored = place.registry.get_manifest(place.repository, tag)
        except NotFound as error:
            raise _vanished(place) from error
        if stored.digest not in nodes:  # two at once read the same twice, which harms nobody
            nodes[stored.digest] = _node(place, stored, stored.content(), digest_tags)
        return stored.digest

    return dict(zip(names, pool.map(read, names), strict=True)), nodes


def survey(
    place: Place, also: Iterable[str] = (), roots: Iterable[Digest] = (), perhaps: Iterable[Digest] = ()
) -> Survey:
    """Read a repository. also: tags that are not listed. roots: manifests to read although nothing may lead to them;
    perhaps: such as may be gone. Raises RegistryError, ContentError when anything is unclear."""
    with Pool(SURVEY_THREADS, "survey") as pool:
        tags, nodes = _read_tagged(place, pool, also)
        absent: set[Digest] = set()
        required = {*tags.values(), *roots}
        wanted = sorted(required)
        subjects = _subjects(tags).union(perhaps)
        unreadable: set[Digest] = set()
        named = DigestTags.among(place, tags).names
        while wanted:
            firm = required.union(*(node.children for node in nodes.values()))
            unread = [digest for digest in wanted if digest not in nodes]
            for node, digest in zip(pool.map(lambda one: _read(place, one, named), unread), unread, strict=True):
                if node is None and digest in required:
                    raise ClosureIncomplete(f"{digest} is listed and not there", where=str(place), do="Plan again")
                if isinstance(node, ManifestInvalid) and digest in firm:
                    raise node
                if node is None or isinstance(node, ManifestInvalid):
                    absent.add(digest)
                    if node is not None:
                        unreadable.add(digest)
                else:
                    nodes[digest] = node
            if len(nodes) > MAX_MANIFESTS:
                raise ClosureIncomplete(f"more than {MAX_MANIFESTS} manifests", where=str(place))
            wanted = sorted({one for node in nodes.values() for one in _leads_to(node)} - nodes.keys() - absent)
            if not wanted:  # what has lost its tag, and not its signature's
                wanted, subjects = sorted(subjects - nodes.keys() - absent), set()
        complete = {digest: _without(node, absent) for digest, node in nodes.items()}
    registry = place.registry
    keeps = isinstance(registry, KeepsTagged) and registry.keeps_tagged(place.repository)
    return Survey(place.repository, tags, _dated(complete), keeps, frozenset(one.fallback_tag for one in unreadable))


def _subjects(tags: Iterable[str]) -> set[Digest]:
    """What cosign's tags and lists of referrers are about. Those of sha512 have half of it in their name."""
    named = {companion_of(tag).partition("-") for tag in tags}
    return {Digest(f"{algorithm}:{text}") for algorithm, _, text in named if len(text) == HEX_LENGTHS.get(algorithm)}


def _leads_to(node: Node) -> Iterable[Digest]:
    yield from node.children
    yield from node.referrers


def _without(node: Node, absent: set[Digest]) -> Node:
    """Copies of selected platforms leave children out, and lists of referrers keep what was deleted."""
    if not absent:
        return node
    return replace(
        node,
        children=tuple(one for one in node.children if one not in absent),
        missing=tuple(one for one in node.children if one in absent),
        images=tuple(one for one in node.images if one not in absent),
        referrers=tuple(one for one in node.referrers if one not in absent),
    )


def _read(place: Place, digest: Digest, digest_tags: Container[str] | None) -> Node | ManifestInvalid | None:
    """One manifest with its referrers; None when it is not there, the error when it is no manifest."""
    try:
        stored = place.registry.get_manifest(place.repository, digest)
        content = stored.content()
    except NotFound:
        return None
    except ManifestInvalid as error:
        return error
    return _node(place, stored, content, digest_tags)


def _node(place: Place, stored: ManifestBytes, content: Manifest | Index, digest_tags: Container[str] | None) -> Node:
    """A manifest that was read. Raises RegistryError: what refers to it is known, or nothing is."""
    digest = stored.digest
    listed = place.registry.referrers(place.repository, digest, tags=digest_tags)
    referrers = tuple(one.digest for one in listed)
    below = descriptors(content)
    index = isinstance(content, Index)
    return Node(
        digest,
        len(stored.raw),
        children=tuple(one.digest for one in below) if index else (),
        images=tuple(one.digest for one in below if one.platform and one.platform.os != "unknown") if index else (),
        subject=content.subject.digest if content.subject else None,
        referrers=referrers,
        blobs=blobs_of(stored, content),
        created=_created(place, content),
        is_list=not read_fallback(stored, "").refused,
        media_type=stored.media_type,
        artifact_type=_artifact_type(content),
        layers=len(content.layers) if isinstance(content, Manifest) else None,
    )


def blobs_of(stored: ManifestBytes, content: Manifest | Index) -> dict[Digest, int]:
    """What a manifest takes in its registry: itself, and for an image config and layers that are not elsewhere."""
    below = () if isinstance(content, Index) else descriptors(content)
    return {stored.digest: len(stored.raw), **{one.digest: one.size for one in below if not one.urls}}


def _artifact_type(content: Manifest | Index) -> str:
    told = content.artifact_type or ""
    return told or (content.config.media_type if isinstance(content, Manifest) else "")


def _created(place: Place, content: Manifest | Index) -> datetime | None:
    """When an image was made: its config's ``created``, else the annotation; a build cache: when its newest step was.
    Never guessed from a push time."""
    created = None
    if isinstance(content, Manifest) and content.config.media_type in media_types.IMAGE_CONFIGS:
        created = read_created(_config_time(place, content.config))
    if isinstance(content, Manifest) and content.config.media_type == media_types.BUILDKIT_CACHE:
        times = (read_created((layer.annotations or {}).get(_CACHED_AT, "")) for layer in content.layers)
        created = max(filter(None, times), default=None)
    return created or read_created((content.annotations or {}).get(CREATED, ""))


def _config_time(place: Place, config: Descriptor) -> str:
    try:
        return read_image_config(read_blob(place, config, limit=MAX_CONFIG_BYTES)).created
    except (NotFound, ManifestInvalid, ManifestTooLarge):
        return ""


def _dated(nodes: dict[Digest, Node]) -> dict[Digest, Node]:
    """An index without a time of its own is as old as its newest image; one image of unknown age makes it unknown."""
    dated = dict(nodes)
    for digest, node in nodes.items():
        if node.created is None and node.images:
            known = [made for one in node.images if (made := nodes[one].created) is not None]
            if len(known) == len(node.images):
                dated[digest] = replace(node, created=max(known))
    return dated


def reachable(start: Iterable[Digest], leads_to: Callable[[Digest], Iterable[Digest]]) -> set[Digest]:
    """Everything that can be reached from ``start`` by ``leads_to``, the start included; circles do no harm."""
    reached: set[Digest] = set()
    waiting = list(start)
    while waiting:
        digest = waiting.pop()
        if digest not in reached:
            reached.add(digest)
            waiting += leads_to(digest)
    return reached
