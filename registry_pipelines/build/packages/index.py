"""An index that answers over HTTP: a project's page, a file, what is beside a file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from registry_pipelines.build.packages.kept_pages import KeptPage, KeptPages
from registry_pipelines.build.packages.model import IndexRules
from registry_pipelines.build.packages.pages import ACCEPT, MAX_PAGE_BYTES, Project, WheelFile, read_page
from registry_pipelines.build.packages.web import ABSENT, Asking, Site
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import RegistryError, Unavailable, WheelInvalid
from registry_pipelines.redacting import redact_url
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.protocol import BUFFER_BYTES

MAX_WHEEL_BYTES = 64 * 1024**3
"""No wheel is near it; an answer without an end stops there."""

RETRIES = Retries(attempts=4)
"""Of what an index is asked: two seconds, then it is down for this build."""

SMALL_S = 600.0
"""For a page or a document; an index that gives a byte a minute would never end."""

Advance = Callable[[int], object]


class HttpIndex:
    """An index at an address. site: where pages of projects are. uploads: where twine uploads to, often another host;
    None for nowhere. said: gets what is to be told of it. Safe for many threads."""

    def __init__(
        self,
        name: str,
        rules: IndexRules,
        site: Site,
        *,
        kept: KeptPages | None,
        uploads: Site | None = None,
        said: Callable[[str], object] = lambda _: None,
        retries: Retries | None = None,
        small_s: float = SMALL_S,
    ) -> None:
        self._small_s = small_s
        self.name, self.rules, self.site, self.uploads = name, rules, site, uploads
        self._projects = site.base if site.base.endswith("/") else f"{site.base}/"
        self._kept, self._said = kept, said
        self._retries = retries or RETRIES
        self._down: Unavailable | None = None

    @property
    def identity(self) -> str:
        """What it is, for whoever remembers answers of it: no secret is in it."""
        return self._projects

    def project(self, name: str) -> Project | None:
        """What it says of a project by its normalised name; None when it has no such project.

        Raises Unauthorized, Forbidden, RegistryError, and Unavailable where it does not answer and its last answer may
        not stand in (``stale``).
        """
        known = self._kept.get(name) if self._kept else None
        try:
            if self._down is not None:  # hundreds of projects do not each wait for an index that is down
                raise self._down
            page = self._page(name, known)
        except Unavailable as error:
            self._down = error
            page = self._stale(name, known, error)
        if page is None:
            return None
        project = read_page(
            page.body, page.content_type, name=name, url=page.url, where=f"{self.site.where}, project {name}"
        )
        if self._kept and page is not known:  # what cannot be read must not stand in for it, nor be asked for again
            self._kept.keep(name, page)
        return project

    def _page(self, name: str, known: KeptPage | None) -> KeptPage | None:
        headers = {"Accept": ACCEPT, **(_conditions(known) if known else {})}
        expect = (*ABSENT, *((304,) if known else ()))
        asking = Asking(
            f"{self._projects}{name}/",
            f"reading what it has of {name}",
            headers=headers,
            own=not self.rules.public,
            expect=expect,
        )
        with self.site.ask(asking) as response:
            if response.status == 304 and known:
                if self._kept:
                    self._kept.confirm(name, known)
                return known
            if response.status in ABSENT:
                if self._kept:
                    self._kept.forget(name)
                return None
            return self._read(name, response)

    def _read(self, name: str, response: Response) -> KeptPage:
        body = self._small(response, MAX_PAGE_BYTES, f"reading what it has of {name}")
        if body is None:
            raise RegistryError(f"its page of {name} has more than {MAX_PAGE_BYTES} bytes", where=self.site.where)
        return KeptPage(
            url=response.url,
            content_type=response.header("Content-Type"),
            body=body,
            etag=response.header("ETag"),
            modified=response.header("Last-Modified"),
            at=time.time(),
        )

    def _stale(self, name: str, known: KeptPage | None, error: Unavailable) -> KeptPage:
        """The last answer in place of one. Raises the error where it may not stand in."""
        if known is None or time.time() - known.at > self.rules.stale_s:
            raise error
        then = datetime.fromtimestamp(known.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        self._said(f"{self.site.where} does not answer; what it said of {name} on {then} is taken")
        return known

    def take(self, file: WheelFile, store: WheelStore, scratch: Path, advance: Advance) -> str:
        """Have a file in the store; its sha256. scratch: a folder on the store's file system. advance: called with so
        many more bytes. A download that is cut goes on where it was cut.

        Raises WheelInvalid where it is not what the page says, NotFound, Unavailable, RegistryError.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch / file.filename
        try:
            digests = self._download(file, path, advance)
            wrong = [kind for kind, digits in file.hashes.items() if digests[kind] != digits]
            if wrong:
                kind = wrong[0]
                raise WheelInvalid(
                    f"its {kind} is {digests[kind]}, and {self.site.where} says {file.hashes[kind]}",
                    where=file.filename,
                    do="Do not use it: the file was changed, or the index is being changed. Ask whoever runs the index",
                )
            store.take(path, digests["sha256"])
            return digests["sha256"]
        finally:
            path.unlink(missing_ok=True)

    def _download(self, file: WheelFile, path: Path, advance: Advance) -> dict[str, str]:
        kinds = dict.fromkeys(["sha256", *file.hashes])
        attempt, at = 1, 0
        most = file.size if file.size is not None else MAX_WHEEL_BYTES
        hashes = {kind: hashlib.new(kind) for kind in kinds}
        buffer = memoryview(bytearray(BUFFER_BYTES))
        with path.open("wb") as target:  # a raw file may write a part alone, and say nothing
            while True:
                before = at
                try:
                    with self._content(file, at) as response:
                        if at and response.status != 206:  # it gives no parts: from the first byte again
                            target.seek(0)
                            target.truncate()
                            hashes, at = {kind: hashlib.new(kind) for kind in kinds}, 0
                        while count := response.readinto(buffer):
                            target.write(buffer[:count])
                            for digest in hashes.values():
                                digest.update(buffer[:count])
                            at += count
                            advance(count)
                            if at > most:
                                raise WheelInvalid("it has more bytes than its index says", where=file.filename)
                    return {kind: digest.hexdigest() for kind, digest in hashes.items()}
                except Unavailable as error:
                    attempt = 1 if at > before else attempt
                    if not self._retries.wait(error, attempt):
                        raise
                    attempt += 1

    def _content(self, file: WheelFile, at: int) -> Response:
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={at}-"} if at else {})}
        asking = Asking(file.url, f"reading {file.filename}", headers=headers, expect=(206,) if at else ())
        response = self.site.ask(asking)
        if response.status == 206 and not response.header("Content-Range").startswith(f"bytes {at}-"):
            response.close()
            said = f"reading {file.filename}: it gave another part than was asked for"
            raise RegistryError(said, where=self.site.where)
        return response

    def carried(self, filename: str) -> Mapping[str, str]:
        """See ``OpenIndex``."""
        return {}

    def document(self, url: str, limit: int, doing: str) -> bytes:
        """Something small that a page names. Raises NotFound, Unavailable, RegistryError."""
        with self.site.ask(Asking(url, doing)) as response:
            content = self._small(response, limit, doing)
        if content is None:
            raise RegistryError(f"{doing}: it has more than {limit} bytes", where=self.site.where)
        return content

    def _small(self, response: Response, limit: int, doing: str) -> bytes | None:
        """A whole body; None for more than ``limit`` bytes. Raises Unavailable where it takes too long."""
        until, body = time.monotonic() + self._small_s, bytearray()
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while count := response.readinto(buffer, until):
            body += buffer[:count]
            if len(body) > limit:
                return None
            if time.monotonic() > until:
                said = f"{doing}: it is not there after {self._small_s:.0f} s"
                raise Unavailable(said, where=self.site.where, do="See how the index is")
        return bytes(body)

    def wait(self, error: RegistryError, attempt: int) -> bool:
        """Wait before something is sent again; False when the error is final."""
        return self._retries.wait(error, attempt)

    def location(self, file: WheelFile) -> str:
        """Where a file is, fit for everybody's eyes: without a query, which may be a signature."""
        return redact_url(file.url).partition("?")[0]

    def close(self) -> None:
        """Close its connections."""
        self.site.close()
        if self.uploads:
            self.uploads.close()

    def __str__(self) -> str:
        return f"{self.name} ({urlsplit(self.site.base).hostname})"


def _conditions(known: KeptPage) -> Mapping[str, str]:
    if known.etag:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.modified} if known.modified else {}


__all__ = ["RETRIES", "Advance", "HttpIndex"]
