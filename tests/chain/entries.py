"""Images as lines of an index, each with one Python package, called whatever a test wants."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import attach_provenance
from tests.scan.images import dist_info, make_tar

AMD64 = Platform(os="linux", architecture="amd64")
V2 = Platform(os="linux", architecture="amd64", variant="v2")
NOWHERE = Platform(os="unknown", architecture="unknown")


def entry(place: Place, package: str, *, platform: Platform | None = AMD64, **changes: Any) -> Descriptor:
    """An image with one package, as a line of an index. changes: config_type, layer_type, media_type, artifact_type,
    diff_ids, layer_notes (annotations), annotations of the line, line_type, rewrite (of the config's bytes)."""
    tar = make_tar(dist_info(package, "1.0"))
    layer = push_blob(
        place, gzip.compress(tar, 1, mtime=0), media_type=changes.get("layer_type", media_types.OCI_LAYER_GZIP)
    )
    layer = msgspec.structs.replace(layer, annotations=changes.get("layer_notes"))
    shape = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": changes.get("diff_ids", [Digest.of(tar)])},
    }
    raw = changes.get("rewrite", bytes)(msgspec.json.encode(shape, enc_hook=str))
    config = push_blob(place, raw, media_type=changes.get("config_type", media_types.OCI_CONFIG))
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=changes.get("media_type", media_types.OCI_MANIFEST),
            artifact_type=changes.get("artifact_type", ""),
            config=config,
            layers=(layer,),
        )
    )
    place.registry.put_manifest(place.repository, manifest)
    return Descriptor(
        media_type=changes.get("line_type", manifest.media_type),
        digest=manifest.digest,
        size=len(manifest.raw),
        platform=platform,
        annotations=changes.get("annotations"),
    )


def index(place: Place, *lines: Descriptor, tag: str = "") -> Descriptor:
    made = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=lines))
    place.registry.put_manifest(place.repository, made, tag=tag)
    return made.descriptor


def release(place: Place, *lines: Descriptor) -> Release:
    """These lines as a release with provenance, as a builder would leave it."""
    top = index(place, *lines, tag="v1.0.0")
    attach_provenance(place, top)
    return Release("app", "v1.0.0", top.digest)
