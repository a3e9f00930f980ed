"""What is to be said of one image's indexes: SOCI documents with their parts, eStargz layers with their annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.errors import ContentError, DigestInvalid, NotFound
from registry_pipelines.evidence.model import Rejected, Verifier
from registry_pipelines.evidence.referrers import open_referrers
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import size_text
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.image_warnings import SOCI_ANNOTATION, ends_as_estargz, is_foreign
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check_kinds import CheckId, CheckRow, check_row
from registry_pipelines.stream.eligible import diff_ids_of
from registry_pipelines.stream.left_out import passed_over
from registry_pipelines.stream.model import DEFAULT_MIN_LAYER_SIZE
from registry_pipelines.stream.signed_index import find_index
from registry_pipelines.stream.soci_index import Prefetch, SociDocument, read_prefetch, read_soci_index

if TYPE_CHECKING:  # what reads ztocs and eStargz is loaded for images that have them
    from registry_pipelines.stream.table_checks import Finding, TableFacts

MAX_PREFETCH_BYTES = 16 << 20
"""A span is some 40 bytes of such a list."""


class LayerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How one layer of one platform can be read while its image starts."""

    platform: str
    layer: str
    size: int
    """Compressed bytes."""
    form: str
    """``soci-v1``, ``soci-v2``, ``estargz``, or empty: it is fetched whole."""
    index_bytes: int = 0
    """Of its ztoc or table of contents, which a node fetches before the start."""
    spans: int = 0
    """Pieces that can be read for themselves; of eStargz, chunks of files."""
    largest_span: int = 0
    """Uncompressed bytes that are fetched for one file at most."""
    tool: str = ""
    """Who made the ztoc, as it says itself."""


@dataclass(frozen=True)
class Asked:
    """What to look for, and whose signature counts."""

    verifier: Verifier | None = None
    min_layer_bytes: int = DEFAULT_MIN_LAYER_SIZE
    every_span: bool = False


@dataclass
class ImageCheck:
    """Asks one image. entry: as ``read_entries`` gives it."""

    place: Place
    entry: Entry
    asked: Asked
    facts: dict[Digest, LayerFacts] = field(default_factory=dict)
    """By layer, after :meth:`rows`."""
    _tables: dict[tuple[Digest, Digest], tuple[list[Finding], TableFacts | None]] = field(default_factory=dict)

    def rows(self) -> Iterator[CheckRow]:
        """Everything, in the order of the indexes and layers. Raises RegistryError."""
        layers = {layer.digest: layer for layer in self.entry.manifest.layers}
        for layer in layers.values():
            self.facts[layer.digest] = LayerFacts(
                platform=str(self.entry.platform), layer=layer.digest, size=layer.size, form=""
            )
        yield from self._estargz(list(layers.values()))
        documents = 0
        for digest, document in self._documents():
            if isinstance(document, SociDocument):
                yield from self._document(digest, document, layers)
                documents += 1
            else:
                yield document
        # What says that it is eStargz, and cannot be read as that, has its row.
        said = any(TOC_ANNOTATION in (layer.annotations or {}) for layer in layers.values())
        streams = documents or said or any(each.form for each in self.facts.values())
        if not streams and any(map(self._is_wanted, layers.values())):
            yield self._row("no-index")
        elif not streams and layers and all(each.size < self.asked.min_layer_bytes for each in layers.values()):
            yield self._row("small-layers", detail=f"below {size_text(self.asked.min_layer_bytes)}")

    def _row(self, name: CheckId, layer: str = "", detail: str = "") -> CheckRow:
        return check_row(
            name, platform=str(self.entry.platform), manifest=self.entry.digest, layer=layer, detail=detail
        )

    def _is_wanted(self, layer: Descriptor) -> bool:
        """Whether an index should cover it; why another cannot is said of its type."""
        return passed_over(layer, self.asked.min_layer_bytes) is None

    def _documents(self) -> Iterator[tuple[str, SociDocument | CheckRow]]:
        """SOCI indexes that a node can find: the one that the image names first, then those that refer to it."""
        named = (self.entry.manifest.annotations or {}).get(SOCI_ANNOTATION, "")
        seen: set[str] = set()
        if named:
            seen.add(named)
            try:
                stored = self.place.registry.get_manifest(self.place.repository, Digest.parse(named))
                yield named, read_soci_index(stored, where=named)
            except (NotFound, DigestInvalid):
                yield named, self._row("soci-index-missing", detail=named[:80])
            except ContentError as error:
                yield named, self._row("index-damaged", detail=f"{named[:80]}: {error.what}")
        for referrer in open_referrers(self.place, self.entry.digest):
            if isinstance(referrer, Rejected) or referrer.manifest.kind not in media_types.SOCI_INDEXES:
                continue
            digest = str(referrer.descriptor.digest)
            if digest in seen:
                continue
            seen.add(digest)
            try:
                stored = self.place.registry.get_manifest(self.place.repository, referrer.descriptor.digest)
                yield digest, read_soci_index(stored, where=digest)
            except ContentError as error:
                yield digest, self._row("index-damaged", detail=f"{digest}: {error.what}")

    def _document(self, digest: str, document: SociDocument, layers: dict[Digest, Descriptor]) -> Iterator[CheckRow]:
        from registry_pipelines.stream.table_checks import check_table

        if not document.exact:
            yield self._row("index-bytes", detail=digest)
        if self.asked.verifier is None:
            yield self._row("index-unverified", detail=digest)
        elif digest not in self._signed:
            yield self._row("index-unsigned", detail=digest)
        if document.version == 1 and not (self.entry.manifest.annotations or {}).get(SOCI_ANNOTATION):
            yield self._row("soci-v1-only", detail=digest)
        covered: set[Digest] = set()
        for table in document.tables:
            layer = layers.get(table.layer)
            if layer is None:
                yield self._row("other-layer-indexed", detail=table.layer)
                continue
            covered.add(layer.digest)
            known = (table.table.digest, layer.digest)
            if known not in self._tables:
                self._tables[known] = check_table(self.place, table, layer, every_span=self.asked.every_span)
                for name, detail in self._tables[known][0]:
                    yield self._row(name, layer.digest, detail)
            self._remember(layer, f"soci-v{document.version}", self._tables[known][1])
        for layer in layers.values():
            if layer.digest not in covered and self._is_wanted(layer):
                yield self._row("layer-not-indexed", layer.digest, size_text(layer.size))
        for each in document.prefetches:
            yield from self._prefetch(each)

    @cached_property
    def _signed(self) -> set[str]:
        if self.asked.verifier is None:
            return set()
        found = find_index(self.place, self.entry.digest, self.asked.verifier)
        return {str(each.descriptor.digest) for each in found.signed}

    def _remember(self, layer: Descriptor, form: str, facts: TableFacts | None) -> None:
        """The first index that covers a layer is the one that a node takes."""
        if facts is not None and not self.facts[layer.digest].form:
            self.facts[layer.digest] = msgspec.structs.replace(
                self.facts[layer.digest],
                form=form,
                index_bytes=facts.table_bytes,
                spans=facts.spans,
                largest_span=facts.largest_span_bytes,
                tool=facts.tool,
            )

    def _prefetch(self, prefetch: Prefetch) -> Iterator[CheckRow]:
        try:
            raw = read_blob(self.place, prefetch.list, limit=MAX_PREFETCH_BYTES)
            last = max(end for _, end in read_prefetch(raw, where=prefetch.list.digest))
        except (ContentError, NotFound) as error:
            yield self._row("prefetch-damaged", prefetch.layer, error.what)
            return
        spans = self.facts[prefetch.layer].spans if prefetch.layer in self.facts else 0
        if last >= spans > 0:
            yield self._row("prefetch-damaged", prefetch.layer, f"span {last} of {spans}")

    def _estargz(self, layers: Sequence[Descriptor]) -> Iterator[CheckRow]:
        """Footers against annotations."""
        gzips = [layer for layer in layers if layer.media_type.endswith("gzip") and not is_foreign(layer)]
        converted = [layer for layer in gzips if TOC_ANNOTATION in (layer.annotations or {})]
        for layer in gzips:
            try:
                footer = ends_as_estargz(self.place, layer)
            except NotFound:
                yield self._row("layer-gone", layer.digest)
                continue
            if footer and layer in converted:
                yield from self._toc(layer)
            elif footer:
                yield self._row("estargz-no-annotation", layer.digest)
            elif layer in converted:
                yield self._row("estargz-no-footer", layer.digest)
        left = [layer for layer in layers if layer not in converted]
        if converted and left:
            yield self._row("estargz-partly", detail=f"{len(converted)} of {len(layers)}")

    def _toc(self, layer: Descriptor) -> Iterator[CheckRow]:
        from registry_pipelines.stream.toc_checks import check_toc

        findings, facts = check_toc(
            self.place, layer, self._diff_ids.get(layer.digest), every_span=self.asked.every_span
        )
        for name, detail in findings:
            yield self._row(name, layer.digest, detail)
        if facts is not None:
            self.facts[layer.digest] = msgspec.structs.replace(
                self.facts[layer.digest],
                form="estargz",
                index_bytes=facts.toc_bytes,
                spans=facts.chunks,
                largest_span=facts.largest_chunk,
            )

    @property
    def _diff_ids(self) -> dict[Digest, Digest]:
        """By layer, where the config tells."""
        layers, told = self.entry.manifest.layers, diff_ids_of(self.entry)
        return {layer.digest: each for layer, each in zip(layers, told, strict=True)} if told else {}


def unnamed_indexes(entries: Sequence[Entry]) -> Iterator[CheckRow]:
    """SOCI indexes in an image's index that no image names. entries: everything below a release."""
    named: set[Digest] = set()
    for entry in entries:
        if entry.kind == "image":
            with suppress(DigestInvalid):
                named.add(Digest.parse((entry.manifest.annotations or {}).get(SOCI_ANNOTATION, "")))
    for entry in entries:
        if entry.kind == "soci-index" and entry.digest not in named:
            yield check_row("index-unnamed", platform=str(entry.platform), manifest=entry.digest)
