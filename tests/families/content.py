"""What lies in a registry before the matrix begins, and two registries' contents compared without our client."""

from __future__ import annotations

import json

from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, Index, descriptors, read_manifest
from registry_pipelines.registry.protocol import Place
from tests.scan.images import push_image, push_platforms

SIGNED_TAG = "v1"


def push_signed(place: Place, tags: tuple[str, ...] = ()) -> Descriptor:
    """An index of two platforms with two referrers, one on a child, and a signature as cosign 2 stores it."""
    top, children = push_platforms(place, "amd64", "arm64", tag=SIGNED_TAG)
    for subject, text in ((top, "sbom"), (children[0], "sbom of a child"), (top, "report")):
        attach(
            place,
            subject=subject,
            artifact_type="application/vnd.example.note.v1+json",
            content=json.dumps(text).encode(),
            media_type="application/vnd.example.note.v1+json",
        )
    push_image(place, [{"signature": "payload"}], tag=f"{top.digest.fallback_tag}.sig")
    stored = place.registry.get_manifest(place.repository, SIGNED_TAG)
    for tag in tags:
        place.registry.put_manifest(place.repository, stored, tag=tag)
    return top


def push_sibling(place: Place) -> Descriptor:
    """An image that shares a layer with the signed index."""
    return push_image(place, [{"etc/arch": "amd64"}, {"etc/sibling": "yes"}], tag=SIGNED_TAG)


def manifests_of(layout: Layout) -> set[str]:
    """Digests of all manifests but lists of referrers, old ones too: how they are kept is a registry's own affair."""
    return {str(entry.digest) for entry in layout.manifests().values() if not _is_list(layout, entry)}


def _is_list(layout: Layout, entry: Descriptor) -> bool:
    manifest = layout.read_manifest(entry)
    content = manifest.content() if manifest else None
    return isinstance(content, Index) and all(each.artifact_type for each in content.manifests)


def missing_blobs(layout: Layout) -> set[str]:
    """What the manifests name and the repository does not have."""
    found = set()
    for entry in layout.manifests().values():
        manifest = layout.read_manifest(entry)
        assert manifest is not None
        found |= {str(each.digest) for each in descriptors(manifest.content()) if layout.blob_size(each.digest) is None}
    return found


def closure_of(layout: Layout, tag: str) -> set[str]:
    """The digests below a tag: the manifest and, for an index, its children."""
    found = layout.find(tag)
    if found is None:
        return set()
    manifest = layout.read_manifest(found)
    assert manifest is not None
    content = read_manifest(manifest.raw)
    below = {str(each.digest) for each in content.manifests} if isinstance(content, Index) else set()
    return {str(found.digest)} | {digest for digest in below if layout.find(digest) is not None}


__all__ = ["SIGNED_TAG", "closure_of", "manifests_of", "missing_blobs", "push_sibling", "push_signed"]
