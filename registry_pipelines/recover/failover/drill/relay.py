"""A repository of any registry, read only, as a handler of HTTP requests (distribution-spec 1.1, "Pull")."""

from __future__ import annotations

import re
from collections.abc import Generator

from registry_pipelines.errors import DigestInvalid, NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import ApiError, Request, Response
from registry_pipelines.registry.embedded.ranges import RangeUnsatisfiable, parse_read_range
from registry_pipelines.registry.embedded.responses import json_response
from registry_pipelines.registry.protocol import BUFFER_BYTES, BlobReader, Place

_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<digest>[^/]+)\Z")


class Relay:
    """Answers pulls by digest of one repository with what ``place`` has, read by our client with its credentials: who
    pulls here needs none, and cannot write. Any name that a client asks for means this repository."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return self._answer(request)
        except ApiError as error:
            return error.response()
        except NotFound as error:
            return ApiError(404, "MANIFEST_UNKNOWN", error.what).response()
        except RegistryPipelinesError as error:
            return ApiError(502, "UNAVAILABLE", f"{self._place}: {error.what}").response()

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise ApiError(405, "UNSUPPORTED", "nothing is written here")
        if request.path in ("/v2", "/v2/"):
            return json_response({})
        match = _ROUTE.match(request.path)
        if match is None:
            raise ApiError(404, "UNSUPPORTED", "only manifests and blobs are here, by digest")
        try:
            digest = Digest.parse(match["digest"])
        except DigestInvalid as error:
            raise ApiError(404, "MANIFEST_UNKNOWN", "tags are not here, only digests") from error
        return self._manifest(digest) if match["kind"] == "manifests" else self._blob(request, digest)

    def _manifest(self, digest: Digest) -> Response:
        found = self._place.registry.get_manifest(self._place.repository, digest)
        headers = [("Content-Type", found.media_type), ("Docker-Content-Digest", str(digest))]
        return Response(200, headers, found.raw)

    def _blob(self, request: Request, digest: Digest) -> Response:
        size = self._place.registry.blob_size(self._place.repository, digest)
        if size is None:
            raise ApiError(404, "BLOB_UNKNOWN", f"there is no blob {digest}")
        headers = [("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", str(digest))]
        if request.method == "HEAD":
            return Response(200, headers, content_length=size)
        try:
            start, stop = parse_read_range(request.headers.get("range", ""), size) or (0, size)
        except RangeUnsatisfiable as error:
            raise ApiError(416, "SIZE_INVALID", "the range is outside of the blob") from error
        reader = self._place.registry.open_blob(self._place.repository, digest, start=start, stop=stop)
        whole = (start, stop) == (0, size)
        if not whole:
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        return Response(200 if whole else 206, headers, parts=_parts(reader), content_length=stop - start)


def _parts(reader: BlobReader) -> Generator[bytes | memoryview]:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with reader:
        while count := reader.readinto(buffer):
            yield buffer[:count]


__all__ = ["Relay"]
