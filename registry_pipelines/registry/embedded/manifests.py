"""Manifests and tags: reading, pushing, deleting (distribution-spec 1.1, "Pulling manifests", "Pushing Manifests")."""

from __future__ import annotations

from registry_pipelines.errors import ContentError, DigestInvalid, ManifestTooLarge, ReferenceInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    ManifestBytes,
    descriptors,
    infer_media_type,
)
from registry_pipelines.oci.references import check_tag
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import ApiError, Response
from registry_pipelines.registry.embedded.storage import Store


class ManifestHandlers:
    """Handlers below ``/v2/<name>/manifests/``.

    require_complete: refuse an image manifest whose config or layers are not in the repository. Children of an index
    may always be missing (a sparse index holds only the platforms somebody wants).
    """

    def __init__(self, store: Store, *, require_complete: bool) -> None:
        self._store = store
        self._require_complete = require_complete

    def get(self, request: Request, name: str, reference: str) -> Response:
        """GET and HEAD by tag or digest."""
        layout = self._store.layout(name)
        descriptor = self._find(layout, name, reference)
        headers = [
            ("Content-Type", descriptor.media_type),
            ("Docker-Content-Digest", descriptor.digest),
            ("ETag", f'"{descriptor.digest}"'),
        ]
        if f'"{descriptor.digest}"' in request.headers.get("if-none-match", ""):
            return Response(304, headers)
        if request.method == "HEAD":
            size = layout.blob_size(descriptor.digest)
            if size is None:
                raise _unknown(name, reference)
            return Response(200, headers, content_length=size)
        manifest = layout.read_manifest(descriptor)
        if manifest is None:
            raise _unknown(name, reference)
        return Response(200, headers, manifest.raw)

    def _find(self, layout: Layout, name: str, reference: str) -> Descriptor:
        try:
            descriptor = layout.find(reference)
        except DigestInvalid as error:
            raise ApiError(400, "DIGEST_INVALID", error.what) from error
        if descriptor is None:
            if not layout.exists():
                raise ApiError(404, "NAME_UNKNOWN", f"there is no repository {name}")
            raise _unknown(name, reference)
        return descriptor

    def put(self, request: Request, name: str, reference: str) -> Response:
        """PUT by tag, or by digest with any number of ``?tag=``."""
        layout = self._store.layout(name)
        raw = request.body.read(MAX_MANIFEST_BYTES)
        if raw is None:
            raise ApiError(413, "SIZE_INVALID", f"a manifest has at most {MAX_MANIFEST_BYTES} bytes")
        digest, tags = _target(reference, request.query.get("tag", []), raw)
        manifest = self._checked(request, raw, digest)
        content = manifest.content()
        if isinstance(content, Index):
            below = [child for child in content.manifests if layout.touch_blob(child.digest)]
        else:
            below = list(descriptors(content))
            missing = [item for item in below if not layout.touch_blob(item.digest) and not _elsewhere(item)]
            if missing and self._require_complete:
                raise _incomplete(missing)
        layout.put_manifest(manifest, tags)
        headers = [("Location", f"/v2/{name}/manifests/{digest}"), ("Docker-Content-Digest", str(digest))]
        if content.subject is not None:
            headers.append(("OCI-Subject", content.subject.digest))
        if ":" in reference and tags:
            headers.append(("OCI-Tag", ", ".join(tags)))
        return Response(201, headers)

    def _checked(self, request: Request, raw: bytes, digest: Digest) -> ManifestBytes:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if not media_type:
                media_type = infer_media_type(raw)
            manifest = ManifestBytes(raw, media_type, digest)
            manifest.content()
        except ManifestTooLarge:
            raise
        except ContentError as error:
            raise ApiError(400, "MANIFEST_INVALID", error.what) from error
        return manifest

    def delete(self, request: Request, name: str, reference: str) -> Response:
        """DELETE of a tag, or of a manifest with all its tags."""
        layout = self._store.layout(name)
        descriptor = self._find(layout, name, reference)
        gone = layout.remove_manifest(descriptor.digest) if ":" in reference else layout.remove_tag(reference)
        if not gone:
            raise _unknown(name, reference)
        return Response(202)


def _target(reference: str, more_tags: list[str], raw: bytes) -> tuple[Digest, list[str]]:
    """Digest and tags of a push. Raises ApiError 400."""
    try:
        if ":" in reference:
            wanted = Digest.parse(reference)
            digest = Digest.of(raw, wanted.algorithm)
            if digest != wanted:
                raise ApiError(400, "DIGEST_INVALID", f"the manifest hashes to {digest}, not to {wanted}")
            tags = list(dict.fromkeys(more_tags))
        else:
            digest, tags = Digest.of(raw), [reference]
        for tag in tags:
            check_tag(tag)
    except DigestInvalid as error:
        raise ApiError(400, "DIGEST_INVALID", error.what) from error
    except ReferenceInvalid as error:
        raise ApiError(400, "MANIFEST_INVALID", error.what) from error
    return digest, tags


def _elsewhere(item: Descriptor) -> bool:
    """Layers that need not be pushed: with URLs, or Docker's foreign ones (image-spec, "Non-Distributable Layers")."""
    return (
        bool(item.urls)
        or item.media_type == media_types.DOCKER_FOREIGN_LAYER
        or ".nondistributable." in item.media_type
    )


def _incomplete(missing: list[Descriptor]) -> ApiError:
    names = ", ".join(item.digest for item in missing[:20])
    detail = [{"digest": str(item.digest)} for item in missing[:20]]
    return ApiError(400, "MANIFEST_BLOB_UNKNOWN", f"push these blobs first: {names}", detail=detail)


def _unknown(name: str, reference: str) -> ApiError:
    return ApiError(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference[:140]}")


__all__ = ["ManifestHandlers"]
