"""Read OSV's export over HTTP: lists, single records, and archives that go on where they were cut.

The layout is that of the public bucket (google/osv.dev, ``go/cmd/exporter``): ``ecosystems.txt``; and for each
ecosystem ``all.zip``, ``modified_id.csv``, ``ID.json``. A mirror of it is one with the same files. Redirects, proxies,
retries and credentials (Docker's ``config.json``) are those of the registry client.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from registry_pipelines.errors import ContentError, DigestMismatch, RegistryPipelinesError, Unavailable
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import local_errors
from registry_pipelines.progress import Counter, Progress
from registry_pipelines.registry.client.credentials import CredentialSource
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.origins import split_url
from registry_pipelines.registry.client.reader import read_content_range
from registry_pipelines.registry.client.redirects import Redirects
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.tokens import Authenticator
from registry_pipelines.registry.client.transport import Timeouts, Transport

MAX_ARCHIVE_BYTES = 8 * 1024**3
"""All of OSV in one ``all.zip`` has about 1.5 GB."""

BUFFER_BYTES = 64 * 1024
"""What a kill loses at most of a download."""

_MD5 = re.compile(r"(?:^|,)\s*md5=([A-Za-z0-9+/]{22}==)")


class _Note(msgspec.Struct):
    """Beside an archive that is not whole: what it is part of."""

    etag: str
    size: int
    md5: str = ""


class Feed:
    """An export. url: without a slash at its end. Safe for many threads."""

    def __init__(self, url: str, *, timeouts: Timeouts | None = None, retries: Retries | None = None) -> None:
        self.url = url.rstrip("/")
        origin = split_url(self.url, where=self.url)[0]
        base = "/".join(self.url.split("/")[:3])
        self.host = base.partition("://")[2]
        transport = Transport(timeouts=timeouts)
        places = Redirects(origin, transport.address_of)
        source = CredentialSource(self.host)
        authenticator = Authenticator(source, transport.send, places, where=self.host)
        self._retries = retries or Retries()
        self._received = Counter()
        self._exchange = Exchange(base, self.host, transport, authenticator, self._retries, places)

    @property
    def received_bytes(self) -> int:
        """Bytes that came, of lists, records and archives."""
        return self._received.bytes_moved

    def close(self) -> None:
        """Close idle connections."""
        self._exchange.transport.close()

    def address(self, name: str) -> str:
        """The address of a file of the export: ``PyPI/all.zip``."""
        return f"{self.url}/{quote(name, safe='/')}"

    def read(self, name: str, limit: int) -> bytes | None:
        """A small file; None where there is none. Raises RegistryError, ContentError: longer than ``limit`` bytes."""
        attempt = 0
        while True:
            attempt += 1
            with self._get(name, (200, 404)) as response:
                if response.status == 404:
                    return None
                try:
                    content = response.read(limit)
                except RegistryPipelinesError as error:
                    if self._retries.wait(error, attempt):
                        continue
                    raise
            if content is None:
                raise self._wrong(name, f"has more than {limit} bytes")
            self._received.advance(name, len(content))
            return content

    def is_still(self, name: str, etag: str) -> bool:
        """Whether a file is the one that had this ETag. Raises RegistryError."""
        with self._get(name, (200, 304, 404), {"If-None-Match": etag} if etag else {}) as response:
            return response.status == 304

    def download(self, name: str, target: Path, progress: Progress) -> str | None:
        """Bring a large file, in one buffer of memory; its ETag, None where there is none.

        What an interrupted call left beside ``target`` is gone on with, as long as the file is the same. As long as
        bytes come it is tried again. Raises RegistryError, DigestMismatch, DiskFull, LocalError.
        """
        part, noted = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
        told = _Told(progress, name, self._received)
        attempt = 1
        try:
            with local_errors(target.parent):
                while True:
                    before = _size(part)
                    try:
                        etag = self._continued(name, part, noted, told)
                        break
                    except _Cut as cut:
                        attempt = 1 if _size(part) > before else attempt + 1
                        if not self._retries.wait(cut.error, attempt):
                            raise cut.error from cut
                if etag is not None:
                    self._check(name, part, noted)
                    part.rename(target)
                    noted.unlink()
        except RegistryPipelinesError:
            progress.end(name, note="failed")
            raise
        progress.end(name)
        return etag

    def _continued(self, name: str, part: Path, noted: Path, told: _Told) -> str | None:
        note, start = _kept(part, noted)
        if note and start == note.size:
            return note.etag
        wanted = {"Range": f"bytes={start}-", "If-Match": note.etag} if note and start else {}
        with self._get(name, (200, 206, 404, 412, 416), wanted) as response:
            if response.status == 404:
                return None
            if response.status == 200:
                note, start = self._begun(name, response), 0
                noted.write_bytes(msgspec.json.encode(note))
            elif note is None or not _goes_on(response, note, start):
                part.unlink(missing_ok=True)
                raise _Cut(Unavailable(f"{name} changed while it was read", where=self._where(name), do="Run it again"))
            told.begin(note.size)
            _append(response, part, start, told)
        return note.etag

    def _begun(self, name: str, response: Response) -> _Note:
        size = response.length
        if size is None or size > MAX_ARCHIVE_BYTES:
            said = "does not say how long it is" if size is None else f"has {size} bytes, more than {MAX_ARCHIVE_BYTES}"
            raise self._wrong(name, said)
        md5 = [found[1] for value in response.headers.get_all("x-goog-hash") if (found := _MD5.search(value))]
        return _Note(response.header("ETag"), size, md5[0] if md5 else "")

    def _check(self, name: str, part: Path, noted: Path) -> None:
        """What came is as long as announced, and has the hash that the bucket tells of it."""
        note = msgspec.json.decode(noted.read_bytes(), type=ready(_Note))
        with part.open("rb") as stream:
            found = (
                hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).digest() if note.md5 else b""
            )
            size = stream.seek(0, 2)
        try:
            wanted = base64.b64decode(note.md5)
        except binascii.Error:
            wanted = b""
        if size != note.size or found != wanted:
            part.unlink()
            noted.unlink()
            raise DigestMismatch(
                "what arrived is not what the export says it is; it was thrown away",
                where=self._where(name),
                do="Run it again",
            )

    def _wrong(self, name: str, said: str) -> ContentError:
        return ContentError(said, where=self._where(name), do="Tell whoever runs the export")

    def _where(self, name: str) -> str:
        return f"{self.url.partition('://')[2]}/{name}"

    def _get(self, name: str, expect: tuple[int, ...], headers: Mapping[str, str] | None = None) -> Response:
        call = Call("GET", self.address(name), frozenset(), self._where(name), f"reading {name}", expect, headers)
        return self._exchange.send(call)


class _Cut(Exception):
    """The body ended early, or is of another file than before; what is there is gone on with."""

    def __init__(self, error: RegistryPipelinesError) -> None:
        self.error = error


class _Told:
    """Tells progress of a file that may begin anew: its bytes only grow."""

    def __init__(self, progress: Progress, task: str, received: Counter) -> None:
        self._progress, self._task, self._counter, self._at = progress, task, received, 0

    def begin(self, size: int) -> None:
        self._progress.begin(self._task, total_bytes=size)

    def received(self, count: int) -> None:
        self._counter.advance(self._task, count)

    def reach(self, at: int) -> None:
        if at > self._at:
            self._progress.advance(self._task, at - self._at)
            self._at = at


def _kept(part: Path, noted: Path) -> tuple[_Note | None, int]:
    """What an interrupted call left: nothing where it is not known of which file it is."""
    try:
        note = msgspec.json.decode(noted.read_bytes(), type=ready(_Note))
    except (OSError, msgspec.MsgspecError):
        return None, 0
    size = _size(part)
    strong = note.etag and not note.etag.startswith("W/")
    return (note, size) if strong and size <= note.size else (None, 0)


def _goes_on(response: Response, note: _Note, start: int) -> bool:
    given = read_content_range(response)
    return (
        response.status == 206
        and given is not None
        and (given.start, given.stop) == (start, note.size)
        and response.header("ETag") == note.etag
    )


def _append(response: Response, part: Path, start: int, told: _Told) -> None:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with part.open("r+b" if start else "wb", buffering=0) as file:
        file.seek(start)
        told.reach(start)
        while True:
            try:
                count = response.readinto(buffer)
            except RegistryPipelinesError as error:
                raise _Cut(error) from error
            if not count:
                return
            file.write(buffer[:count])
            told.received(count)
            told.reach(file.tell())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
