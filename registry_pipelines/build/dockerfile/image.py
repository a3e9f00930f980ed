"""What an engine left behind: the image of each platform, and what BuildKit attests of how it was made.

BuildKit puts its attestations beside the images, as manifests of the platform ``unknown/unknown`` in the index
(docs.docker.com, "Image attestation storage"). They are taken out: they carry the time and the id of the run, so that
two equal builds would have different digests, and no client pulls them. What they say becomes part of our provenance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.build.dockerfile.engines.protocol import LAYOUT
from registry_pipelines.errors import ContentError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    ManifestBytes,
    read_image_config,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place

ATTESTATION = "attestation-manifest"
"""Value of ``vnd.docker.reference.type`` at the manifest of attestations."""
_TYPE, _SUBJECT = "vnd.docker.reference.type", "vnd.docker.reference.digest"
_PREDICATE = "in-toto.io/predicate-type"

MAX_STATEMENT_BYTES = 64 << 20
"""BuildKit's provenance with ``mode=max`` has every step and the Dockerfile; those of 500 steps stay below 2 MiB."""


@dataclass(frozen=True)
class PlatformImage:
    """The image of one platform."""

    platform: Platform
    stored: ManifestBytes
    manifest: Manifest
    raw_config: bytes
    config: ImageConfig


@dataclass(frozen=True)
class MadeImage:
    """Everything that an engine made. place: where it lies. statements: predicates of SLSA provenance by the digest of
    the platform's manifest; empty for an engine that attests nothing."""

    place: Place
    images: tuple[PlatformImage, ...]
    statements: Mapping[Digest, Mapping[str, Any]]


def read_image(folder: Path, platforms: Sequence[Platform]) -> MadeImage:
    """Read the layout that an engine left in ``folder / LAYOUT``; its images are in the order of ``platforms``.

    Raises ContentError for one that is no layout with one image of each platform, ManifestInvalid.
    """
    layout = Layout(folder / LAYOUT)
    place = Place(LayoutRegistry(folder), LAYOUT)
    tops = list(layout.manifests())
    if len(tops) != 1:
        raise ContentError(
            f"the engine left {count_text(len(tops), 'image')}, and one is expected", where=str(layout.folder)
        )
    found, statements = dict[Platform, PlatformImage](), dict[Digest, Mapping[str, Any]]()
    for stored, notes in _manifests(place, tops[0]):
        content = stored.content()
        if not isinstance(content, Manifest):
            raise ManifestInvalid("an index stands in the engine's index", where=stored.digest)
        if notes.get(_TYPE) == ATTESTATION:
            if (predicate := _provenance(place, content)) is not None:
                statements[Digest.parse(notes.get(_SUBJECT, ""))] = predicate
            continue
        raw = read_blob(place, content.config, limit=MAX_CONFIG_BYTES)
        config = read_image_config(raw, where=stored.digest)
        found[config.platform.normal] = PlatformImage(config.platform, stored, content, raw, config)
    return MadeImage(place, tuple(_of(found, platform) for platform in platforms), statements)


def _of(found: Mapping[Platform, PlatformImage], wanted: Platform) -> PlatformImage:
    if image := found.get(wanted.normal):
        return image
    there = ", ".join(map(str, found)) or "nothing"
    raise ContentError(f"the engine made {there}, and {wanted} is wanted")


def _manifests(place: Place, top: Digest) -> Iterator[tuple[ManifestBytes, Mapping[str, str]]]:
    stored = place.registry.get_manifest(place.repository, top)
    content = stored.content()
    if not isinstance(content, Index):
        yield stored, {}
        return
    for child in content.manifests:
        yield place.registry.get_manifest(place.repository, child.digest), child.annotations or {}


def _provenance(place: Place, content: Manifest) -> Mapping[str, Any] | None:
    """The predicate of SLSA provenance among the attestations of one platform; None for none."""
    for layer in content.layers:
        if not (layer.annotations or {}).get(_PREDICATE, "").startswith("https://slsa.dev/provenance/"):
            continue
        return _predicate(read_blob(place, layer, limit=MAX_STATEMENT_BYTES), layer)
    return None


def _predicate(raw: bytes, layer: Descriptor) -> Mapping[str, Any]:
    try:
        statement = json.loads(raw)
    except (ValueError, RecursionError):
        raise ContentError("BuildKit's provenance is no JSON", where=layer.digest) from None
    predicate = statement.get("predicate") if isinstance(statement, dict) else None
    return predicate if isinstance(predicate, dict) else {}
