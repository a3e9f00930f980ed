"""The image that a node starts: of an index the first manifest for this machine, as runtimes choose it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from registry_pipelines.errors import ClosureIncomplete, InputError, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ImageConfig, Index, Manifest, ManifestBytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text
from registry_pipelines.registry.platforms import image_config
from registry_pipelines.registry.protocol import Place

_MOST_LEVELS = 4
"""Indexes within indexes."""


@dataclass(frozen=True)
class NodeImage:
    """One platform's image."""

    place: Place
    descriptor: Descriptor
    """Of its manifest."""
    manifest: Manifest
    config: ImageConfig
    above: tuple[ManifestBytes, ...] = ()
    """The indexes that lead to it, the outermost first."""

    @property
    def layers(self) -> tuple[tuple[Descriptor, Digest], ...]:
        """Each layer and its diffID, base first."""
        return tuple(zip(self.manifest.layers, self.config.diff_ids, strict=True))


def image_for(
    place: Place,
    selector: str,
    platform: Platform | None = None,
    *,
    seen: Callable[[Digest], object] | None = None,
) -> NodeImage:
    """Read the manifest and config that a node starts. selector: tag or digest. platform: this machine's unless told.
    seen: is told the manifest's digest before the config is asked for.

    Raises InputError: there is none for the platform; NotFound, RegistryError; ManifestInvalid, ClosureIncomplete.
    """
    wanted = platform or Platform.here()
    descriptor = place.registry.resolve(place.repository, selector)
    above: list[ManifestBytes] = []
    for _ in range(_MOST_LEVELS):
        raw = place.registry.get_manifest(place.repository, descriptor.digest)
        content = raw.content()
        if isinstance(content, Manifest):
            if seen is not None:
                seen(descriptor.digest)
            return replace(_image(place, descriptor, content), above=tuple(above))
        above.append(raw)
        descriptor = _choice(place, content, wanted, "was asked for" if platform else "is this machine's")
    raise ClosureIncomplete("its indexes stand in each other too deep", where=f"{place}@{descriptor.digest}")


def _choice(place: Place, index: Index, wanted: Platform, why: str) -> Descriptor:
    platforms = [line.platform for line in index.manifests if line.platform and not line.platform.unknown]
    for line in index.manifests:
        if line.platform is None or wanted.matches(line.platform):
            return line
    there = ", ".join(dict.fromkeys(map(str, platforms))) or "no platform"
    raise InputError(f"the image is for {there}, and {wanted} {why}", where=str(place))


def _image(place: Place, descriptor: Descriptor, manifest: Manifest) -> NodeImage:
    where = f"{place}@{descriptor.digest}"
    if not manifest.is_image:
        raise ManifestInvalid("it is no image that could be started", where=where)
    config = image_config(place, manifest)
    if len(manifest.layers) != len(config.diff_ids):
        raise ManifestInvalid(
            f"the manifest has {count_text(len(manifest.layers), 'layer')}, its config names {len(config.diff_ids)}",
            where=where,
            do="Push the image again: its config says what its layers unpack to",
        )
    return NodeImage(place, descriptor, manifest, config)
