"""What the wheels stand on: the interpreter base, or an image from any registry whose layers are mounted or copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry_pipelines.build.builder import LayerRow
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    Descriptor,
    Index,
    Manifest,
    read_image_config,
    select_platform,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.through_cache import Served
from registry_pipelines.transfer.uploads import Brought, Uploads, Wanted

OpenPlace = Callable[[str], tuple[Place, str]]
"""From an image reference to its place and its tag or digest."""


@dataclass(frozen=True)
class Base:
    """Layers and settings an image starts from."""

    rows: tuple[LayerRow, ...]
    descriptors: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    config: dict[str, Any] = field(default_factory=dict)
    """The ``config`` object of the image config."""
    history: tuple[dict[str, Any], ...] = ()
    name: str = ""
    """The reference with its digest; empty for the interpreter base."""
    digest: Digest | None = None
    served_by: str = ""
    """The cache that it came from, where that is another place than its name says."""


@dataclass(frozen=True)
class BaseImage:
    """A base image of one platform, resolved: nothing is copied yet."""

    place: Place
    reference: str
    digest: Digest
    manifest: Manifest
    config: dict[str, Any]
    diff_ids: tuple[Digest, ...]
    history: tuple[dict[str, Any], ...]


def open_base(reference: str, platform: Platform, open_place: OpenPlace) -> BaseImage:
    """Resolve a base image for a platform. Raises NotFound, ManifestInvalid, InputError for an artifact."""
    place, selector = open_place(reference)
    stored = place.registry.get_manifest(place.repository, selector)
    top = stored.digest
    for _ in range(MAX_DEPTH):
        content = stored.content()
        if isinstance(content, Manifest):
            break
        child = _child(content, platform, reference)
        stored = place.registry.get_manifest(place.repository, child.digest)
    else:
        raise ManifestInvalid(f"indexes are nested deeper than {MAX_DEPTH}", where=reference)
    if not content.is_image:
        raise InputError("the base is an artifact, not an image", where=reference, do="Name an image")
    config = read_image_config(read_blob(place, content.config, limit=MAX_CONFIG_BYTES), where=reference)
    if not platform.matches(config.platform):
        raise InputError(f"the base is for {config.platform}, not {platform}", where=reference)
    if len(config.diff_ids) != len(content.layers):
        raise ManifestInvalid("the config names another number of layers than the manifest", where=reference)
    history = tuple(entry or {} for entry in config.history or ())
    return BaseImage(place, reference, top, content, dict(config.config or {}), config.diff_ids, history)


def _child(index: Index, platform: Platform, reference: str) -> Descriptor:
    return select_platform(index, platform, where=reference)


def bring_layers(images: Sequence[BaseImage], uploads: Uploads, cache: BuildCache) -> dict[Digest, Brought]:
    """Have the bases' layers at the place, never unpacked; how each came. Raises what ``Uploads.bring`` raises."""
    name, repository = uploads.target.registry.name, uploads.target.repository
    wanted: dict[Digest, Wanted] = {}
    for image in images:
        for layer in image.manifest.layers:
            if image.place.registry.name == name:
                cache.remember_seen(layer.digest, name, image.place.repository)
            seen, label = tuple(cache.seen(layer.digest, name)), f"base layer {layer.digest.short}"
            wanted[layer.digest] = Wanted(image.place, layer, label, mount_from=seen)
    brought = dict(zip(wanted, uploads.bring(list(wanted.values())), strict=True))
    for digest in brought:
        cache.remember_seen(digest, name, repository)
    return brought


def base_of(image: BaseImage, platform: Platform, brought: dict[Digest, Brought]) -> Base:
    """The base with how its layers came. brought: of ``bring_layers``; what is taken from it counts once."""
    layers = zip(image.manifest.layers, image.diff_ids, strict=True)
    there = Brought("present")
    return _base(
        image, [_row(image, platform, layer, diff, brought.pop(layer.digest, there)) for layer, diff in layers]
    )


def describe_base(image: BaseImage, platform: Platform) -> Base:
    """What ``base_of`` will give, before anything is brought; the rows do not say how."""
    return base_of(image, platform, {})


def _row(image: BaseImage, platform: Platform, layer: Descriptor, diff_id: Digest, brought: Brought) -> LayerRow:
    return LayerRow(
        platform=str(platform),
        contents=f"base {image.reference}",
        key="",
        digest=layer.digest,
        diff_id=diff_id,
        size=layer.size,
        how=brought.how,
        bytes_uploaded=brought.bytes_sent,
    )


def _base(image: BaseImage, rows: Sequence[LayerRow]) -> Base:
    return Base(
        rows=tuple(rows),
        descriptors=image.manifest.layers,
        diff_ids=image.diff_ids,
        config=image.config,
        history=image.history,
        name=image.reference,
        digest=image.digest,
        served_by=_served_by(image.place),
    )


def _served_by(place: Place) -> str:
    return place.registry.served_by(place.repository) if isinstance(place.registry, Served) else ""
