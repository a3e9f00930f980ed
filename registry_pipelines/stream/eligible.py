"""Whether an image can be streamed at all, by its manifests, small layers and its registry's name: no index needed.

Rules of GKE's Image streaming, as its documentation had them on 2026-11-28: the image lies in a standard or remote
repository of Artifact Registry, or is a public one of Docker Hub; manifests of schema 1 are not taken; an image that
has a layer twice, or an empty one, is fetched whole. Not among them any more: the encryption of the repository (CMEK).
No size and no number of platforms is named. That the repository has to be in the nodes' region, or the multi-region
that holds it, stands in the documentation of Google Cloud Batch, whose streaming is the same, of that day, and in older
editions of GKE's. Nothing is said there of layers of zstd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from registry_pipelines.errors import ContentError, ManifestInvalid, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.repeats import EMPTY_DIFF_IDS, repeated_layers
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.ecr.hosts import read_host
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check_kinds import CheckId, CheckRow, check_row
from registry_pipelines.stream.left_out import never_indexed, unreadable

MAX_EMPTY_BYTES = 4096
"""Larger layers are not looked into: gzip makes 4 KiB of 4 MB of zeros, and real empty layers have 32 to 100 bytes."""

_ARTIFACT_REGISTRY = re.compile(r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev")
_CONTAINER_REGISTRY = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
"""Hosts of the former Container Registry: repositories of Artifact Registry in these multi-regions since 2025."""
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def registry_rows(place: Place, release: Digest) -> Iterator[CheckRow]:
    """What the registry's host tells of services that stream by themselves, and who knows the rest. No request."""
    host = place.registry.name.partition("/")[0]
    match = _ARTIFACT_REGISTRY.fullmatch(host)
    location = match["location"] if match else _CONTAINER_REGISTRY.get(host, "")
    if location:
        yield check_row("gke-location", manifest=release, detail=f"the image is in {location}")
        yield check_row("gke-repository-kind", manifest=release)
    elif host in _DOCKER_HUB:
        yield check_row("docker-hub", manifest=release)
    else:
        yield check_row("gke-registry", manifest=release, detail=host)
    if read_host(host):
        yield check_row("fargate-registry", manifest=release)


def image_rows(place: Place, entry: Entry) -> Iterator[CheckRow]:
    """What the layers of one image tell by type, digest and diffID; those of a few bytes are looked into, with one
    request each. entry: an image, as ``read_entries`` gives it. Raises RegistryError."""
    platform, manifest = str(entry.platform), str(entry.digest)

    def row(name: CheckId, layer: Descriptor | None = None, detail: str = "") -> CheckRow:
        return check_row(name, platform=platform, manifest=manifest, layer=layer.digest if layer else "", detail=detail)

    if entry.problem is not None:
        yield row("unreadable", detail=entry.problem.what)
        return
    layers = entry.manifest.layers
    diff_ids = diff_ids_of(entry)
    if diff_ids is None:
        yield row("diff-ids")
    content = zip(layers, diff_ids or [None] * len(layers), strict=True)
    distinct = {layer.digest: (layer, diff_id) for layer, diff_id in content}
    for layer, _ in distinct.values():
        name = _type_row(layer)
        if name:
            yield row(name, layer, detail=layer.media_type[:80] if name == "odd-layer-type" else "")
    for layer, places in repeated_layers(layers, diff_ids):
        yield row("repeated-layer", layer, detail=f"as layers {', '.join(map(str, places))} of {len(layers)}")
    for layer, diff_id in distinct.values():
        try:
            if is_empty(place, layer, diff_id):
                yield row("empty-layer", layer)
        except (ContentError, NotFound) as error:
            yield row("layer-unread", layer, detail=error.what)


def is_empty(place: Place, layer: Descriptor, diff_id: Digest | None) -> bool:
    """Whether a layer has no entry at all. Raises LayerInvalid for a small one that cannot be read, RegistryError."""
    if diff_id in EMPTY_DIFF_IDS:
        return True
    if layer.size > MAX_EMPTY_BYTES or unreadable(layer):
        return False
    from registry_pipelines.oci.layer.walk import open_layer  # three libraries that decompress; few layers are so small

    with place.registry.open_blob(place.repository, layer.digest) as reader:
        walk = open_layer(reader, layer.media_type, where=f"{place}@{layer.digest}")
        return next(iter(walk), None) is None


def diff_ids_of(entry: Entry) -> tuple[Digest, ...] | None:
    """An image's diffIDs by its config, one for each layer; None: the config does not tell."""
    try:
        diff_ids = entry.config.diff_ids if entry.config else ()
    except ManifestInvalid:
        return None
    return diff_ids if len(diff_ids) == len(entry.manifest.layers) else None


_TYPE_ROWS: Mapping[str, CheckId] = {
    "encrypted": "encrypted-layer",
    "foreign": "foreign-layer",
    "unknown-type": "odd-layer-type",
    "zstd": "zstd-layer",
}


def _type_row(layer: Descriptor) -> CheckId | None:
    found = never_indexed(layer)
    return _TYPE_ROWS[found.reason] if found else None
