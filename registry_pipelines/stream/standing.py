"""What is there of a release's streaming, by manifests and signed notes alone: no layer and no ztoc is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.signed_index import find_index


@dataclass(frozen=True, kw_only=True)
class LayerStanding:
    """One layer of one platform."""

    platform: str
    layer: Digest
    size: int
    """Compressed bytes."""
    covered: bool
    """Whether a node can fetch it by pieces."""
    index_bytes: int
    """Of its ztoc; 0 without one."""


@dataclass(frozen=True, kw_only=True)
class Streams:
    """How a release can start before it is fetched whole."""

    formats: tuple[str, ...]
    """``soci-v1``, ``soci-v2``, ``estargz``, of all platforms, each once; empty when there is none."""
    platforms: int
    covered: int
    """Platforms with an index that a believed indexer signed, or with a layer of the form."""
    index_bytes: int
    """What nodes of all platforms fetch before the start; eStargz has that inside of its layers, and counts 0 here."""
    layers: tuple[LayerStanding, ...] = ()

    @property
    def text(self) -> str:
        """The same in a few words."""
        if not self.covered:
            return "no index"
        words = [", ".join(self.formats)]
        words += [size_text(self.index_bytes)] if self.index_bytes else []
        words += (
            [f"{self.covered} of {count_text(self.platforms, 'platform')}"] if self.covered < self.platforms else []
        )
        return ", ".join(words)

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "formats": list(self.formats),
            "platforms": self.platforms,
            "covered": self.covered,
            "index_bytes": self.index_bytes,
        }


def read_standing(place: Place, release: Digest, verifier: Verifier) -> Streams:
    """Look at every platform of a release. Raises ContentError, RegistryError."""
    top = place.registry.get_manifest(place.repository, release)
    formats: dict[str, None] = {}
    platforms, covered, index_bytes = 0, 0, 0
    layers: list[LayerStanding] = []
    for entry in images_of(read_entries(place, top)):
        signed = find_index(place, entry.digest, verifier).signed
        ztocs = signed[0].ztocs if signed else {}
        own = [_layer(str(entry.platform), layer, ztocs) for layer in entry.manifest.layers]
        if signed:
            formats[signed[0].note.format] = None
            index_bytes += signed[0].descriptor.size + sum(ztoc.size for ztoc in ztocs.values())
        elif any(layer.covered for layer in own):
            formats["estargz"] = None
        platforms += 1
        covered += bool(signed) or any(layer.covered for layer in own)
        layers += own
    return Streams(
        formats=tuple(formats), platforms=platforms, covered=covered, index_bytes=index_bytes, layers=tuple(layers)
    )


def _layer(platform: str, layer: Descriptor, ztocs: Mapping[str, Descriptor]) -> LayerStanding:
    ztoc = ztocs.get(layer.digest)
    return LayerStanding(
        platform=platform,
        layer=layer.digest,
        size=layer.size,
        covered=ztoc is not None or TOC_ANNOTATION in (layer.annotations or {}),
        index_bytes=ztoc.size if ztoc else 0,
    )
