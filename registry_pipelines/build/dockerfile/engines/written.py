"""An OCI layout, written from the config and layers that an engine gives in another form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors, write_file
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, encode_json

_OF_THE_RUN = ("container", "container_config", "id", "parent")
"""Fields of Docker's config that tell of containers of the build, and differ each time."""


def put_manifest(layout: Layout, config: dict[str, Any], layers: Sequence[Descriptor]) -> Descriptor:
    """Write config and manifest, without what Docker notes of the run. Raises DiskFull."""
    kept = {name: value for name, value in config.items() if name not in _OF_THE_RUN}
    if isinstance(inner := kept.get("config"), dict):
        kept["config"] = {name: value for name, value in inner.items() if name != "Image"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": put_blob(layout, kept, media_types.OCI_CONFIG),
        "layers": list(layers),
    }
    return put_blob(layout, manifest, media_types.OCI_MANIFEST)


def put_top(layout: Layout, manifests: Sequence[Descriptor]) -> None:
    """Write ``index.json`` with one entry: the manifest, or an index over those of several platforms."""
    top = manifests[0]
    if len(manifests) > 1:
        top = put_blob(layout, _index(manifests), media_types.OCI_INDEX)
    write_file(layout.folder / "index.json", encode_json(_index([top])))


def _index(manifests: Sequence[Descriptor]) -> Mapping[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(manifests)}


def put_blob(layout: Layout, document: Any, media_type: str) -> Descriptor:
    """Write a document as JSON. Raises DiskFull."""
    data = encode_json(document)
    digest = Digest.of(data)
    with disk_errors(layout.blob_path(digest)):
        layout.blob_path(digest).write_bytes(data)
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


def set_dates(config: dict[str, Any], source_date: int) -> None:
    """Times of config and history become ``source_date`` (seconds since 1970) where they are later."""
    latest = datetime.fromtimestamp(source_date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for document in (config, *(config.get("history") or ())):
        # RFC 3339 in UTC sorts as text.
        if isinstance(document, dict) and str(document.get("created", latest)) > latest:
            document["created"] = latest
