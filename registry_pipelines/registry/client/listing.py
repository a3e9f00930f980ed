"""Lists that come in pages (distribution-spec 1.1, "Listing tags"; RFC 8288 for ``Link``)."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from registry_pipelines.errors import RegistryError
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.origins import split_url
from registry_pipelines.registry.client.response import Response

PAGE_ENTRIES = 1000
"""What we ask for per page; ECR refuses more."""

MAX_PAGES = 10_000
"""Pages followed: ten million tags at our page size; a registry that gives more is in a loop."""

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of one page; 1000 tags of 128 characters are 0.13 MB, and some registries ignore ``n``."""

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
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        seen.add(urllib.parse.urljoin(f"{exchange.base}/", call.url))
        with exchange.send(call) as response:
            body = response.read(limit)
            if body is None:
                raise RegistryError(f"a page is larger than {limit} bytes", where=call.where)
            links = response.headers.get_all("Link")
            url = response.url
        yield body, response
        following = next_link(links)
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


def names(exchange: Exchange, call: Call, field: str) -> Iterator[str]:
    """The strings of list ``field`` over all pages; ``null`` counts as empty (distribution says it for no tags)."""
    last = None
    for body, _ in pages(exchange, call):
        entries = _entries(body, field, call.where)
        if entries and entries == last:
            raise RegistryError("the registry gives the same page again and again", where=call.where)
        last = entries
        yield from entries


def _entries(body: bytes, field: str, where: str) -> list[str]:
    try:
        found: Any = json.loads(body).get(field)
    except (ValueError, AttributeError, RecursionError) as error:
        raise RegistryError(f"the list is not a JSON object with `{field}`", where=where) from error
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise RegistryError(f"`{field}` is not a list of strings", where=where)
    return found
