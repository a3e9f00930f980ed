"""Uploads to Azure by blocks that outlive the process which began them.

Azure keeps blocks that no list names for a week, and tells which these are. ``obstore`` uploads by blocks, too, but has
no call for it to go on; it signs addresses, with whatever credentials it has, and these few calls are made with those.
An upload has no name of its own there: it is the beginning of its blocks' names. Source: Azure's REST reference (Put
Block, Put Block List, Get Block List; service version 2021-08-06).
"""

from __future__ import annotations

import base64
import binascii
import http.client
import re
import secrets
import threading
import time
import weakref
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from registry_pipelines.errors import (
    ContentError,
    DiskFull,
    Forbidden,
    NotFound,
    RateLimited,
    Refused,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.stores.parts import CONNECT_S, READ_S, SentPart

SIGNED_FOR_S = 3600
"""How long an address that was signed is good; it is asked for anew after half of it."""
MOST_ANSWER_BYTES = 16 << 20
"""50,000 blocks have 8 MB of names."""
_NAME = re.compile(r"<Block>\s*<Name>([A-Za-z0-9+/=]+)</Name>\s*<Size>(\d+)</Size>")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")


@dataclass
class _Signed:
    address: str
    until: float


class BlockUploads:
    """Uploads by blocks to the keys of one store; for many threads. Methods and errors are those of ``PartUploads``."""

    def __init__(self, client: Any) -> None:
        """client: obstore's, of Azure."""
        self._client, self._signed, self._lock = client, dict[tuple[str, str], _Signed](), threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        weakref.finalize(self, _close_all, self._idle)

    def begin(self, key: str) -> str:
        """Open an upload; its id. Nothing is asked."""
        return secrets.token_hex(8)

    def send(self, key: str, upload: str, number: int, content: memoryview) -> None:
        """Store a block; once more puts it in place of the one before."""
        self._ask("PUT", key, f"comp=block&blockid={quote(_block(upload, number), safe='')}", content)

    def sent(self, key: str, upload: str) -> list[SentPart]:
        """The blocks that are there, by number. Raises NotFound where there are none."""
        raw = self._ask("GET", key, "comp=blocklist&blocklisttype=uncommitted")
        found = []
        for name, size in _NAME.findall(raw.decode(errors="replace")):
            number = _number(name, upload)
            if number is not None:
                found.append(SentPart(number, int(size), name))
        if not found:
            raise NotFound("the store has no block of the upload any more", where=key, status=404)
        return sorted(found, key=lambda each: each.number)

    def complete(self, key: str, upload: str, parts: list[SentPart]) -> None:
        """Make the object of its blocks; Azure drops all others of this key."""
        rows = "".join(f"<Uncommitted>{each.etag}</Uncommitted>" for each in parts)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{rows}</BlockList>'
        self._ask("PUT", key, "comp=blocklist", body.encode())

    def abort(self, key: str, upload: str) -> None:
        """Nothing: Azure has no call for it, and drops the blocks after a week."""

    def _ask(self, method: str, key: str, query: str, content: memoryview | bytes = b"") -> bytes:
        parts = urlsplit(self._address(method, key))
        connection = self._connection(parts.scheme, parts.netloc)
        try:
            headers = {"Content-Length": str(len(content)), "Content-Type": "application/octet-stream"}
            connection.request(method, f"{parts.path}?{parts.query}&{query}", body=content, headers=headers)
            answer = connection.getresponse()
            raw = answer.read(MOST_ANSWER_BYTES + 1)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError | http.client.HTTPException):
                raise
            raise Unavailable(f"the store does not answer: {type(error).__name__}", where=key) from error
        if len(raw) > MOST_ANSWER_BYTES:
            connection.close()
            raise ContentError(f"the store's answer has more than {MOST_ANSWER_BYTES} bytes", where=key)
        self._idle.append(connection)
        if answer.status >= 300:
            raise _refusal(answer.status, raw, key)
        return raw

    def _connection(self, scheme: str, host: str) -> http.client.HTTPConnection:
        """One that nobody uses now, else a new one. It connects again by itself where the store closed it."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return kind(host, timeout=CONNECT_S + READ_S)

    def _address(self, method: str, key: str) -> str:
        import obstore

        from registry_pipelines.stores.failures import store_errors

        with self._lock:
            known = self._signed.get((method, key))
            if known is None or known.until < time.monotonic():
                with store_errors(key):
                    made = obstore.sign(self._client, method, key, timedelta(seconds=SIGNED_FOR_S))  # type: ignore[call-overload]
                known = self._signed[method, key] = _Signed(made, time.monotonic() + SIGNED_FOR_S / 2)
        return known.address


def _close_all(idle: list[http.client.HTTPConnection]) -> None:
    for each in idle:
        each.close()


def _block(upload: str, number: int) -> str:
    """Azure wants names of one length for all blocks of a key."""
    return base64.b64encode(f"{upload}-{number:07}".encode()).decode()


def _number(name: str, upload: str) -> int | None:
    """Of a block of this upload."""
    try:
        plain = base64.b64decode(name, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    own, _, number = plain.partition("-")
    return int(number) if own == upload and number.isdigit() else None


def _refusal(status: int, raw: bytes, key: str) -> RegistryPipelinesError:
    match = _CODE.search(raw[:4000].decode(errors="replace"))
    said = f"{status} {match[1] if match else ''}".strip()
    if status == 404 or (match and match[1] in ("InvalidBlockList", "InvalidBlobOrBlock")):
        return NotFound(f"the store does not have it any more: {said}", where=key, status=404)
    if status == 507:
        return DiskFull(f"the store is full: {said}", where=key, do="Make room there, then run it again")
    if status in (429, 503):
        return RateLimited(f"the store asks for fewer requests: {said}", where=key)
    if status == 401:
        return Unauthorized(f"the store does not take the credentials: {said}", where=key, status=status)
    if status == 403:
        return Forbidden(f"the store does not let us: {said}", where=key, status=status)
    if status >= 500:
        return Unavailable(f"the store does not do it: {said}", where=key, status=status)
    return Refused(f"the store refuses it: {said}", where=key, status=status)


__all__ = ["BlockUploads"]
