"""What ``index.json`` of an OCI layout says (OCI image-spec 1.1, image-layout.md): plain values, no files.

It names **every** manifest of the layout: one entry per tag (annotation ``org.opencontainers.image.ref.name``), and one
without that annotation for a manifest without a tag. Manifests that only an index refers to, as other tools write them,
are found too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_DEPTH,
    Descriptor,
    Index,
    ManifestBytes,
    decode_sloppy,
    encode_json,
)
from registry_pipelines.oci.referrers import describe

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation of an index entry that holds its tag (image-spec, annotations.md)."""

Signature = tuple[int, ...]
"""What tells one version of the file from the next: inode, size and times; empty where there is no file."""


@dataclass(frozen=True)
class ManifestLinks:
    """What one manifest or index says about others."""

    subject: Digest | None = None
    referrer: Descriptor | None = None
    """How the referrers API lists it (distribution-spec 1.1, "Listing Referrers"); only with a subject."""
    children: tuple[Descriptor, ...] = ()


NO_LINKS = ManifestLinks()
"""Of a manifest that names nothing, or cannot be read."""


def manifest_links(manifest: ManifestBytes) -> ManifestLinks:
    """Read subject and children. Raises ManifestInvalid."""
    content = manifest.content()
    children = content.manifests if isinstance(content, Index) else ()
    if content.subject is None:
        return ManifestLinks(children=children) if children else NO_LINKS
    return ManifestLinks(content.subject.digest, describe(manifest, content), children)


@dataclass
class IndexVersion:
    """One version of ``index.json``. ``known`` and ``referrers`` are made when first needed.

    raw: the file's bytes when we wrote them; then an entry can be added without encoding all others again.
    """

    signature: Signature
    index: Index
    tags: dict[str, Descriptor] = field(default_factory=dict)
    listed: dict[Digest, Descriptor] = field(default_factory=dict)
    raw: bytes = b""
    known: dict[Digest, Descriptor] | None = None
    referrers: dict[Digest, list[Descriptor]] = field(default_factory=dict)

    @classmethod
    def read(cls, signature: Signature, raw: bytes) -> IndexVersion:
        """From the file's bytes; none are an empty index. Raises ContentError."""
        return cls.of(signature, decode_sloppy(raw, Index, what="index.json") if raw else EMPTY)

    @classmethod
    def of(cls, signature: Signature, index: Index, raw: bytes = b"") -> IndexVersion:
        """From the index itself. Of two entries with one tag the first counts."""
        made = cls(signature, index, raw=raw)
        for entry in index.manifests:
            made.listed.setdefault(entry.digest, entry)
            name = tag_of(entry)
            if name:
                made.tags.setdefault(name, entry)
        return made

    def know(self, links_of: Callable[[Descriptor], ManifestLinks]) -> dict[Digest, Descriptor]:
        """Listed manifests and all that indexes among them refer to; fills ``referrers`` on the way. Not for two
        threads at once."""
        if self.known is not None:
            return self.known
        known: dict[Digest, Descriptor] = {}
        referrers: dict[Digest, list[Descriptor]] = {}
        level: list[Descriptor] = list(self.listed.values())
        for _ in range(MAX_DEPTH):
            below: list[Descriptor] = []
            for entry in level:
                if entry.digest in known:
                    continue
                known[entry.digest] = entry
                links = links_of(entry)
                below.extend(child for child in links.children if child.is_manifest)
                if links.subject is not None and links.referrer is not None:
                    referrers.setdefault(links.subject, []).append(links.referrer)
            level = below
        self.known, self.referrers = known, referrers
        return known

    def appended(self, entries: Sequence[Descriptor]) -> tuple[Index, bytes]:
        """The index with more entries, and its bytes; those are added at the end of ours where that can be done."""
        index = msgspec.structs.replace(self.index, manifests=(*self.index.manifests, *entries))
        if not self.raw.endswith(b"}]}") or self.index.subject is not None or self.index.annotations is not None:
            return index, encode_json(index)
        return index, self.raw[:-2] + b"".join(b"," + encode_json(entry) for entry in entries) + b"]}"

    def after(
        self, signature: Signature, index: Index, raw: bytes, entries: Sequence[Descriptor], links: ManifestLinks
    ) -> IndexVersion:
        """The version that :meth:`appended` made, once it is written. entries: of one manifest that was not listed.
        What is known of the others is carried over."""
        first = entries[0]
        made = IndexVersion(
            signature,
            index,
            {**self.tags, **{tag_of(entry): entry for entry in entries if tag_of(entry)}},
            {**self.listed, first.digest: first},
            raw,
        )
        fresh = self.known is not None and first.digest not in self.known  # else an index named it before it came
        if self.known is not None and fresh and all(child.digest in self.known for child in links.children):
            made.known = {**self.known, first.digest: first}
            made.referrers = dict(self.referrers)
            if links.subject is not None and links.referrer is not None:
                made.referrers[links.subject] = [*made.referrers.get(links.subject, ()), links.referrer]
        return made


EMPTY = Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=())
"""The index of a layout without manifests."""


def tag_of(entry: Descriptor) -> str:
    """The tag of an entry; empty when it has none."""
    return (entry.annotations or {}).get(REF_NAME, "")


def without_tags(entries: Sequence[Descriptor], tags: set[str]) -> list[Descriptor]:
    """Take tags away; a manifest that would vanish with its last tag stays as an entry without one."""
    left = [entry for entry in entries if tag_of(entry) not in tags]
    there = {entry.digest for entry in left}
    for entry in entries:
        if tag_of(entry) in tags and entry.digest not in there:
            left.append(_untagged(entry))
            there.add(entry.digest)
    return left


def with_manifest(entries: Sequence[Descriptor], manifest: Descriptor, tags: Sequence[str]) -> list[Descriptor]:
    """Add a manifest and point tags to it; the entries come back equal when all is so already."""
    wanted = set(tags)
    stale = {tag_of(entry) for entry in entries if entry.digest != manifest.digest} & wanted
    entries = without_tags(entries, stale)
    holds = {tag_of(entry) for entry in entries if entry.digest == manifest.digest}
    missing = [tag for tag in dict.fromkeys(tags) if tag not in holds]
    if missing:
        entries = [entry for entry in entries if entry.digest != manifest.digest or tag_of(entry)]
        return [*entries, *(msgspec.structs.replace(manifest, annotations={REF_NAME: tag}) for tag in missing)]
    return entries if holds else [*entries, manifest]


def _untagged(entry: Descriptor) -> Descriptor:
    rest = {key: value for key, value in (entry.annotations or {}).items() if key != REF_NAME}
    return msgspec.structs.replace(entry, annotations=rest or None)


__all__ = [
    "EMPTY",
    "NO_LINKS",
    "REF_NAME",
    "IndexVersion",
    "ManifestLinks",
    "Signature",
    "manifest_links",
    "tag_of",
    "with_manifest",
    "without_tags",
]
