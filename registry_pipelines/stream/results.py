"""What indexing and converting a release did, layer by layer: what ``publish`` and ``derive`` return. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor

LayerHow = Literal["present", "mounted", "uploaded", "kept", "skipped"]
"""``present`` and ``mounted``: its index, or its other form, was there already. ``kept``: the layer had the form, and
stays as it is. ``skipped``: it has no index or other form, and ``why`` says why."""


@dataclass(frozen=True, kw_only=True)
class StreamRow:
    """One layer of one platform."""

    platform: str
    """``linux/amd64``."""
    layer: Digest
    """As it is in the image that was given."""
    size: int
    """Compressed bytes of it."""
    how: LayerHow
    why: str = ""
    """Why it was skipped or kept, what of it is not in its other form, or that it said it were eStargz and was made
    anew; without full stop, empty else."""
    made: str = ""
    """Digest of its ztoc, or of the converted layer; empty for a layer without one."""
    made_bytes: int = 0
    """Bytes of that."""
    spans: int | None = None
    """Pieces in which a node can fetch the layer; None where nobody counted them now (an index that was there)."""
    bytes_sent: int = 0


@dataclass(frozen=True, kw_only=True)
class IndexedPlatform:
    """What became of one platform's manifest."""

    platform: str
    image: Digest
    """Its manifest."""
    index: Descriptor | None
    """The index that refers to it; None when there is nothing to index."""
    statement: Digest | None = None
    """Of the manifest that carries the indexer's signature over it."""
    changed: bool = False
    why: str = ""
    """Why there is no index; empty when there is one."""


@dataclass(frozen=True, kw_only=True)
class IndexResult:
    """Indexes beside a release, whose digest stays."""

    release: Digest
    platforms: tuple[IndexedPlatform, ...]
    rows: tuple[StreamRow, ...]
    bytes_sent: int
    seconds: float
    changed: bool
    """False: every index was there, signed by the same key; nothing was written."""
    missing: tuple[str, ...] = ()
    """Of the paths that were to be fetched first, those that some platform has in no layer that was indexed now."""

    @property
    def indexed(self) -> int:
        """Platforms that have an index now."""
        return sum(each.index is not None for each in self.platforms)


@dataclass(frozen=True, kw_only=True)
class ConversionResult:
    """An image that was made of a release, with a digest and a tag of its own."""

    origin: Digest
    derived: Descriptor | None
    """The top manifest of what was made; None when nothing of the release can be converted, and the release ships as it
    is."""
    tag: str
    """The tag of what was made, ``<tag>-<format>``."""
    record: Digest | None
    """Of the manifest that carries the signed derivation record."""
    rows: tuple[StreamRow, ...]
    bytes_sent: int
    seconds: float
    changed: bool
    """False: image, record and tag were there; nothing was written."""
    why: str = ""
    """Why nothing was made; empty when something was."""
    missing: tuple[str, ...] = ()
    """Of the paths that were to be fetched first, those that some platform has in no layer that was converted now."""
