"""A release that is to be indexed or converted: its top, what is below it, each image's layers and diffIDs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import count_text
from registry_pipelines.registry.image_warnings import SOCI_ANNOTATION
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place


@dataclass(frozen=True)
class SourceImage:
    """One platform's image."""

    entry: Entry
    manifest: ManifestBytes
    """As it is stored."""
    layers: tuple[tuple[Descriptor, Digest], ...]
    """Each layer and its diffID, base first."""

    @property
    def platform(self) -> str:
        """``linux/amd64``."""
        return str(self.entry.platform)

    @property
    def soci_index(self) -> str:
        """Digest of the SOCI index (version 2) that the manifest names; empty when it names none."""
        return (self.entry.manifest.annotations or {}).get(SOCI_ANNOTATION, "")


@dataclass(frozen=True)
class Source:
    """A whole release."""

    top: ManifestBytes
    images: tuple[SourceImage, ...]
    indexes: Mapping[Digest, ManifestBytes]
    """Those below the top, the top left out."""


def read_source(place: Place, release: Digest) -> Source:
    """Read a release. Raises NotFound, RegistryError; ManifestInvalid: it holds no image that could be started, it is
    of Docker's schema 1, or a config does not fit its manifest; ClosureIncomplete: something of it is missing."""
    top = place.registry.get_manifest(place.repository, release)
    entries = read_entries(place, top)
    images = images_of(entries)
    if not images:
        raise ManifestInvalid("it holds no image that could be started", where=f"{place}@{release}")

    def stored(digest: Digest) -> ManifestBytes:
        return top if digest == top.digest else place.registry.get_manifest(place.repository, digest)

    return Source(
        top=top,
        images=tuple(SourceImage(entry, stored(entry.digest), _layers(entry)) for entry in images),
        indexes={each.digest: stored(each.digest) for each in entries if each.kind == "index" and each.listed},
    )


def is_estargz(layer: Descriptor) -> bool:
    """Whether a layer says that it is eStargz."""
    return TOC_ANNOTATION in (layer.annotations or {})


def _layers(entry: Entry) -> tuple[tuple[Descriptor, Digest], ...]:
    layers, diff_ids = entry.manifest.layers, entry.config.diff_ids if entry.config else ()
    if len(layers) != len(diff_ids):
        raise ManifestInvalid(
            f"the manifest has {count_text(len(layers), 'layer')}, its config names {len(diff_ids)}",
            where=str(entry.digest),
            do="Push the image again: its config says what its layers unpack to",
        )
    return tuple(zip(layers, diff_ids, strict=True))
