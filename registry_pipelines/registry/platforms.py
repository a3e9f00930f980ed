"""What is below a manifest or index: every entry, what it is, and which of them a container runtime could start.

An index names platforms, but what a client starts is not what the index or an annotation calls an image. Tried on
2026-11-28: Docker 20.10.24, containerd 1.6.20, skopeo 1.22.0 and crane 0.20.7 start a manifest that has an
``artifactType``, or an annotation that calls it an attestation; Docker and containerd one whose config has the type
``application/octet-stream``; containers/image (skopeo, Podman, CRI-O) stores layers whose type is in-toto's, Docker
manifests with a config of any type, and follows an entry whose own media type is no manifest's. So what counts here is
what is in the manifest and its config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from registry_pipelines.errors import ClosureIncomplete, ContentError, ManifestInvalid, NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.go_json import lists_layers
from registry_pipelines.oci.manifests import (
    EMPTY,
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    ManifestBytes,
    read_image_config,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place

MAX_MANIFESTS = 512
"""Manifests and indexes below one release that are opened; official images have about 40 with their attestations."""

Kind = Literal["image", "index", "attestation", "soci-index", "artifact", "blob"]
"""``image``: some client could start it. ``attestation``: BuildKit's. ``blob``: an index names it, no manifest is
there."""


class Entry(msgspec.Struct, frozen=True):
    """One manifest below a top digest, or the top itself; however often it is listed, it is one entry."""

    descriptor: Descriptor
    """Media type, digest and size in bytes as stored."""
    kind: Kind
    listed: tuple[Descriptor, ...] = ()
    """The lines of indexes that name it, in order; none for the top itself."""
    content: Manifest | Index | None = None
    """None for a blob."""
    config: ImageConfig | None = None
    """Of an image; None when it was not asked for, or could not be read."""
    problem: ContentError | None = None
    """Why the config of an image could not be read."""

    @property
    def digest(self) -> Digest:
        """Its digest."""
        return self.descriptor.digest

    @property
    def announced(self) -> Platform | None:
        """The first platform that an index names for it."""
        return next((line.platform for line in self.listed if line.platform), None)

    @property
    def configured(self) -> Platform:
        """The platform of its config; without names when there is none."""
        return self.config.platform if self.config else Platform(os="", architecture="")

    @property
    def platform(self) -> Platform:
        """The index's word, which clients believe, else the config's."""
        return self.announced or self.configured

    @property
    def disagrees(self) -> bool:
        """Whether the index names another system or architecture than the config."""
        mine = self.configured.normal
        if not self.config or not (mine.os and mine.architecture):
            return False
        words = [line.platform.normal for line in self.listed if line.platform]
        return any((word.os, word.architecture) != (mine.os, mine.architecture) for word in words)

    @property
    def manifest(self) -> Manifest:
        """Its manifest. Raises ManifestInvalid for an index and a blob."""
        if isinstance(self.content, Manifest):
            return self.content
        raise ManifestInvalid("this is no manifest", where=self.digest)

    def serves(self, wanted: Platform) -> bool:
        """Whether it is an image for the platform by every word about it, the config's included where it says one."""
        if self.kind != "image":
            return False
        words = [line.platform for line in self.listed if line.platform] or [self.configured]
        return all(wanted.matches(word) for word in words) and not self.disagrees


def read_entries(
    place: Place,
    top: ManifestBytes,
    *,
    known: Mapping[Digest, ManifestBytes] | None = None,
    configs: bool = True,
) -> tuple[Entry, ...]:
    """Everything below a manifest or index, each digest once, in the order of the indexes, the top first.

    known: manifests that were fetched already. configs: read the configs of images too; a config that alone tells
    whether a manifest is an image is read in any case.
    Raises ClosureIncomplete (a child is missing, too many, too deep), ManifestInvalid, RegistryError. A config that
    cannot be read raises nothing: the entry has the problem.
    """
    walk = _Walk(place, known or {}, configs)
    walk.visit(top, depth=0)
    return tuple(walk.entries())


def read_images(place: Place, top: ManifestBytes, *, configs: bool = True) -> tuple[Entry, ...]:
    """The entries that a runtime could start. Raises as :func:`read_entries` and :func:`images_of`."""
    return images_of(read_entries(place, top, configs=configs))


def images_of(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Of entries that were read, those that a runtime could start. Raises ClosureIncomplete or another ContentError for
    a config that is missing or cannot be read."""
    images = tuple(entry for entry in entries if entry.kind == "image")
    for entry in images:
        if entry.problem is not None:
            raise entry.problem
    return images


def platform_images(place: Place, top: ManifestBytes) -> dict[Digest, Platform]:
    """Each startable manifest's digest and platform, in the index's order; a plain manifest is its own only one.
    Raises as :func:`read_images`."""
    return {entry.digest: entry.platform for entry in read_images(place, top)}


def same_content(here: Place, mine: Digest, there: Place, theirs: Digest) -> bool:
    """Whether two manifests or indexes hold the same files for the same platforms: equal diffIDs, whatever the layers'
    digests. Builders compress alike only in one version (Go 1.26 and 1.27 give other bytes for every layer, run
    2026-11-28), so layers of two builders are compared so, never by digest. False also for what is no image.
    Raises RegistryError."""
    try:
        return bool(_unpacked(here, mine)) and _unpacked(here, mine) == _unpacked(there, theirs)
    except (ContentError, NotFound):
        return False


def _unpacked(place: Place, digest: Digest) -> set[tuple[str, tuple[Digest, ...]]]:
    images = read_images(place, place.registry.get_manifest(place.repository, digest))
    return {(str(each.configured.normal), each.config.diff_ids if each.config else ()) for each in images}


def image_config(place: Place, manifest: Manifest) -> ImageConfig:
    """A manifest's image config. Raises ClosureIncomplete when it is missing, ManifestInvalid, RegistryError."""
    return read_image_config(_config_bytes(place, manifest), where=f"{place}@{manifest.config.digest}")


def _config_bytes(place: Place, manifest: Manifest) -> bytes:
    try:
        return read_blob(place, manifest.config, limit=MAX_CONFIG_BYTES)
    except NotFound as error:
        raise ClosureIncomplete(f"the image config {manifest.config.digest} is missing", where=str(place)) from error


class _Walk:
    def __init__(self, place: Place, known: Mapping[Digest, ManifestBytes], configs: bool) -> None:
        self._place, self._known, self._configs = place, known, configs
        self._found: dict[Digest, ManifestBytes | None] = {}
        self._listed: dict[Digest, list[Descriptor]] = {}

    def visit(self, stored: ManifestBytes, *, depth: int) -> None:
        self._found[stored.digest] = stored
        content = stored.content()
        if isinstance(content, Manifest):
            return
        if depth == MAX_DEPTH:
            raise ClosureIncomplete(f"indexes are nested more than {MAX_DEPTH} deep", where=str(stored.digest))
        for line in content.manifests:
            self._listed.setdefault(line.digest, []).append(line)
            if line.digest in self._found:
                continue
            if len(self._found) > MAX_MANIFESTS:
                raise ClosureIncomplete(f"more than {MAX_MANIFESTS} manifests below it", where=str(self._place))
            child = self._child(line)
            if child is None:
                self._found[line.digest] = None
            else:
                self.visit(child, depth=depth + 1)

    def entries(self) -> Iterator[Entry]:
        for digest, stored in self._found.items():
            listed = tuple(self._listed.get(digest, ()))
            if stored is None:
                yield Entry(listed[0], "blob", listed)
                continue
            content = stored.content()
            if isinstance(content, Index):
                yield Entry(stored.descriptor, "index", listed, content)
            else:
                yield self._judged(stored.descriptor, content, listed)

    def _judged(self, descriptor: Descriptor, manifest: Manifest, listed: tuple[Descriptor, ...]) -> Entry:
        if _is_attestation(manifest, listed):
            return Entry(descriptor, "attestation", listed, manifest)
        surely = _names_an_image(descriptor, manifest)
        if surely and not self._configs:
            return Entry(descriptor, "image", listed, manifest)
        if not surely and manifest.config.digest == EMPTY.digest:
            return Entry(descriptor, _artifact(manifest), listed, manifest)
        try:
            raw = _config_bytes(self._place, manifest)
        except ContentError as error:
            return Entry(descriptor, "image", listed, manifest, problem=error)
        if not (surely or lists_layers(raw)):
            return Entry(descriptor, _artifact(manifest), listed, manifest)
        try:
            config = read_image_config(raw, where=f"{self._place}@{manifest.config.digest}")
        except ManifestInvalid as error:
            return Entry(descriptor, "image", listed, manifest, problem=error)
        return Entry(descriptor, "image", listed, manifest, config)

    def _child(self, line: Descriptor) -> ManifestBytes | None:
        """None: nothing is stored as a manifest under what the index itself does not call one."""
        if line.digest in self._known:
            return self._known[line.digest]
        try:
            return self._place.registry.get_manifest(self._place.repository, line.digest)
        except NotFound as error:
            if not line.is_manifest:
                return None
            what = f"the child manifest {line.digest} does not exist"
            raise ClosureIncomplete(what, where=str(self._place)) from error


def _is_attestation(manifest: Manifest, listed: tuple[Descriptor, ...]) -> bool:
    """BuildKit's attestation manifests have an image config too. Only their layers and a platform that no client asks
    for tell, both together: either could be set on a real image to keep it from being looked at."""
    if not manifest.layers or any(layer.media_type != media_types.IN_TOTO for layer in manifest.layers):
        return False
    return bool(listed) and all(line.platform is not None and line.platform.unknown for line in listed)


def _names_an_image(descriptor: Descriptor, manifest: Manifest) -> bool:
    """Whether its types alone are enough for some client. containers/image does not look at the config's type, nor at
    its diff_ids, where the manifest is Docker's."""
    return descriptor.media_type == media_types.DOCKER_MANIFEST or manifest.is_image


def _artifact(manifest: Manifest) -> Kind:
    return "soci-index" if manifest.kind in media_types.SOCI_INDEXES else "artifact"
