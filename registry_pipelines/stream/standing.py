"""What is there of a release's streaming, by manifests and signed notes alone: no layer and no ztoc is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.signed_index import find_index

TOC_ANNOTATION = "containerd.io/snapshot/stargz/toc.digest"
"""On a layer in eStargz's form (stargz-snapshotter, docs/estargz.md)."""


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
    for entry in images_of(read_entries(place, top)):
        platforms += 1
        signed = find_index(place, entry.digest, verifier).signed
        if signed:
            formats[signed[0].note.format] = None
            index_bytes += signed[0].descriptor.size + sum(ztoc.size for ztoc in signed[0].ztocs.values())
        elif has_toc(entry.manifest.layers):
            formats["estargz"] = None
        covered += bool(signed) or has_toc(entry.manifest.layers)
    return Streams(formats=tuple(formats), platforms=platforms, covered=covered, index_bytes=index_bytes)


def has_toc(layers: Sequence[Descriptor]) -> bool:
    """Whether one of the layers says that it is eStargz."""
    return any(TOC_ANNOTATION in (layer.annotations or {}) for layer in layers)
