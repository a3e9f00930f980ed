"""An image's SOCI index: which of its layers get a table, the tables, and the document that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.oci.manifests import Descriptor, ManifestBytes


@dataclass(frozen=True)
class Skipped:
    """A layer that a node fetches whole, and why."""

    layer: Descriptor
    reason: str
    """``small``, ``zstd``, ``foreign``, ``encrypted``, ``unknown-type`` or ``refused``."""
    detail: str
    """In words, for people."""


@dataclass(frozen=True)
class Piece:
    """A blob that belongs to the index and has to be pushed before it."""

    descriptor: Descriptor
    """As the index names it."""
    content: bytes | Path
    """Ztocs lie in files of the folder that was given; lists of spans, and the config, are bytes."""


@dataclass(frozen=True)
class SociIndex:
    """A SOCI index that is whole, and not pushed yet."""

    document: ManifestBytes
    """The index manifest."""
    pieces: tuple[Piece, ...]
    """Its config, then what its layers name; each digest once."""
    skipped: tuple[Skipped, ...]
    """Layers that it leaves out."""


__all__ = ["Piece", "SociIndex", "Skipped"]
