"""Cloud Run and Vertex AI over REST: lists in pages of one, as their API references show the resources. Their clients
are not among our dependencies, so the shapes stand here."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.http_server import HttpServer


class UsageApis:
    """lists: by path (``/v2/projects/P/locations/L/services``) the entries; resources: by path one resource. fail: a
    status, and the text of the answer, for every path that begins so."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.resources: dict[str, dict[str, Any]] = {}
        self.fail: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self._server = HttpServer(self._answer)

    def __enter__(self) -> UsageApis:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def endpoint(self) -> str:
        return f"http://{self._server.address}"

    def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        path, query = unquote(parts.path), parse_qs(parts.query)
        self.asked.append(request.target)
        for start, (status, text) in self.fail.items():
            if path.startswith(start):
                return Response(status, [("Content-Type", "text/html")], text.encode())
        if path in self.resources:
            return self._json(self.resources[path])
        if path not in self.lists:
            return self._json({"error": {"code": 404, "message": f"{path} not found", "status": "NOT_FOUND"}}, 404)
        at = int(query.get("pageToken", ["0"])[0])
        found = self.lists[path]
        left = {"nextPageToken": str(at + 1)} if at + 1 < len(found) else {}
        return self._json({path.rpartition("/")[2]: found[at : at + 1], **left})

    def _json(self, document: dict[str, Any], status: int = 200) -> Response:
        return Response(status, [("Content-Type", "application/json")], json.dumps(document).encode())
