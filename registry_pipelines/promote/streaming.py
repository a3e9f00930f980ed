"""Whether a release starts before it is fetched whole: what a policy's ``streaming-index`` asks, platform by platform.

A node that streams believes the digests of an index, or of an eStargz layer's table of contents, in place of the
layer's. So only what a trusted indexer vouches for counts: an index that it signed, or layers that it converted itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from registry_pipelines.evidence.model import Rejected, VerifiedAttestation, Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.promote.documents import Step
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.origins import Origin
from registry_pipelines.registry.image_warnings import TOC_ANNOTATION, is_foreign
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.model import DEFAULT_MIN_LAYER_SIZE
from registry_pipelines.stream.signed_index import SignedIndex, find_index

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
    found: dict[Digest, tuple[ImageIndex, ...]] = {}
    rejected: list[Rejected] = []
    for entry in images:
        there = find_index(place, entry.digest, verifier)
        rejected += there.not_served
        ordered = sorted(there.signed, key=lambda each: (each.note.format, each.descriptor.digest))
        found[entry.digest] = tuple(ImageIndex(each, _gone(place, each)) for each in ordered)
    return found, rejected


def streams(entry: Entry, indexes: Sequence[ImageIndex], origins: Iterable[Origin]) -> Outcome:
    """What speaks against one platform's start by streaming. entry: an image."""
    layers, where = entry.manifest.layers, f"streaming index: {entry.platform} ({entry.digest})"
    best, record = used_index(entry, indexes), converting(entry, origins)
    lacking = _without_toc(layers) if record else best.lacks(layers) if best else _above(layers, DEFAULT_MIN_LAYER_SIZE)
    if not lacking:
        limit = best.min_layer_bytes if best else DEFAULT_MIN_LAYER_SIZE
        told = f"{where}: layers below {size_text(limit)} are fetched whole, as its indexer was told"
        return Outcome(notes=[told] if limit > DEFAULT_MIN_LAYER_SIZE else [])
    why = "what its indexer signed does not cover" if best or record else "nothing that a trusted indexer signed covers"
    return Outcome([f"{where}: {why} {_named(lacking, best)}"], _steps(lacking))


def used_index(entry: Entry, indexes: Sequence[ImageIndex]) -> ImageIndex | None:
    """The one that covers most; None without any."""
    return min(indexes, key=lambda each: len(each.lacks(entry.manifest.layers)), default=None)


def converting(entry: Entry, origins: Iterable[Origin]) -> VerifiedAttestation | None:
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


def _steps(layers: Sequence[Descriptor]) -> list[Step]:
    """A layer that no index can cover wants another image."""
    never = [each for each in layers if is_foreign(each) or not each.media_type.endswith(("tar", "gzip"))]
    about = tuple(f"layer {each.digest.short} is {each.media_type[:80]}, of which there is no index" for each in never)
    return [Step(kind="image", about=about)] if never else [Step(kind="index")]
