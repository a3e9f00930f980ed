"""Blobs by ECR's own upload: InitiateLayerUpload, UploadLayerPart in order, CompleteLayerUpload.

Unlike the chunks of the distribution protocol on ECR, whose ``Range`` stays at the first one, a native part that does
not follow what ECR has is answered with the last byte it has (``lastValidByteReceived``). So the true offset is known
after any kill at the price of one part. Source: the ECR API reference and botocore's model of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from registry_pipelines.errors import NotFound, Refused, RegistryError, Unavailable, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client.uploads import HashedBody, Uploads
from registry_pipelines.registry.ecr.api import EcrApi
from registry_pipelines.registry.protocol import Readable, UploadSession

PART_BYTES = 8 * 1024 * 1024
"""Parts we send: ECR takes 5 MiB (the last may be smaller) to what InitiateLayerUpload says (10 or 20 MiB are seen)."""

MAX_DIGESTS = 100
"""BatchCheckLayerAvailability takes so many a call."""

_LOCATION = re.compile(r"/v2/(?P<repository>[^?]+)/blobs/uploads/(?P<id>[0-9a-fA-F-]{36})\?partSize=(?P<size>\d{1,10})")


class _MovedBack(Unavailable):
    """ECR has less than we thought; the session says how much. Going on from there helps."""


class _Open(NamedTuple):
    upload_id: str
    part_bytes: int


class EcrUploads:
    """The upload verbs of one ECR registry. oci: the same over the distribution protocol, for small blobs."""

    def __init__(self, api: EcrApi, oci: Uploads) -> None:
        self._api, self._oci = api, oci

    def upload(self, repository: str, descriptor: Descriptor, content: Readable) -> None:
        """Store a blob in one pass. One of a single part goes over the distribution protocol: two requests, not three,
        and no base64. See Registry.upload_blob."""
        if descriptor.size <= PART_BYTES:
            return self._oci.upload(repository, descriptor, content)
        session = self.begin(repository)
        part_bytes = min(PART_BYTES, _read(session, self._where(repository)).part_bytes)
        body = HashedBody(descriptor, content, where=self._where(repository, descriptor.digest))
        for part in _parts(body, part_bytes):
            self.append(session, part)
        return self.commit(session, descriptor.digest)

    def begin(self, repository: str) -> UploadSession:
        """Open an upload. The location holds its id and ECR's part size; it looks like the distribution protocol's, so
        that a client of the other kind that finds it in a journal asks, is told 404, and begins afresh."""
        where = self._where(repository)
        answer = self._api.call(
            "initiate_layer_upload", where=where, doing="opening an upload", repositoryName=repository
        )
        upload_id, part_bytes = answer.get("uploadId"), answer.get("partSize") or PART_BYTES
        session = UploadSession(repository, f"/v2/{repository}/blobs/uploads/{upload_id}?partSize={part_bytes}")
        if not _LOCATION.fullmatch(session.location):
            raise RegistryError("ECR opened an upload without a usable id or part size", where=where)
        return session

    def append(self, session: UploadSession, content: memoryview) -> None:
        """Send one part. ECR's word counts where it knows another offset than we: one that is further (an answer was
        lost, or the process killed before it was written down) is taken over; one that is behind moves the session back
        and raises Unavailable, so that the caller goes on from there.

        Raises NotFound (status 404) when the upload is gone, Unsupported for content larger than ECR's part size.
        """
        where = self._where(session.repository)
        upload = _read(session, where)
        if len(content) > upload.part_bytes:
            raise Unsupported(
                f"parts of {len(content)} bytes are larger than the {upload.part_bytes} ECR asks for",
                where=where,
                status=501,
            )
        attempt = 1
        while True:
            try:
                last = self._api.send_part(session.repository, upload.upload_id, session.offset, content, where=where)
                break
            except Unavailable as error:
                if not self._api.retries.wait(error, attempt):
                    raise
                attempt += 1
        self._believe(session, last, len(content), where)

    def _believe(self, session: UploadSession, last: int | None, sent: int, where: str) -> None:
        """Move the offset to behind the last byte that ECR says it has; 0 and less are nothing, for want of a better
        word in its model."""
        if last is None:
            raise NotFound("ECR refuses the part and does not say why", where=where, do="Begin anew", status=404)
        expected, stored = session.offset, last + 1 if last > 0 else 0
        if stored == expected:
            raise Refused(f"ECR refuses a part of {sent} bytes behind the {stored} it has", where=where)
        session.offset = stored
        if stored < expected:
            raise _MovedBack(f"ECR has {stored} bytes of the upload, not {expected}", where=where, status=416)

    def commit(self, session: UploadSession, digest: Digest) -> None:
        """Finish; ECR checks the digest. A lost answer is settled by asking whether the blob is there, and so is an
        upload that is gone. Raises DigestMismatch, NotFound."""
        where = self._where(session.repository, digest)
        upload = _read(session, where)

        def there() -> bool:
            return self.sizes(session.repository, [digest]).get(digest) == session.offset

        try:
            self._api.call(
                "complete_layer_upload",
                where=where,
                doing="finishing an upload",
                settle=there,
                commits_bytes=session.offset,
                repositoryName=session.repository,
                uploadId=upload.upload_id,
                layerDigests=[str(digest)],
            )
        except Refused as error:
            if error.code != "LayerAlreadyExistsException":
                raise
        except NotFound:
            if not there():
                raise

    def sizes(self, repository: str, digests: list[Digest]) -> dict[Digest, int]:
        """Bytes of those blobs that are there, a hundred a call. Archived ones are not: they cannot be pulled."""
        sizes: dict[Digest, int] = {}
        for start in range(0, len(digests), MAX_DIGESTS):
            names = [str(item) for item in digests[start : start + MAX_DIGESTS]]
            answer = self._api.call(
                "batch_check_layer_availability",
                where=self._where(repository),
                doing="asking for blobs",
                repositoryName=repository,
                layerDigests=names,
            )
            for layer in answer.get("layers", []):
                if layer.get("layerAvailability") == "AVAILABLE" and layer.get("layerDigest") in names:
                    sizes[Digest(layer["layerDigest"])] = int(layer.get("layerSize") or 0)
        return sizes

    def _where(self, repository: str, digest: str = "") -> str:
        return f"{self._api.name}/{repository}{'@' if digest else ''}{digest}"


def _read(session: UploadSession, where: str) -> _Open:
    """Raises NotFound (status 404) for the location of another kind of upload."""
    match = _LOCATION.fullmatch(session.location)
    if not match:
        raise NotFound("this upload was not opened by ECR's own API", where=where, do="Begin anew", status=404)
    return _Open(match["id"], int(match["size"]))


def _parts(body: HashedBody, part_bytes: int) -> Iterator[memoryview]:
    """A body in parts; each is valid until the next is asked for. The last comes only when the digest holds."""
    buffer = memoryview(bytearray(part_bytes))
    filled = 0
    for chunk in body.chunks():
        while len(chunk):
            count = min(len(chunk), part_bytes - filled)
            buffer[filled : filled + count] = chunk[:count]
            filled, chunk = filled + count, chunk[count:]
            if filled == part_bytes:
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]
