"""Approved bases: which one an image stands on, by its layers.

An image stands on a base when its list of diffIDs (OCI image-spec, config.md: digests of the uncompressed layers)
begins with the whole list of the base's. No label and no provenance is asked: whoever builds can write those, and a
base that was squashed or rechunked into other layers is another base. A release that was converted into another form
(eStargz) is recognised by its origin, as far as a believed derivation record and the origin's signed provenance lead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.settings import DIGEST, REPOSITORY, TAG, Duration, EntryName, Names


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """An image that others may be built on. A policy asks for it by `approved-base`."""

    name: EntryName
    registry: Annotated[str, Names("registries")]
    """Registry it is in."""
    repository: Annotated[str, REPOSITORY]
    """Its repository."""
    tag: Annotated[str, TAG]
    """Tag that names the current one; it moves whenever the base is made again. For an image of ours, its channel."""
    digests: tuple[Annotated[str, DIGEST], ...] = ()
    """Further ones that count, whatever the tag names: `sha256:...` of an index or a manifest."""
    keep: Duration | None = None
    """How long one counts after the tag moved on; for ever unless told, and then images on it are only listed."""


class KnownBase(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's image of a base, as it was read from its registry."""

    name: str
    """Of the base in the configuration."""
    digest: Digest
    """What the tag named: an index, or the manifest."""
    manifest: Digest
    platform: str
    chain: tuple[Digest, ...]
    """diffIDs, the lowest first; at least one."""
    layers: tuple[Digest, ...]
    """The blobs, in the same order."""
    sizes: tuple[int, ...]
    """Their bytes."""
    seen: str
    """RFC 3339, UTC: when it was first found under the tag, or named in the configuration."""
    tagged: bool = True
    """Whether the tag ever named it; else the configuration does, and as long as it does."""
    replaced: str = ""
    """When the tag was first seen to name another one; empty for what counts as current."""
    until: str = ""
    """Until when it counts; empty: no end is known."""

    @property
    def label(self) -> str:
        """``python@sha256:0123456789ab``, for people."""
        return f"{self.name}@{self.digest.short}"

    def counts(self, now: datetime) -> bool:
        """Whether it counts at this moment."""
        end = read_time(self.until, zone=UTC) if self.until else None
        return not self.until or (end is not None and now < end)


Standing = Mapping[Digest, KnownBase | None]
"""By platform manifest the base that it stands on; None: none of those that are known."""


def recognise(chain: Sequence[Digest], known: Iterable[KnownBase]) -> KnownBase | None:
    """The base that a chain of diffIDs begins with; of several the longest, then the current one, then the one that was
    seen last. None: none."""
    found = [base for base in known if base.chain and tuple(chain[: len(base.chain)]) == base.chain]
    return max(found, key=lambda base: (len(base.chain), not base.replaced, base.seen, base.name), default=None)
