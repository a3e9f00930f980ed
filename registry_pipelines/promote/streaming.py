"""Whether a release starts before it is fetched whole: what a policy's ``streaming-index`` asks, platform by platform.

A node that streams believes the digests of an index, or of an eStargz layer's table of contents, in place of the
layer's. So only what a trusted indexer vouches for counts: an index that it signed, or layers that it converted itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_pipelines.evidence.model import Rejected, VerifiedAttestation, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.promote.documents import Step
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.origins import Origin
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.left_out import never_indexed
from registry_pipelines.stream.model import DEFAULT_MIN_LAYER_SIZE

if TYPE_CHECKING:
    from registry_pipelines.stream.signed_index import SignedIndex

MAX_LAYERS_NAMED = 3


@dataclass(frozen=True)
class ImageIndex:
    """An index of one platform's image that a trusted indexer signed, and what of it is really here."""

    signed: SignedIndex
    parts_gone: frozenset[str]
    """Digests of layers whose part of the index is not in the repository."""

    @property
    def min_layer_bytes(self) -> int:
        """Below that the indexer was told to leave layers out."""
        told = self.signed.note.options.get("min_layer_size")
        return told if isinstance(told, int) and told >= 0 else DEFAULT_MIN_LAYER_SIZE

    def lacks(self, layers: Sequence[Descriptor]) -> list[Descriptor]:
        """Layers that it should cover and does not, each once."""
        covered = self.signed.ztocs.keys() - self.parts_gone
        return [each for each in _above(layers, self.min_layer_bytes) if each.digest not in covered]


Indexes = Mapping[Digest, tuple[ImageIndex, ...]]
"""By platform manifest; empty where the policy does not ask."""


def read_indexes(
    place: Place, images: Iterable[Entry], verifier: Verifier
) -> tuple[dict[Digest, tuple[ImageIndex, ...]], list[Rejected]]:
    """The signed indexes of each image, in an order that no registry decides, and those that are not believed.

    One request for each part of an index. Raises RegistryError when the registry does not answer.
    """
    from registry_pipelines.stream.signed_index import find_index  # its formats are eight modules; few policies ask

    found: dict[Digest, tuple[ImageIndex, ...]] = {}
    rejected: list[Rejected] = []
    for entry in images:
        there = find_index(place, entry.digest, verifier)
        rejected += there.not_served
        ordered = sorted(there.signed, key=lambda each: (each.note.format, each.descriptor.digest))
        found[entry.digest] = tuple(ImageIndex(each, _gone(place, each)) for each in ordered)
    return found, rejected


@dataclass(frozen=True)
class Way:
    """How nodes may start one platform's image, of all that a trusted indexer signed what covers most."""

    lacking: tuple[Descriptor, ...]
    """Layers that it should cover and does not."""
    index: ImageIndex | None = None
    converted: VerifiedAttestation | None = None
    """The record by which the image's layers were made."""


def way_of(entry: Entry, indexes: Sequence[ImageIndex], origins: Iterable[Origin]) -> Way:
    """The index or the conversion by which most is covered. Where both cover as much it is the conversion: its tables
    are inside of the layers, so that no copy and no retention can lose them. entry: an image."""
    layers = entry.manifest.layers
    record = _converting(entry, origins)
    ways = [Way(tuple(_without_toc(layers)), converted=record)] if record else []
    ways += [Way(tuple(each.lacks(layers)), index=each) for each in indexes]
    nothing = Way(tuple(_above(layers, DEFAULT_MIN_LAYER_SIZE)))
    return min(ways, key=lambda way: len(way.lacking), default=nothing)


def streams(entry: Entry, indexes: Sequence[ImageIndex], origins: Iterable[Origin]) -> Outcome:
    """What speaks against one platform's start by streaming. entry: an image."""
    where = f"streaming index: {entry.platform} ({entry.digest})"
    way = way_of(entry, indexes, origins)
    if not way.lacking:
        limit = way.index.min_layer_bytes if way.index else DEFAULT_MIN_LAYER_SIZE
        told = f"{where}: layers below {size_text(limit)} are fetched whole, as its indexer was told"
        return Outcome(notes=[told] if limit > DEFAULT_MIN_LAYER_SIZE else [])
    signed = way.index or way.converted
    why = "what its indexer signed does not cover" if signed else "nothing that a trusted indexer signed covers"
    return Outcome([f"{where}: {why} {_named(way.lacking, way.index)}"], _steps(way))


def _converting(entry: Entry, origins: Iterable[Origin]) -> VerifiedAttestation | None:
    """The signed record by which an image's layers were converted to eStargz; None: there is none."""
    for origin in origins:
        pairs = {pair.derived: pair.origin for pair in origin.record.platforms}
        if origin.record.format == "estargz" and pairs.get(entry.digest, entry.digest) != entry.digest:
            return origin.attestation
    return None


def _gone(place: Place, index: SignedIndex) -> frozenset[str]:
    parts = index.ztocs.items()
    return frozenset(
        layer for layer, part in parts if place.registry.blob_size(place.repository, part.digest) != part.size
    )


def _without_toc(layers: Sequence[Descriptor]) -> list[Descriptor]:
    return [each for each in _above(layers, DEFAULT_MIN_LAYER_SIZE) if TOC_ANNOTATION not in (each.annotations or {})]


def _above(layers: Sequence[Descriptor], least: int) -> list[Descriptor]:
    """Those of so many compressed bytes or more, each once."""
    return list({each.digest: each for each in layers if each.size >= least}.values())


def _named(layers: Sequence[Descriptor], index: ImageIndex | None) -> str:
    gone: Collection[str] = index.parts_gone if index else ()
    texts = [
        f"{each.digest} ({size_text(each.size)}{', its part of the index is gone' if each.digest in gone else ''})"
        for each in layers[:MAX_LAYERS_NAMED]
    ]
    more = len(layers) - len(texts)
    return f"layer {', '.join(texts)}" + (f" and {count_text(more, 'layer')} more" if more > 0 else "")


def _steps(way: Way) -> list[Step]:
    """Indexing, where that can help; a layer that no index can cover, or that the indexer left out when it had read
    it, wants another image."""
    gone = way.index.parts_gone if way.index else frozenset[str]()
    about: list[str] = []
    for layer in way.lacking:
        if never := never_indexed(layer):
            about.append(f"layer {layer.digest.short} is {layer.media_type[:80]}: {never.detail}")
        elif way.converted or (way.index and layer.digest not in gone):
            about.append(f"layer {layer.digest.short}: its indexer read it and left it out, and says why when it runs")
    return [Step(kind="image", about=tuple(about))] if about else [Step(kind="index")]
