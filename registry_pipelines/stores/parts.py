"""Uploads by parts that outlive the process which began them: multipart uploads of S3 and what speaks it, Google's
storage among it.

``obstore`` uploads by parts, too, but gives up an upload when its process ends, and has no call to go on with one. So
these few calls go through boto3. Source: S3's API reference (CreateMultipartUpload, UploadPart, ListParts,
CompleteMultipartUpload, AbortMultipartUpload). Google's XML API has the same calls (its reference, "XML API multipart
uploads") and takes its own tokens for them in place of signatures.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from registry_pipelines.errors import (
    DiskFull,
    Forbidden,
    InputError,
    NotFound,
    RateLimited,
    Refused,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)

GOOGLE = "https://storage.googleapis.com"
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_GOOGLE_FILES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
"""Where obstore looks for an account's file before it takes the application default one."""
MOST_PARTS = 10_000
"""S3 and Google take no more of one object."""
CONNECT_S = 20
READ_S = 60
"""Of one request, without a byte."""
TRIES = 1
"""Who calls says how often and how long something is tried again."""

_FULL = ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "ServiceQuotaExceededException")
_BUSY = ("SlowDown", "TooManyRequests", "RequestLimitExceeded", "Throttling")
_GONE = ("NoSuchUpload", "NoSuchKey", "404", "InvalidPart", "InvalidPartOrder")
_LOGINS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401")
_ADDRESS = re.compile(r"://[^\s\"]*\?[^\s\"]*")


@dataclass(frozen=True)
class SentPart:
    """One part that the store has. number: from 1. etag: as the store named it."""

    number: int
    size: int
    etag: str


class _Body(io.RawIOBase):
    """A part as a file: bytes would be a second copy of each that is on its way."""

    def __init__(self, content: memoryview) -> None:
        super().__init__()
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        piece = self._content[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class PartUploads:
    """Uploads by parts to the keys of one store; for many threads.

    All methods raise NotFound for an upload (or a part of it) that the store does not have any more, Forbidden,
    Unauthorized, RateLimited and Unavailable, DiskFull, Refused.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def begin(self, key: str) -> str:
        """Open an upload; its id."""
        with _errors(key):
            found = self._client.create_multipart_upload(**self._of(key), ContentType="application/octet-stream")
        return str(found["UploadId"])

    def send(self, key: str, upload: str, number: int, content: memoryview) -> None:
        """Store a part; once more puts it in place of the one before."""
        with _errors(key):
            self._client.upload_part(**self._of(key), UploadId=upload, PartNumber=number, Body=_Body(content))

    def sent(self, key: str, upload: str) -> list[SentPart]:
        """The parts that are there, by number."""
        found: list[SentPart] = []
        with _errors(key):
            for page in self._client.get_paginator("list_parts").paginate(**self._of(key), UploadId=upload):
                found += [SentPart(each["PartNumber"], each["Size"], each["ETag"]) for each in page.get("Parts", ())]
        return sorted(found, key=lambda each: each.number)

    def complete(self, key: str, upload: str, parts: list[SentPart]) -> None:
        """Make the object of its parts."""
        rows = [{"PartNumber": each.number, "ETag": each.etag} for each in parts]
        with _errors(key):
            self._client.complete_multipart_upload(**self._of(key), UploadId=upload, MultipartUpload={"Parts": rows})

    def abort(self, key: str, upload: str) -> None:
        """Drop an upload with its parts; one that is not there is no error."""
        try:
            with _errors(key):
                self._client.abort_multipart_upload(**self._of(key), UploadId=upload)
        except NotFound:
            return

    def _of(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{key}".lstrip("/")}


def part_uploads(address: str, *, region: str = "", endpoint: str = "", aws_profile: str = "") -> PartUploads | None:
    """Uploads by parts to ``s3://BUCKET/PREFIX`` or ``gs://BUCKET/PREFIX``; None for any other store, and where boto3
    (for Google's google-auth, too) is not installed, or there are no credentials of Google's.

    The other arguments are those of :func:`~registry_pipelines.stores.store.open_store`. Nothing is asked yet. Raises
    InputError for a profile that there is none of.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("s3", "gs") or find_spec("boto3") is None:
        return None
    token: _GoogleToken | None = None
    if parts.scheme == "gs":
        region, endpoint = "auto", endpoint or GOOGLE
        if endpoint.startswith("https://") and (token := _google_token()) is None:
            return None
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        signature_version=UNSIGNED if parts.scheme == "gs" else None,
        s3={"addressing_style": "path"} if endpoint else {},
        request_checksum_calculation="when_required",  # stores that are not AWS refuse what they do not know
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.Session(profile_name=aws_profile or None, region_name=region or None)
        client = session.client("s3", endpoint_url=endpoint or None, config=config)
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"the store cannot be opened: {error}", where=address) from error
    if token is not None:
        client.meta.events.register("before-call.s3", token.put)
    return PartUploads(client, parts.netloc, parts.path.strip("/"))


class _GoogleToken:
    """Puts a token of google-auth's into each request; for many threads."""

    def __init__(self, credentials: Any) -> None:
        self._credentials, self._lock = credentials, threading.Lock()

    def put(self, params: dict[str, Any], **_: object) -> None:
        """As boto3 calls it before a request. Raises Unauthorized."""
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        with self._lock:
            try:
                if not self._credentials.valid:
                    self._credentials.refresh(Request())
            except GoogleAuthError as error:
                raise Unauthorized(f"Google gives no token: {_said(error)}", where=GOOGLE) from error
            params["headers"]["Authorization"] = f"Bearer {self._credentials.token}"


def _google_token() -> _GoogleToken | None:
    """Of the account that obstore takes, too: the one that the environment names, else the application default one."""
    if find_spec("google") is None or find_spec("google.auth") is None:
        return None
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    named = next(filter(None, map(os.environ.get, _GOOGLE_FILES)), None)
    try:
        if named:
            credentials, _ = google.auth.load_credentials_from_file(named, scopes=[_GOOGLE_SCOPE])
        else:
            credentials, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
    except (GoogleAuthError, OSError, ValueError):
        return None
    return _GoogleToken(credentials)


@contextmanager
def _errors(key: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _refusal(error, key) from error
    except BotoCoreError as error:
        raise Unavailable(f"the store does not answer: {_said(error)}", where=key) from error


def _refusal(error: Any, key: str) -> RegistryPipelinesError:
    said, status = _said(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _FULL or status == 507:
        return DiskFull(f"the store is full: {said}", where=key, do="Make room there, then run it again")
    if code in _BUSY or status == 429:
        return RateLimited(f"the store asks for fewer requests: {said}", where=key)
    if code in _GONE or status == 404:
        return NotFound(f"the store does not have it any more: {said}", where=key, status=404)
    if code in _LOGINS or status == 401:
        return Unauthorized(f"the store does not take the credentials: {said}", where=key, status=status)
    if status == 403:
        return Forbidden(f"the store does not let us: {said}", where=key, status=status)
    if status >= 500 or not status:
        return Unavailable(f"the store does not do it: {said}", where=key, status=status)
    return Refused(f"the store refuses it: {said}", where=key, status=status)


def _said(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return _ADDRESS.sub("://...", first)[:300]


__all__ = ["MOST_PARTS", "PartUploads", "SentPart", "part_uploads"]
