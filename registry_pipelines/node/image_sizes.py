"""How large images are on a node, as their registry tells: by manifests and some bytes of layers; none is fetched.

What a layer unpacks to stands in no manifest. eStargz says it in an annotation, a SOCI index at its beginning; of gzip
the last four bytes of the only member tell it modulo 4 GiB (RFC 1952, "ISIZE"); a plain tar is as large as it is. For
the rest it is estimated, and said so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.node.sizing import ImageSize, LayerSize
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import DOCKER_LAYER_GZIP, OCI_LAYER_GZIP, TOC_ANNOTATION
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.estargz_toc import SIZE_ANNOTATION
from registry_pipelines.stream.hot.packs import find_packs
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.lazy.proving import is_proven
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.signed_index import find_index
from registry_pipelines.stream.ztoc import HEAD_BYTES, tar_bytes
from registry_pipelines.threads import Pool

RATIO = 2.5
"""Unpacked to compressed where nothing tells: wheels with CUDA have 1.8, Debian's packages 2.6."""
FIRST_SHARE = 0.1
"""Of an image, fetched until it computes, without a hot pack: 8 to 11 % with SOCI's spans (docs/streaming.md)."""
THREADS = 8
"""Requests at once: each is small, so latency counts."""
_GZIP = frozenset({OCI_LAYER_GZIP, DOCKER_LAYER_GZIP})
_WRAP = 1 << 32
_MOST_RATIO = 20
"""No layer of files packs better; single files of zeros do (1032: zlib's technical notes)."""


class Named(NamedTuple):
    """An image as somebody named it. selector: tag or digest."""

    name: str
    place: Place
    selector: str


class Sizes(NamedTuple):
    """failed: why the others could not be read, by name."""

    images: tuple[ImageSize, ...]
    failed: Mapping[str, RegistryPipelinesError]


class _Served(NamedTuple):
    """How nodes can serve an image. ztocs: by layer digest. packed: unpacked bytes of the newest hot pack."""

    form: str
    ztocs: Mapping[str, Descriptor]
    packed: int


class _Read(NamedTuple):
    named: Named
    image: NodeImage
    served: _Served


def image_sizes(
    images: Sequence[Named], *, platform: Platform | None = None, verifier: Verifier | None = None
) -> Sizes:
    """Each image's sizes, for one platform (this machine's unless told). verifier: whose indexes and packs nodes
    believe. An image that is not there, has no such platform or may not be read ends nothing: a cluster's list names
    images that have gone.
    """
    with Pool(THREADS, "size") as pool:
        tried = list(pool.map(lambda each: _tried(each, platform, verifier), images))
        read = [each for each in tried if isinstance(each, _Read)]
        wanted = {
            layer.digest: (image.place, layer, diff_id, of.ztocs.get(layer.digest))
            for _, image, of in read
            for layer, diff_id in image.layers
        }
        sizes = dict(zip(wanted, pool.map(lambda each: _layer(*each), wanted.values()), strict=True))
    return Sizes(
        tuple(
            _image(named, image, tuple(sizes[layer.digest] for layer, _ in image.layers), of)
            for named, image, of in read
        ),
        {named.name: each for named, each in zip(images, tried, strict=True) if not isinstance(each, _Read)},
    )


def _tried(named: Named, platform: Platform | None, verifier: Verifier | None) -> _Read | RegistryPipelinesError:
    try:
        image = image_for(named.place, named.selector, platform)
        return _Read(named, image, _served(image, verifier, named.selector))
    except RegistryPipelinesError as error:
        return error


def _image(named: Named, image: NodeImage, layers: tuple[LayerSize, ...], served: _Served) -> ImageSize:
    unpacked = sum(each.unpacked for each in layers)
    first = served.packed or round(unpacked * FIRST_SHARE)
    return ImageSize(
        name=named.name,
        digest=image.descriptor.digest,
        layers=layers,
        form=served.form,
        first=min(first, unpacked) if served.form else 0,
        packed=bool(served.packed),
    )


def _served(image: NodeImage, verifier: Verifier | None, selector: str) -> _Served:
    if verifier is None:
        return _Served("", {}, 0)
    place, digest = image.place, image.descriptor.digest
    chunked = any(TOC_ANNOTATION in (layer.annotations or {}) for layer in image.manifest.layers)
    chunked = chunked and is_proven(place, digest, verifier, selector=selector)
    signed = find_index(place, digest, verifier).signed
    form = signed[0].note.format if signed else "estargz" if chunked else ""
    packs = find_packs(place, digest, verifier, first=True).believed if form else ()
    return _Served(form, signed[0].ztocs if signed else {}, packs[0].note.content_bytes if packs else 0)


def _layer(place: Place, layer: Descriptor, diff_id: Digest, ztoc: Descriptor | None) -> LayerSize:
    """What the registry does not tell is estimated."""
    told = _told(place, layer, ztoc)
    return LayerSize(
        digest=layer.digest,
        diff_id=diff_id,
        compressed=layer.size,
        unpacked=round(layer.size * RATIO) if told is None else told,
        exact=told is not None,
    )


def _told(place: Place, layer: Descriptor, ztoc: Descriptor | None) -> int | None:
    noted = (layer.annotations or {}).get(SIZE_ANNOTATION, "")
    if noted.isdecimal() and len(noted) < 16:
        return int(noted)
    if layer.media_type.endswith(".tar"):
        return layer.size
    try:
        if ztoc is not None:
            return tar_bytes(_part(place, ztoc, 0, min(HEAD_BYTES, ztoc.size)), where=f"{place}@{ztoc.digest}")
        if layer.media_type in _GZIP and layer.size > 18:  # bytes: no gzip is smaller
            return unwrapped(int.from_bytes(_part(place, layer, layer.size - 4, layer.size), "little"), layer.size)
    except RegistryPipelinesError:
        pass  # what it is asked for is a help alone
    return None


def _part(place: Place, blob: Descriptor, start: int, stop: int) -> bytes:
    found = bytearray(stop - start)
    filled = 0
    with blob_ranges(place, blob.digest)(start, stop) as reader:
        while filled < len(found) and (count := reader.readinto(memoryview(found)[filled:])):
            filled += count
    return bytes(found[:filled])


def unwrapped(told: int, compressed: int) -> int | None:
    """What a gzip file of a tar unpacks to, by its last four bytes; None where several sizes fit, or none does.

    compressed: bytes of the file. Tars are multiples of 512 bytes, hardly grow by compression, and shrink 20 times at
    most. Of a file with several members the four bytes are the last one's: mostly too little to be true, and so found.
    """
    if told % 512:
        return None
    least, most = compressed - compressed // 1000 - 64, compressed * _MOST_RATIO
    fitting = range(told + max(0, math.ceil((least - told) / _WRAP)) * _WRAP, most + 1, _WRAP)
    return fitting[0] if len(fitting) == 1 else None


__all__ = ["FIRST_SHARE", "RATIO", "Named", "Sizes", "image_sizes", "unwrapped"]
