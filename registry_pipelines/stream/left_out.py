"""Layers that no index covers, by what their manifests tell: the one rule that indexing, checks and the gate go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import size_text
from registry_pipelines.registry.image_warnings import is_foreign

Reason = Literal["small", "zstd", "foreign", "encrypted", "unknown-type", "refused"]
"""``refused``: what was found in the layer, or its compression, lets no table be made of it."""

ZSTD = "SOCI has no tables of zstd layers; compress with gzip to have it streamed"


@dataclass(frozen=True)
class Skipped:
    """A layer that a node fetches whole, and why."""

    layer: Descriptor
    reason: Reason
    detail: str
    """In words, for people."""


def unreadable(layer: Descriptor) -> Skipped | None:
    """Why nobody here can read a layer, whatever for."""
    if layer.media_type.endswith("+encrypted"):
        return Skipped(layer, "encrypted", "only who has its key can read it")
    if is_foreign(layer):
        return Skipped(layer, "foreign", "its publisher keeps it, not this registry")
    if layer.media_type not in media_types.LAYERS:
        return Skipped(layer, "unknown-type", f"{layer.media_type[:80]!r} is no type of a layer")
    return None


def never_indexed(layer: Descriptor) -> Skipped | None:
    """Why no SOCI index covers a layer, whoever makes it and however large the layer is."""
    if found := unreadable(layer):
        return found
    return Skipped(layer, "zstd", ZSTD) if layer.media_type.endswith("zstd") else None


def passed_over(layer: Descriptor, min_layer_bytes: int) -> Skipped | None:
    """Why an indexer that was told this limit makes no table of a layer."""
    if found := unreadable(layer):
        return found
    if layer.size < min_layer_bytes:
        return Skipped(layer, "small", f"{size_text(layer.size)} are less than {size_text(min_layer_bytes)}")
    return never_indexed(layer)
