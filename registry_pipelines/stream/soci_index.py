"""A SOCI index: the manifest that names the tables of an image's layers, in exact bytes (soci-snapshotter 0.15.0,
``docs/soci-index-manifest-v2.md`` and ``soci/soci_index.go``).

The bytes matter: a node stores the manifest as its own program writes it, under the digest that it asked for, so one
more field, or another order, and it streams nothing. Version 1 refers to an image's manifest, as any referrer does;
version 2 stands in the image's index, and the image's manifest names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from registry_pipelines.errors import DigestInvalid, IndexInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    Descriptor,
    Manifest,
    ManifestBytes,
    decode_json,
    encode_json,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.stream.ztoc import TOOL

ZTOC_TYPE = "application/octet-stream"
PREFETCH_TYPE = "application/vnd.amazon.soci.prefetch.v1+json"
CONFIG = b"{}"
"""The blob that every SOCI index has as its config; registries want it to be there."""

LAYER_DIGEST = "com.amazon.soci.image-layer-digest"
LAYER_TYPE = "com.amazon.soci.image-layer-mediaType"
SPAN_SIZE = "com.amazon.soci.span-size"
TOOL_NAME = "com.amazon.soci.build-tool-identifier"
INDEX_DIGEST = "com.amazon.soci.index-digest"
"""Of an image's manifest: its SOCI index, version 2."""
MANIFEST_DIGEST = "com.amazon.soci.image-manifest-digest"
"""Of the line of a SOCI index in an image's index: the manifest it belongs to."""

MAX_PREFETCH_SPANS = 1 << 20


@dataclass(frozen=True)
class LayerTable:
    """One line of a SOCI index: the ztoc of a layer."""

    table: Descriptor
    layer: Digest
    span_bytes: int
    """As its annotation says; 0 where it does not."""


@dataclass(frozen=True)
class Prefetch:
    """One line of a SOCI index: what a node fetches of a layer before it is asked for."""

    list: Descriptor
    layer: Digest


@dataclass(frozen=True)
class SociDocument:
    """A SOCI index by anybody."""

    version: Literal[1, 2]
    tables: tuple[LayerTable, ...]
    prefetches: tuple[Prefetch, ...]
    subject: Descriptor | None
    """Of version 1: the manifest of one platform."""
    tool: str
    exact: bool
    """Whether its bytes are those that a node writes for it; else nodes stream nothing with it."""


class _Span(msgspec.Struct, frozen=True):
    start_span: int
    end_span: int


class _PrefetchList(msgspec.Struct, frozen=True):
    version: str
    prefetch_spans: tuple[_Span, ...]


def table_line(table: Descriptor, layer: Descriptor, *, span_bytes: int) -> Descriptor:
    """The line of a ztoc. table: digest and size of the ztoc; layer: as the image's manifest has it."""
    notes: dict[str, str] = {LAYER_DIGEST: layer.digest, LAYER_TYPE: layer.media_type, SPAN_SIZE: str(span_bytes)}
    return Descriptor(media_type=ZTOC_TYPE, digest=table.digest, size=table.size, annotations=notes)


def prefetch_list(spans: Sequence[tuple[int, int]], layer: Digest) -> tuple[bytes, Descriptor]:
    """The list of spans to fetch first, and its line. spans: first and last of each run, in any order; what touches or
    overlaps is joined. Raises ValueError for none."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    if not joined:
        raise ValueError("a list of no spans")
    raw = encode_json(_PrefetchList("1.0", tuple(_Span(*each) for each in joined)))
    notes: dict[str, str] = {LAYER_DIGEST: layer}
    return raw, Descriptor(media_type=PREFETCH_TYPE, digest=Digest.of(raw), size=len(raw), annotations=notes)


def read_prefetch(raw: bytes, *, where: str = "") -> tuple[tuple[int, int], ...]:
    """First and last span of each run. Raises ManifestInvalid, IndexInvalid."""
    found = decode_json(raw, _PrefetchList, where=where, what="prefetch list")
    runs = tuple((each.start_span, each.end_span) for each in found.prefetch_spans)
    if found.version != "1.0" or not runs or any(not 0 <= a <= b < MAX_PREFETCH_SPANS for a, b in runs):
        raise IndexInvalid("a prefetch list of a SOCI index has no valid spans", where=where, do="Make the index again")
    return runs


def soci_index(
    tables: Sequence[Descriptor],
    prefetches: Sequence[Descriptor] = (),
    *,
    subject: Descriptor | None = None,
    tool: str = TOOL,
) -> ManifestBytes:
    """The index of an image. tables: lines in the order of the image's layers. subject: the manifest of the image, for
    version 1; without it the index is of version 2."""
    kind = media_types.SOCI_V2 if subject is None else media_types.SOCI_V1
    if subject is not None:
        subject = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    return _encoded(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=Descriptor(media_type=kind, digest=Digest.of(CONFIG), size=len(CONFIG)),
            layers=(*tables, *prefetches),
            subject=subject,
            annotations={TOOL_NAME: tool},
        )
    )


def read_soci_index(manifest: ManifestBytes, *, where: str = "") -> SociDocument:
    """Read a SOCI index by anybody. Raises ManifestInvalid, ManifestTooLarge; IndexInvalid: it is none."""
    content = manifest.content()
    if not isinstance(content, Manifest) or content.config.media_type not in media_types.SOCI_INDEXES:
        raise IndexInvalid("this manifest is no SOCI index", where=where)
    stored = msgspec.structs.replace(content, artifact_type="", media_type=media_types.OCI_MANIFEST, schema_version=2)
    return SociDocument(
        version=1 if content.config.media_type == media_types.SOCI_V1 else 2,
        tables=tuple(_table(each, where) for each in content.layers if each.media_type == ZTOC_TYPE),
        prefetches=tuple(
            Prefetch(each, _layer(each, where)) for each in content.layers if each.media_type == PREFETCH_TYPE
        ),
        subject=content.subject,
        tool=(content.annotations or {}).get(TOOL_NAME, ""),
        exact=_encoded(stored).raw == manifest.raw,
    )


def index_line(index: ManifestBytes, image: Digest, platform: Platform) -> Descriptor:
    """The line of a SOCI index (version 2) in an image's index. image: the manifest that names it."""
    return Descriptor(
        media_type=media_types.OCI_MANIFEST,
        digest=index.digest,
        size=len(index.raw),
        annotations={MANIFEST_DIGEST: image},
        platform=platform,
        artifact_type=media_types.SOCI_V2,
    )


def _table(line: Descriptor, where: str) -> LayerTable:
    notes = line.annotations or {}
    span = notes.get(SPAN_SIZE, "")
    return LayerTable(
        table=line,
        layer=_layer(line, where),
        span_bytes=int(span) if span.isascii() and span.isdigit() and len(span) < 19 else 0,
    )


def _layer(line: Descriptor, where: str) -> Digest:
    try:
        return Digest.parse((line.annotations or {}).get(LAYER_DIGEST, ""))
    except DigestInvalid as error:
        raise IndexInvalid("a SOCI index does not say which layer a table is of", where=where) from error


def _encoded(manifest: Manifest) -> ManifestBytes:
    """As Go's ``encoding/json`` writes it: maps sorted, characters with a meaning in HTML as escapes."""
    layers = tuple(_sorted(each) for each in manifest.layers)
    notes = dict(sorted(manifest.annotations.items())) if manifest.annotations else None
    raw = encode_json(
        msgspec.structs.replace(manifest, layers=layers, annotations=notes, config=_sorted(manifest.config))
    )
    for plain in ("<", ">", "&", "\u2028", "\u2029"):
        raw = raw.replace(plain.encode(), f"\\u{ord(plain):04x}".encode())
    return ManifestBytes(raw, manifest.media_type, Digest.of(raw))


def _sorted(line: Descriptor) -> Descriptor:
    notes = dict(sorted(line.annotations.items())) if line.annotations else None
    return msgspec.structs.replace(line, annotations=notes)


__all__ = [
    "CONFIG",
    "INDEX_DIGEST",
    "MANIFEST_DIGEST",
    "PREFETCH_TYPE",
    "ZTOC_TYPE",
    "LayerTable",
    "Prefetch",
    "SociDocument",
    "index_line",
    "prefetch_list",
    "read_prefetch",
    "read_soci_index",
    "soci_index",
    "table_line",
]
