"""What belongs to a reference, as found at one place, and what a copy of it leaves out.

A copy moves closures, never images: a signature that stays behind is a lost signature. ``discovery.py`` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes
from registry_pipelines.registry.protocol import Place


class Omission(msgspec.Struct, frozen=True):
    """Something that a copy of a closure does not bring, and why. what: digest or tag. size_bytes: 0 where unknown.

    ``foreign-layer``: content that its publisher keeps elsewhere. ``platform``: a child that was not chosen.
    ``repository``: one that the registry lists and a sync never takes.
    ``referrer``: listed at the source, but not there, or none by its own word. ``claim``: the same of something that
    comes along all the same, for another reason. ``tag``: a tag named after a digest that is not what its name says.
    """

    kind: Literal["foreign-layer", "platform", "referrer", "claim", "tag", "repository"]
    what: str
    why: str
    size_bytes: int = 0


class Closure(msgspec.Struct, frozen=True):
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
    digest_tags: Mapping[str, Digest] = msgspec.field(default_factory=dict)
    """cosign's ``.sig``, ``.att`` and ``.sbom`` tags with what they name."""
    subjects: Mapping[Digest, Digest] = msgspec.field(default_factory=dict)
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
        why = "its publisher keeps it elsewhere" + (", and the source does not hold it" if self.foreign_layers else "")
        foreign = (Omission("foreign-layer", item.digest, why, item.size) for item in self.foreign)
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


def storing_order(contents: Mapping[Digest, Manifest | Index]) -> list[Digest]:
    """Manifests in the order in which a registry takes them: children before their index, subjects before what refers
    to them."""
    order: dict[Digest, None] = {}
    for start in contents:
        stack = [(start, False)]
        while stack:
            digest, ready = stack.pop()
            if digest in order or digest not in contents:
                continue
            if ready:
                order[digest] = None
                continue
            stack.append((digest, True))
            content = contents[digest]
            below = content.manifests if isinstance(content, Index) else ()
            stack.extend((child.digest, False) for child in below)
            if content.subject:
                stack.append((content.subject.digest, False))
    return list(order)
