"""Blobs: reading, uploading, mounting, deleting (distribution-spec 1.1, "Pulling blobs", "Pushing blobs")."""

from __future__ import annotations

import os
import time
from typing import BinaryIO

from registry_pipelines.errors import DigestInvalid, ReferenceInvalid
from registry_pipelines.oci.digest import HEX_LENGTHS, Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.ranges import RangeUnsatisfiable, parse_chunk_range, parse_read_range
from registry_pipelines.registry.embedded.responses import ApiError, FileBody, Response
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.embedded.uploads import CANONICAL, Session, Uploads

TOUCH_AFTER_S = 30.0
"""Asking for a blob (HEAD) starts its grace time again, but not more often than this."""


def parse_digest(text: str) -> Digest:
    """A digest from a request. Raises ApiError 400."""
    try:
        return Digest.parse(text)
    except DigestInvalid as error:
        raise ApiError(400, "DIGEST_INVALID", error.what) from error


class BlobHandlers:
    """Handlers below ``/v2/<name>/blobs/``."""

    def __init__(self, store: Store, uploads: Uploads) -> None:
        self._store = store
        self._uploads = uploads

    def get(self, request: Request, name: str, digest: str) -> Response:
        """GET and HEAD, whole or one range."""
        wanted = parse_digest(digest)
        layout = self._store.layout(name)
        try:
            stream = layout.open_blob(wanted)
        except FileNotFoundError as error:
            raise ApiError(404, "BLOB_UNKNOWN", f"{name} has no blob {wanted}") from error
        try:
            return self._blob_response(request, layout, wanted, stream)
        except BaseException:
            stream.close()
            raise

    def _blob_response(self, request: Request, layout: Layout, digest: Digest, stream: BinaryIO) -> Response:
        facts = os.fstat(stream.fileno())
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Docker-Content-Digest", digest),
            ("ETag", f'"{digest}"'),
            ("Accept-Ranges", "bytes"),
        ]
        if request.method == "HEAD":
            if time.time() - facts.st_mtime > TOUCH_AFTER_S and not layout.touch_blob(digest):
                raise ApiError(404, "BLOB_UNKNOWN", f"there is no blob {digest}")
            stream.close()
            return Response(200, headers, content_length=facts.st_size)
        if f'"{digest}"' in request.headers.get("if-none-match", ""):
            stream.close()
            return Response(304, headers)
        wanted = None
        if request.headers.get("if-range", f'"{digest}"') == f'"{digest}"':
            try:
                wanted = parse_read_range(request.headers.get("range", ""), facts.st_size)
            except RangeUnsatisfiable as error:
                total = (("Content-Range", f"bytes */{facts.st_size}"),)
                raise ApiError(416, "SIZE_INVALID", "the range is outside of the blob", headers=total) from error
        if wanted is None:
            return Response(200, headers, file=FileBody(stream, 0, facts.st_size))
        start, stop = wanted
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{facts.st_size}"))
        return Response(206, headers, file=FileBody(stream, start, stop - start))

    def delete(self, request: Request, name: str, digest: str) -> Response:
        """DELETE of a blob; a manifest is deleted as a manifest."""
        wanted = parse_digest(digest)
        layout = self._store.layout(name)
        if wanted in layout.manifests():
            raise ApiError(405, "UNSUPPORTED", "this is a manifest; delete it below /manifests/")
        if not layout.delete_blob(wanted):
            raise ApiError(404, "BLOB_UNKNOWN", f"{name} has no blob {wanted}")
        return Response(202)

    def begin(self, request: Request, name: str) -> Response:
        """POST: mount, single request upload, or a new session."""
        layout = self._store.layout(name)
        if "mount" in request.query:
            return self._mount(request, name, layout)
        if "digest" in request.query:
            return self._single_post(request, name, layout)
        algorithm = request.parameter("digest-algorithm") or CANONICAL
        if algorithm not in HEX_LENGTHS:
            raise ApiError(400, "DIGEST_INVALID", "the digest algorithm is not known; use sha256 or sha512")
        return self._open_session(name, layout, algorithm)

    def _open_session(self, name: str, layout: Layout, algorithm: str) -> Response:
        session = self._uploads.begin(layout, algorithm=algorithm)
        return Response(202, _progress(name, session))

    def _mount(self, request: Request, name: str, layout: Layout) -> Response:
        digest = parse_digest(request.parameter("mount"))
        source = request.parameter("from")
        try:
            holder = self._store.layout(source) if source else self._store.holder_of(digest)
        except ReferenceInvalid:
            holder = None
        if layout.touch_blob(digest) or (holder is not None and layout.link_blob(digest, holder)):
            return _created(name, digest)
        return self._open_session(name, layout, digest.algorithm)

    def _single_post(self, request: Request, name: str, layout: Layout) -> Response:
        digest = parse_digest(request.parameter("digest"))
        session = self._uploads.temporary(layout, algorithm=digest.algorithm)
        try:
            session.append(request.body, keep_partial=False)
            session.commit(digest)
        finally:
            session.discard()
        return _created(name, digest)

    def _session(self, name: str, session: str) -> Session:
        upload = self._uploads.find(self._store.layout(name), session)
        if upload is None:
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload; begin a new one")
        return upload

    def status(self, request: Request, name: str, session: str) -> Response:
        """GET of a session: how much is stored."""
        return Response(204, _progress(name, self._session(name, session)))

    def cancel(self, request: Request, name: str, session: str) -> Response:
        """DELETE of a session."""
        upload = self._session(name, session)
        with upload.exclusive():
            self._uploads.forget(upload)
        return Response(204)

    def patch(self, request: Request, name: str, session: str) -> Response:
        """PATCH: one chunk, or the whole content as a stream."""
        upload = self._session(name, session)
        with upload.exclusive():
            self._append(request, name, upload)
        return Response(202, _progress(name, upload))

    def put(self, request: Request, name: str, session: str) -> Response:
        """PUT: the last chunk or all content, then the check of the digest."""
        upload = self._session(name, session)
        digest = parse_digest(request.parameter("digest"))
        with upload.exclusive():
            self._append(request, name, upload, algorithm=digest.algorithm)
            try:
                upload.commit(digest)
            finally:  # also after a failure: nobody knows then what a second try would add to
                self._uploads.forget(upload)
        return _created(name, digest)

    def _append(self, request: Request, name: str, session: Session, *, algorithm: str = "") -> None:
        header = request.headers.get("content-range", "")
        has_range = bool(header) and request.body.length != 0
        if has_range:
            wanted = parse_chunk_range(header)
            if wanted is None:
                raise ApiError(416, "BLOB_UPLOAD_INVALID", "Content-Range is not first-last")
            start, stop = wanted
            if start != session.offset or request.body.length not in (None, stop - start):
                message = f"the next byte is {session.offset}, Content-Range and length say otherwise"
                raise ApiError(416, "BLOB_UPLOAD_INVALID", message, headers=tuple(_progress(name, session)))
        session.append(request.body, keep_partial=has_range, algorithm=algorithm)
        if has_range and session.offset != stop:
            raise ApiError(400, "SIZE_INVALID", "the chunk has another length than Content-Range says")


def _progress(name: str, session: Session) -> list[tuple[str, str]]:
    """Location and Range of a session. ``0-0`` stands for nothing and for one byte alike; there is no better."""
    return [
        ("Location", f"/v2/{name}/blobs/uploads/{session.name}"),
        ("Range", f"0-{max(session.offset - 1, 0)}"),
        ("Docker-Upload-UUID", session.name),
    ]


def _created(name: str, digest: Digest) -> Response:
    return Response(201, [("Location", f"/v2/{name}/blobs/{digest}"), ("Docker-Content-Digest", digest)])


__all__ = ["BlobHandlers", "parse_digest"]
