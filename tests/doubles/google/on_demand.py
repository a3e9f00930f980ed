"""On-Demand Scanning (v1), which has no Python client: its REST door by hand, from its discovery document.

What is sent is held against the document's ``AnalyzePackagesRequestV1`` and ``PackageData``: unknown fields and values
are refused. Answers hold grafeas' own occurrences.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf.json_format import MessageToDict
from grafeas import grafeas_v1

from registry_pipelines.registry.embedded import Request, Response
from tests.doubles.google.doors import error_answer
from tests.doubles.google.world import Refusal, World

_START = re.compile(r"/v1/(projects/[^/]+/locations/(?:us|europe|asia))/scans:analyzePackages")
_OPERATION = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+/operations/scan-[^/]+)")
_FOUND = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+/scans/[^/]+)/vulnerabilities")
_FIELDS = {
    "package": str,
    "version": str,
    "cpeUri": str,
    "packageType": str,
    "sourceVersion": dict,
    "binaryVersion": dict,
    "fileLocation": list,
    "hashDigest": str,
    "architecture": str,
}
_TYPES = {"MAVEN", "OS", "GO", "GO_STDLIB", "PYPI", "NPM", "NUGET", "RUBYGEMS", "RUST", "COMPOSER", "SWIFT"}
PAGE = 2


@dataclass
class Scans:
    """findings: of every scan. questions: how often an operation is asked for before it is done. error: it ends so."""

    findings: list[grafeas_v1.Occurrence] = field(default_factory=list)
    questions: int = 1
    error: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


class OnDemandDoor:
    """Answers the paths of the service; None for all others."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request) -> Response | None:
        url = urlsplit(request.target)
        try:
            if request.method == "POST" and (match := _START.fullmatch(url.path)):
                return self._start(match[1], request)
            if request.method == "GET" and (match := _OPERATION.fullmatch(url.path)):
                return self._operation(match[1])
            if request.method == "GET" and (match := _FOUND.fullmatch(url.path)):
                return self._found(parse_qs(url.query))
        except Refusal as refusal:
            return error_answer(refusal)
        return None

    def _start(self, parent: str, request: Request) -> Response:
        body = json.loads(request.body.read(16 * 1024 * 1024))
        self._world.log_in(request.headers.get("authorization", ""))
        self._world.may("ondemandscanning.scans.analyzePackages", parent)
        if not str(body.get("resourceUri", "")).startswith("https://") or set(body) - {"resourceUri", "packages"}:
            raise Refusal("INVALID_ARGUMENT", "resourceUri: required, and no other fields")
        for package in body["packages"]:
            wrong = [name for name, value in package.items() if not isinstance(value, _FIELDS.get(name, ()))]
            if wrong or package.get("packageType") not in _TYPES or not package.get("package"):
                raise Refusal("INVALID_ARGUMENT", f"packages: {wrong or package}")
            if package["packageType"] == "OS" and not package.get("cpeUri", "").startswith("cpe:/o:"):
                raise Refusal("INVALID_ARGUMENT", "packages: cpe_uri of a package of a distribution")
        state = self._world.state(Scans)
        state.asked.append(body)
        name = f"{parent}/operations/scan-{len(state.asked)}"
        state.left[name] = state.questions
        return _json({"name": name, "done": False})

    def _operation(self, name: str) -> Response | None:
        state = self._world.state(Scans)
        if name not in state.left:
            return None
        state.left[name] -= 1
        if state.left[name] > 0:
            return _json({"name": name, "done": False})
        if state.error:
            return _json({"name": name, "done": True, "error": {"code": 13, "message": state.error}})
        scan = f"{name.partition('/operations/')[0]}/scans/1"
        return _json({"name": name, "done": True, "response": {"scan": scan}})

    def _found(self, query: dict[str, list[str]]) -> Response:
        found = self._world.state(Scans).findings
        start = int(query.get("pageToken", ["0"])[0])
        page = [MessageToDict(grafeas_v1.Occurrence.pb(each)) for each in found[start : start + PAGE]]
        after = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(found) else {}
        return _json({"occurrences": page, **after})


def _json(document: dict[str, Any]) -> Response:
    return Response(200, [("Content-Type", "application/json; charset=UTF-8")], json.dumps(document).encode())


__all__ = ["OnDemandDoor", "Scans"]
