"""Lists: tags, repositories, referrers (distribution-spec 1.1, "Content Discovery")."""

from __future__ import annotations

from bisect import bisect_right
from urllib.parse import urlencode

from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Index, encode_json
from registry_pipelines.registry.embedded.blobs import parse_digest
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import ApiError, Response, json_response
from registry_pipelines.registry.embedded.storage import Store

MAX_PAGE = 10_000
"""Names in one answer; more follow by Link."""
CATALOG_PAGE = 1_000
"""Repositories in one answer when the client did not say."""
MAX_REFERRERS_BYTES = 3 * 1024 * 1024
"""One page of referrers stays below the 4 MiB that clients read of a manifest."""


class ListHandlers:
    """Handlers that list."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def tags(self, request: Request, name: str) -> Response:
        """``/v2/<name>/tags/list`` with ``n`` and ``last``."""
        layout = self._store.layout(name)
        if not layout.exists():
            raise ApiError(404, "NAME_UNKNOWN", f"there is no repository {name}")
        page, link = _page(request, sorted(layout.tags()), MAX_PAGE)
        return json_response({"name": name, "tags": page}, headers=link)

    def catalog(self, request: Request) -> Response:
        """``/v2/_catalog`` with ``n`` and ``last``."""
        page, link = _page(request, self._store.repositories(), CATALOG_PAGE)
        return json_response({"repositories": page}, headers=link)

    def referrers(self, request: Request, name: str, digest: str) -> Response:
        """``/v2/<name>/referrers/<digest>``; an unknown repository or manifest has none, which is not an error."""
        subject = parse_digest(digest)
        referrers = sorted(self._store.layout(name).referrers(subject), key=lambda entry: entry.digest)
        headers = [("Content-Type", media_types.OCI_INDEX)]
        # "+" in a query means a space, but clients that do not escape media types exist, and no media type has a space.
        kind = request.parameter("artifactType").replace(" ", "+")
        if kind:
            referrers = [entry for entry in referrers if entry.artifact_type == kind]
            headers.append(("OCI-Filters-Applied", "artifactType"))
        last = request.parameter("last")
        referrers = [entry for entry in referrers if entry.digest > last]
        page = _first_page(referrers)
        if len(page) < len(referrers):
            query = {"artifactType": kind} if kind else {}
            headers.append(_link(request, {**query, "last": page[-1].digest}))
        index = Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(page))
        return Response(200, headers, encode_json(index))


def _page(request: Request, names: list[str], default: int) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    text = request.parameter("n")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ApiError(400, "UNSUPPORTED", "n is not a number")
    size = min(int(text), MAX_PAGE) if text else default
    last = request.parameter("last")
    first = bisect_right(names, last) if last else 0
    page = names[first : first + size]
    if not page or first + size >= len(names):
        return page, ()
    return page, (_link(request, {"n": str(size), "last": page[-1]}),)


def _link(request: Request, query: dict[str, str]) -> tuple[str, str]:
    return "Link", f'<{request.target.partition("?")[0]}?{urlencode(query)}>; rel="next"'


def _first_page(entries: list[Descriptor]) -> list[Descriptor]:
    total = 0
    for position, entry in enumerate(entries):
        total += len(encode_json(entry)) + 1
        if total > MAX_REFERRERS_BYTES and position:
            return entries[:position]
    return entries


__all__ = ["CATALOG_PAGE", "MAX_PAGE", "MAX_REFERRERS_BYTES", "ListHandlers"]
