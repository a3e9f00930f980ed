"""The libraries of one image: layers that nobody has looked at are streamed once, and nothing is unpacked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from registry_pipelines.build.bases import open_base
from registry_pipelines.build.links.check import check_links
from registry_pipelines.build.links.report import LinkReport
from registry_pipelines.errors import DigestMismatch, LayerInvalid, LibraryMissing
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.linkage import LayerLinks, LinkStore, read_links
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool

WORKERS = 2
"""Layers read at once, at most one a core; each holds up to 60 MiB of a large library."""

Layer = tuple[Descriptor, Digest]
"""A layer with its diffID."""


def image_links(
    place: Place, selector: str, platform: Platform, *, state: Path, progress: Progress | None = None
) -> LinkReport:
    """Read one platform's image, or what is known of it, and say what does not link in it.

    selector: tag or digest. state: the state folder, where what is found of layers stays. Raises NotFound,
    ManifestInvalid, InputError: not an image for the platform; DiskFull, LocalError, and the RegistryError family.
    """
    image = open_base(selector, platform, lambda text: (place, text))
    layers = list(zip(image.manifest.layers, image.diff_ids, strict=True))
    found = layer_links(place, layers, LinkStore(state), progress=progress)
    return check_links(
        found,
        platform=str(platform),
        architecture=platform.architecture,
        environment=image.config.get("Env") or (),
    )


def layer_links(
    place: Place, layers: Sequence[Layer], store: LinkStore, *, progress: Progress | None = None
) -> list[LayerLinks | None]:
    """What is in each layer; None for one that nobody here can read, and a problem for one that is damaged, or is not
    what the image says. Raises DiskFull, LocalError, and the RegistryError family."""
    unique = list(dict.fromkeys((layer.digest, diff_id) for layer, diff_id in layers))
    by_key = {(layer.digest, diff_id): layer for layer, diff_id in layers}

    def read(key: tuple[Digest, Digest]) -> LayerLinks | None:
        return _layer(place, by_key[key], key[1], store, progress or Silent())

    with Pool(min(WORKERS, os.cpu_count() or 1), "links-layer") as pool:
        found = dict(zip(unique, pool.map(read, unique), strict=True))
    return [found[layer.digest, diff_id] for layer, diff_id in layers]


def _layer(place: Place, layer: Descriptor, diff_id: Digest, store: LinkStore, progress: Progress) -> LayerLinks | None:
    known = store.get(diff_id, layer.digest)
    if known is not None or layer.media_type not in media_types.LAYERS:
        return known
    with store.turn(diff_id, layer.digest):
        return store.get(diff_id, layer.digest) or _read(place, layer, diff_id, store, progress)


def _read(place: Place, layer: Descriptor, diff_id: Digest, store: LinkStore, progress: Progress) -> LayerLinks:
    task, where = f"libraries of {layer.digest.short}", f"{place}@{layer.digest}"
    progress.begin(task, total_bytes=layer.size)
    try:
        with BlobStream(place, layer) as stream:
            counted = Counted(stream, progress, task)
            walk = open_layer(counted, layer.media_type, where=where, expected=layer, diff_id=diff_id, any_names=True)
            links = read_links(walk)
    except (LayerInvalid, DigestMismatch) as error:
        progress.end(task, note="not read")
        return LayerLinks(problem=error.what)
    store.keep(diff_id, layer.digest, links)
    progress.end(task)
    return links


def refuse_missing(reports: Iterable[LinkReport], *, where: str) -> None:
    """Raise LibraryMissing when something of an image cannot be loaded for certain, or was not read."""
    texts = [finding.text() for report in reports for finding in report.of("certain")]
    if texts:
        raise LibraryMissing(
            f"{count_text(len(texts), 'thing')} cannot be loaded: " + "; ".join(dict.fromkeys(texts)),
            where=where,
            do="`links: report` builds it all the same",
        )


def known_links(layers: Sequence[Layer], store: LinkStore, make: Callable[[int], object]) -> list[LayerLinks | None]:
    """Of layers that were made here; those that nobody looked at are made once more. make: by number, from 0."""
    found = []
    for number, (layer, diff_id) in enumerate(layers):
        links = store.get(diff_id, layer.digest)
        if links is None:
            make(number)
            links = store.get(diff_id, layer.digest)
        found.append(links)
    return found
