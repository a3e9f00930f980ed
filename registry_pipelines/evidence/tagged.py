"""cosign's tags ``sha256-<hex>.sig`` and ``.att``: one image manifest, one layer for each signature.

Adding a signature is read, extend, write back; the distribution protocol has no conditional PUT. Writers of this
process take turns; against others we read again after writing and repeat when our layer was lost. Between our last look
and another program's write one gap remains, which is why every signature is also written as a referrer of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from registry_pipelines.errors import ContentError, ManifestInvalid, NotFound, SignatureInvalid, Unavailable
from registry_pipelines.evidence.model import Rejected
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes, encode_json
from registry_pipelines.progress import count_text
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
ATTEMPTS = 5
"""Writes until we give up against others that write the same tag at the same time."""

_T = TypeVar("_T")

_LOCKS = [threading.Lock() for _ in range(64)]


def cosign_tag(digest: Digest, suffix: str) -> str:
    """``sha256-<hex>.sig`` and so on (sigstore/cosign, specs/SIGNATURE_SPEC.md, "Tag-based Discovery")."""
    return f"{digest.algorithm}-{digest.hex}.{suffix}"


def read_tagged(place: Place, tag: str) -> ManifestBytes | None:
    """The manifest under a cosign tag, None when there is none. Raises RegistryError, ManifestInvalid."""
    try:
        return place.registry.get_manifest(place.repository, tag)
    except NotFound:
        return None


def layers_of(stored: ManifestBytes) -> tuple[Descriptor, ...]:
    """The layers of such a manifest. Raises ManifestInvalid when the tag holds something else."""
    content = stored.content()
    if not isinstance(content, Manifest):
        raise ManifestInvalid("the tag holds an index, not cosign signatures", where=str(stored.digest))
    return content.layers


def read_layers(
    place: Place, tag: str, read: Callable[[Descriptor, Descriptor], _T], *, limit: int
) -> Iterator[_T | Rejected]:
    """What ``read`` makes of each layer under a cosign tag; nothing when there is no such tag.

    read: gets the manifest's descriptor and the layer's, and raises SignatureInvalid for what it does not believe.
    That, a damaged manifest and layers beyond ``limit`` are Rejected, so that signatures elsewhere are still found.
    Raises RegistryError when the registry does not answer.
    """
    try:
        stored = read_tagged(place, tag)
        if stored is None:
            return
        layers = layers_of(stored)
    except ContentError as error:
        yield Rejected(tag, error.what)
        return
    for layer in layers[:limit]:
        try:
            yield read(stored.descriptor, layer)
        except SignatureInvalid as error:
            yield Rejected(f"{tag} {layer.digest}", error.what)
    if len(layers) > limit:
        yield Rejected(tag, f"it has {count_text(len(layers), 'layer')}, only the first {limit} were read")


def append_layer(
    place: Place, tag: str, content: bytes, *, media_type: str, annotations: Mapping[str, str]
) -> ManifestBytes:
    """Add a layer and keep all that are there, byte for byte. Returns the manifest that has it.

    Adding a layer that is there already writes nothing. Raises ManifestInvalid when the tag holds something that is not
    cosign's (it is left alone), Unavailable when other writers win ATTEMPTS times.
    """
    pushed = push_blob(place, content, media_type=media_type)
    layer = {"mediaType": media_type, "size": pushed.size, "digest": str(pushed.digest), "annotations": annotations}
    with _LOCKS[hash((place.registry.name, place.repository, tag)) % len(_LOCKS)]:
        for _ in range(ATTEMPTS):
            stored = read_tagged(place, tag)
            if stored is not None and _has_layer(stored, layer):
                return stored
            place.registry.put_manifest(place.repository, _with_layer(place, stored, layer), tag=tag)
    raise Unavailable(
        f"other programs write the tag at the same time; our signature was lost {ATTEMPTS} times",
        where=f"{place}:{tag}",
        do="Sign again; let one program at a time sign an image",
    )


def _has_layer(stored: ManifestBytes, layer: Mapping[str, Any]) -> bool:
    return any(
        (stored_layer.digest, stored_layer.media_type) == (layer["digest"], layer["mediaType"])
        and (stored_layer.annotations or {}) == layer["annotations"]
        for stored_layer in layers_of(stored)
    )


def _with_layer(place: Place, stored: ManifestBytes | None, layer: Mapping[str, Any]) -> ManifestBytes:
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": {}, "layers": []}
    if stored is not None:
        layers_of(stored)
        document = msgspec.json.decode(stored.raw)
    document["layers"] = [*(document.get("layers") or ()), layer]
    diff_ids = [each["digest"] for each in document["layers"]]
    config = {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    pushed = push_blob(place, encode_json(config), media_type=media_types.OCI_CONFIG)
    document["config"] = {"mediaType": pushed.media_type, "size": pushed.size, "digest": str(pushed.digest)}
    raw = encode_json(document)
    return ManifestBytes(raw, document.get("mediaType") or media_types.OCI_MANIFEST, Digest.of(raw))
