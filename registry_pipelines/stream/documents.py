"""Manifests, configs and indexes of a converted image, from those of its origin. No input or output.

What is not to be changed stays as it was written, also what nobody here knows: the documents are changed as JSON, not
read and written anew. Form of SOCI's version 2: soci-snapshotter, docs/soci-index-manifest-v2.md and ``soci convert``
of 0.15.0, but for the lines of an index: that tool puts each manifest's own annotations in their place, and so loses
the links of BuildKit's attestations to their images. They are kept here, and follow their images to the new digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes, encode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.stream.soci_index import INDEX_DIGEST, MANIFEST_DIGEST, index_line

REFERENCE_ANNOTATION = "vnd.docker.reference.digest"
"""On an index's line of BuildKit's attestation, the image it is about."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Remade:
    """A platform's manifest that takes the place of its origin's, in every index that names that."""

    manifest: ManifestBytes
    platform: Platform
    index: ManifestBytes | None = None
    """Its SOCI index of version 2, which gets a line of its own behind it."""


def annotated_manifest(origin: bytes, index: Digest) -> ManifestBytes:
    """An image's manifest that names its SOCI index. Its types become OCI's, its layers stay as they are."""
    document = _object(origin)
    document["annotations"] = {**(document.get("annotations") or {}), INDEX_DIGEST: index}
    return _oci_manifest(document)


def manifest_with_layers(origin: bytes, config: Descriptor, layers: Mapping[int, Descriptor]) -> ManifestBytes:
    """An image's manifest with another config, and with other layers where ``layers`` (by position) has one: what else
    a line says of its layer, such as annotations, stays. Its types become OCI's."""
    document = _object(origin)
    document["config"] = {**document["config"], "digest": config.digest, "size": config.size}
    document["config"].pop("data", None)
    for position, layer in layers.items():
        line = document["layers"][position]
        notes = {**(line.get("annotations") or {}), **(layer.annotations or {})}
        line = {key: value for key, value in line.items() if key not in ("urls", "data", "annotations")}
        line |= {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
        document["layers"][position] = line | ({"annotations": notes} if notes else {})
    return _oci_manifest(document)


def config_with_layers(origin: bytes, diff_ids: Sequence[Digest]) -> bytes:
    """An image config that names other layers; its history, one line a layer, stays."""
    document = _object(origin)
    document["rootfs"] = {**document["rootfs"], "diff_ids": list(diff_ids)}
    return _encoded(document)


def converted_indexes(
    top: ManifestBytes, below: Mapping[Digest, ManifestBytes], remade: Mapping[Digest, Remade]
) -> list[ManifestBytes]:
    """The indexes of a converted image, each behind those it names, the top last. What has no index is wrapped in one
    when its manifest has a SOCI index, and else is its own top: then the list is empty.

    below: the indexes under ``top``, by digest. remade: by the origin's digest; manifests that are not among them stay.
    Raises ManifestInvalid: an image would be wrapped, and has no platform.
    """
    if top.media_type not in media_types.INDEXES:
        only = remade[top.digest]
        return [_wrapped(only)] if only.index else []
    made: dict[Digest, ManifestBytes] = {}
    _convert_index(top, below, remade, made)
    return list(made.values())


def _convert_index(
    origin: ManifestBytes,
    below: Mapping[Digest, ManifestBytes],
    remade: Mapping[Digest, Remade],
    made: dict[Digest, ManifestBytes],
) -> ManifestBytes:
    document = _object(origin.raw)
    for line in document["manifests"]:
        child = below.get(line["digest"])
        if child is not None and child.digest not in made:
            _convert_index(child, below, remade, made)
    document["manifests"] = list(_lines(document["manifests"], made, remade))
    document = {"schemaVersion": 2, "mediaType": "", **document} | {"mediaType": media_types.OCI_INDEX}
    made[origin.digest] = _bytes(document, media_types.OCI_INDEX)
    return made[origin.digest]


def _lines(
    lines: Sequence[Json], indexes: Mapping[Digest, ManifestBytes], remade: Mapping[Digest, Remade]
) -> Iterator[Json]:
    """The lines of an index: those of SOCI indexes right behind the last of all others, as the official tool has it."""
    soci: dict[Digest, Json] = {}
    for line in lines:
        notes = dict(line.get("annotations") or {})
        if (about := remade.get(notes.get(MANIFEST_DIGEST, ""))) and about.index:
            continue  # an older index of an image that gets a new one
        if about := remade.get(notes.get(REFERENCE_ANNOTATION, "")):
            notes[REFERENCE_ANNOTATION] = about.manifest.digest
        new = indexes.get(line["digest"])
        if own := remade.get(line["digest"]):
            new = own.manifest
            if own.index:
                notes[INDEX_DIGEST] = own.index.digest
                soci[own.index.digest] = _soci_line(own, own.index, line.get("platform"))
        if new is not None:
            line = {**line, "mediaType": new.media_type, "digest": new.digest, "size": len(new.raw)}
            line.pop("data", None)
        yield line | ({"annotations": notes} if notes else {})
    yield from soci.values()


def _soci_line(remade: Remade, index: ManifestBytes, platform: Json | None) -> Json:
    line = _object(encode_json(index_line(index, remade.manifest.digest, remade.platform)))
    return {**line, "platform": platform or line["platform"]}


def _wrapped(only: Remade) -> ManifestBytes:
    """The index of an image that had none. Raises ManifestInvalid."""
    if not (only.platform.os and only.platform.architecture):
        raise ManifestInvalid(
            "the image's config names no platform, and an index has to name one",
            do="Build the image again, or convert it to eStargz, which needs no index",
        )
    assert only.index is not None  # noqa: S101 - asked before
    line = msgspec.structs.replace(
        only.manifest.descriptor, annotations={INDEX_DIGEST: only.index.digest}, platform=only.platform
    )
    lines = [_object(encode_json(line)), _soci_line(only, only.index, None)]
    return _bytes({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": lines}, media_types.OCI_INDEX)


def _oci_manifest(document: Json) -> ManifestBytes:
    config = document["config"]
    if config["mediaType"] == media_types.DOCKER_CONFIG:
        document["config"] = {**config, "mediaType": media_types.OCI_CONFIG}
    document = {"schemaVersion": 2, "mediaType": "", **document} | {"mediaType": media_types.OCI_MANIFEST}
    return _bytes(document, media_types.OCI_MANIFEST)


def _object(raw: bytes) -> Json:
    document: Json = json.loads(raw)
    return document


def _bytes(document: Json, media_type: str) -> ManifestBytes:
    raw = _encoded(document)
    return ManifestBytes(raw, media_type, Digest.of(raw))


def _encoded(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
