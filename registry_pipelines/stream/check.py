"""Ask a release whether it can start by streaming, and say everything that stands in the way: plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.errors import ContentError, ManifestOutdated
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.platforms import Entry, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check_kinds import CheckRow, Severity, check_row
from registry_pipelines.stream.derivation import read_derivations
from registry_pipelines.stream.eligible import image_rows, registry_rows
from registry_pipelines.stream.index_checks import Asked, ImageCheck, LayerFacts, unnamed_indexes
from registry_pipelines.stream.model import DEFAULT_MIN_LAYER_SIZE

if TYPE_CHECKING:
    from registry_pipelines.stream.hot.checks import PackFacts

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "unknown", "hint")
"""Worst first."""


class StreamCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and what came out; ``rows`` sorted by severity, then in the order of platforms and layers."""

    release: str
    rows: tuple[CheckRow, ...]
    layers: tuple[LayerFacts, ...] = ()
    """Of each platform in its order."""
    packs: tuple[PackFacts, ...] = ()
    """Of each platform, its hot pack."""

    def count(self, severity: Severity) -> int:
        """Rows of this severity."""
        return sum(row.severity == severity for row in self.rows)


def check_release(
    place: Place,
    reference: str,
    *,
    verifier: Verifier | None = None,
    min_layer_bytes: int = DEFAULT_MIN_LAYER_SIZE,
    every_span: bool = False,
) -> StreamCheck:
    """Everything known to be said of a release's streaming; nothing is written.

    reference: its digest, or a tag. verifier: whose signature makes an index one that nodes may be served.
    min_layer_bytes: compressed bytes below which a layer needs no index. every_span: read each layer whole through its
    index, in place of a few spans of it. What is wrong with the content raises nothing: it is a row. Raises
    RegistryError: not found, or no answer.
    """
    try:
        top = place.registry.get_manifest(place.repository, reference)
        entries = read_entries(place, top)
    except ManifestOutdated as error:
        return StreamCheck(release=reference, rows=(check_row("schema-1", manifest=reference, detail=error.where),))
    except ContentError as error:
        return StreamCheck(release=reference, rows=(check_row("unreadable", manifest=reference, detail=error.what),))
    asked = Asked(verifier, min_layer_bytes, every_span)
    images = [ImageCheck(place, entry, asked) for entry in entries if entry.kind == "image"]
    from registry_pipelines.stream.hot.checks import check_pack

    packs = [check_pack(place, image.entry, verifier) for image in images]
    rows = (*_rows(place, top.digest, images, entries), *(row for _, found in packs for row in found))
    layers = [each for image in images for each in image.facts.values()]
    return StreamCheck(
        release=top.digest, rows=_sorted(rows), layers=tuple(layers), packs=tuple(facts for facts, _ in packs)
    )


def _rows(place: Place, release: Digest, images: Sequence[ImageCheck], entries: Sequence[Entry]) -> Iterator[CheckRow]:
    if not images:
        yield check_row("no-image", manifest=release)
        return
    yield from registry_rows(place, release)
    yield from unnamed_indexes(entries)
    for image in images:
        yield from image_rows(place, image.entry)
        yield from image.rows()
    yield from _unrecorded(place, release, images)


def _unrecorded(place: Place, release: Digest, images: Sequence[ImageCheck]) -> Iterator[CheckRow]:
    """Images with eStargz layers that no believed record says were converted here."""
    converted = [image for image in images if any(each.form == "estargz" for each in image.facts.values())]
    verifier = converted[0].asked.verifier if converted else None
    if verifier is None:
        return
    known = read_attestations(place, release, verifier, predicate_type=DERIVATION_TYPE)
    recorded = {pair.derived for record, _ in read_derivations(known, release)[0] for pair in record.platforms}
    for image in converted:
        if image.entry.digest not in recorded:
            yield check_row("estargz-unrecorded", platform=str(image.entry.platform), manifest=image.entry.digest)


def _sorted(rows: Iterable[CheckRow]) -> tuple[CheckRow, ...]:
    return tuple(sorted(rows, key=lambda row: SEVERITIES.index(row.severity)))
