"""Lists that come in pages (distribution-spec 1.1, "Listing tags"; RFC 8288 for ``Link``)."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import msgspec

from registry_pipelines.errors import RegistryError
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.names import read_names
from registry_pipelines.registry.client.origins import split_url
from registry_pipelines.registry.client.response import Response

PAGE_ENTRIES = 1000
"""What we ask for per page; ECR refuses more."""

SMALLER_PAGES = ("?n=100", "")
"""What we ask for where that is refused; then nothing, which gives the registry's own size."""

MAX_PAGES = 10_000
"""Pages followed; a registry that gives more is in a loop."""

MAX_NAMES = 10_000_000
"""Names of one list, as many as pages of our size hold. They are given as they come, so they need no memory here."""

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of one page that is read at once."""

_PAGE_REFUSED = frozenset({400, 413, 416, 422})
"""distribution answers 400 PAGINATION_NUMBER_INVALID to more than its configuration permits, Quay 413."""

_CUT = frozenset({100, PAGE_ENTRIES})
"""So many names without a ``Link`` may be a page whose Link is missing (sonatype/nexus-public#209), or the whole."""

_LINK = re.compile(r'<([^<>]*)>((?:[ \t]*;[^,;<"]*(?:"[^"]*")?)*)')
_NEXT = re.compile(r";[ \t]*rel[ \t]*=[ \t]*(?:\"[^\"]*\bnext\b[^\"]*\"|next\b)", re.IGNORECASE)


def next_link(headers: list[str]) -> str:
    """The target of ``rel="next"``, verbatim; empty when there is none."""
    for header in headers:
        for match in _LINK.finditer(header[:16384]):
            if _NEXT.search(match[2]):
                return match[1]
    return ""


def pages(exchange: Exchange, call: Call, *, limit: int = MAX_PAGE_BYTES) -> Iterator[tuple[bytes, Response]]:
    """Each page, with the answer it came in. Raises RegistryError for loops, foreign hosts and endless lists."""
    for response in _walk(exchange, call):
        body = response.read(limit)
        if body is None:
            raise RegistryError(f"a page is larger than {limit} bytes", where=call.where)
        yield body, response


def _walk(
    exchange: Exchange, call: Call, *, first: Response | None = None, guess: Callable[[], str] = lambda: ""
) -> Iterator[Response]:
    """The answer of each page, to be read before the next is asked for. first: the first one, where it was asked for
    already. guess: the next page's address where the answer names none."""
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        seen.add(urllib.parse.urljoin(f"{exchange.base}/", call.url))
        with first or exchange.send(call) as response:
            first = None
            yield response
            links = response.headers.get_all("Link")
            url = response.url
        following = next_link(links) or guess()
        if not following:
            return
        target = _absolute(url, following, call.where)
        if target in seen:
            raise RegistryError("the pages of the list go round in a circle", where=call.where)
        here = split_url(url, where=call.where)[0]
        if split_url(target, where=call.where)[0] not in (here, exchange.origin):
            raise RegistryError("the next page is on another host than the one that answered", where=call.where)
        call = replace(call, url=target)
    raise RegistryError(f"the list has more than {MAX_PAGES} pages", where=call.where)


def _absolute(url: str, following: str, where: str) -> str:
    try:
        return urllib.parse.urljoin(url, following)
    except ValueError as error:
        raise RegistryError("the next page's address is not a URL", where=where) from error


def names(exchange: Exchange, call: Call, key: str) -> Iterator[str]:
    """The strings of list ``key`` over all pages, as they arrive. call: without page size. Raises RegistryError.

    A page that looks cut and names no next one is followed by ``last``; where that is not obeyed it was the end."""
    path, page = call.url, _Page()
    call, first = _first(exchange, call)
    count = 0
    for response in _walk(exchange, call, first=first, guess=lambda: page.guess(path)):
        before, page.count = page.mark, 0
        for name in read_names(response.readinto, key, where=call.where):
            if page.guessed and not page.count and name == page.first:
                return  # `last` is not obeyed: this is the first page again
            page.add(name)
            count += 1
            if count > MAX_NAMES:
                raise RegistryError(f"the list has more than {MAX_NAMES} names", where=call.where)
            yield name
        if page.count and page.mark == before:
            raise RegistryError("the registry gives the same page again and again", where=call.where)


def some_after(exchange: Exchange, call: Call, key: str, last: str, count: int) -> list[str]:
    """At most ``count`` names that the registry lists after ``last``, which need not be one of them. call: without page
    size. A registry that does not obey ``last`` gives its first names. Raises RegistryError."""
    asked = replace(call, url=f"{call.url}?{urllib.parse.urlencode({'n': count, 'last': last})}")
    with exchange.send(asked) as response:
        return list(islice(read_names(response.readinto, key, where=call.where), count))


class _Page(msgspec.Struct):
    """What of the page at hand is remembered."""

    count: int = 0
    first: str = ""
    last: str = ""
    guessed: bool = False

    @property
    def mark(self) -> tuple[int, str, str]:
        """Tells it from other pages of the list."""
        return self.count, self.first, self.last

    def add(self, name: str) -> None:
        if not self.count:
            self.first = name
        self.last = name
        self.count += 1

    def guess(self, path: str) -> str:
        """The address of a next page that is not named."""
        self.guessed = self.count in _CUT
        return f"{path}?{urllib.parse.urlencode({'n': self.count, 'last': self.last})}" if self.guessed else ""


def _first(exchange: Exchange, call: Call) -> tuple[Call, Response]:
    """The first page, the smaller where the size is refused."""
    for query in (f"?n={PAGE_ENTRIES}", *SMALLER_PAGES):
        asked = replace(call, url=call.url + query)
        try:
            return asked, exchange.send(asked)
        except RegistryError as error:
            if error.status not in _PAGE_REFUSED or error.code.startswith("NAME_") or not query:
                raise
    raise AssertionError("the last query is empty")
