"""Findings about an image and its Dockerfile as SARIF 2.1.0 (OASIS), which code scanning pages and editors show.

A finding with a line stands at that line of the Dockerfile; one of an image alone at the file's path in it, with the
path as a logical location, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from registry_pipelines.anatomy.lint.lint import Lint
from registry_pipelines.progress import size_text
from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.advice.kinds import DOCKERFILE_RULES, KINDS, Kind, Severity
from registry_pipelines.scan.sarif import fingerprint, text_of, write_log

_SCORES: Mapping[Severity, str] = {"error": "8.0"}
"""``security-severity`` by which GitHub sorts: only what is dangerous has one."""
_IN_IMAGE = re.compile(r"(?P<path>[^\s:]+)(?::(?P<line>\d+))?(?: .*)?\Z")


def write_sarif(found: Lint) -> bytes:
    """The findings as one run, in their order; deterministic."""
    rules = {each.kind: _rule(each.kind) for each in found.findings}
    uri = _uri(found.dockerfile)
    results = [_result(each, uri) for each in found.findings]
    properties = {
        "image": found.image,
        "digest": found.digest,
        "dockerfile": found.dockerfile,
        "compressedBytes": found.compressed,
        "wastedBytes": found.wasted,
        "notLookedAt": list(found.unread),
    }
    return write_log(rules, results, properties=properties)


def kind_of(name: str) -> Kind:
    """What a kind of an image's or a Dockerfile's finding is."""
    known: tuple[Mapping[Any, Kind], ...] = (KINDS, DOCKERFILE_RULES)
    return next((kinds[name] for kinds in known if name in kinds), Kind("warning", name))


def _rule(name: str) -> dict[str, Any]:
    kind = kind_of(name)
    score = _SCORES.get(kind.severity)
    tags = ["container-image", "security" if score else "size" if kind.wasted else "build"]
    return {
        "id": name,
        "shortDescription": {"text": text_of(f"{kind.what[0].upper()}{kind.what[1:]}")},
        "help": {"text": text_of(kind.what)},
        "defaultConfiguration": {"level": kind.severity},
        "properties": {"tags": tags, **({"security-severity": score} if score else {})},
    }


def _result(each: Advice, uri: str) -> dict[str, Any]:
    size = f"{size_text(each.compressed)}: " if each.compressed else ""
    layers = f" (layer {', '.join(map(str, each.layers))})" if each.layers else ""
    return {
        "ruleId": each.kind,
        "level": each.severity,
        "message": {"text": text_of(f"{size}{each.why}{layers}. {each.do}")},
        "locations": [_location(each, uri)],
        "partialFingerprints": fingerprint(each.kind, *each.examples[:1]),
        "properties": {
            "compressedBytes": each.compressed,
            "unpackedBytes": each.size,
            "layers": list(each.layers),
            "examples": list(each.examples),
        },
    }


def _location(each: Advice, uri: str) -> dict[str, Any]:
    match = _IN_IMAGE.match(each.examples[0]) if each.examples and not (uri and each.line) else None
    if uri:
        physical = {"artifactLocation": {"uri": uri}, "region": {"startLine": each.line or 1}}
    else:
        path = quote(match["path"]) if match else "."
        physical = {
            "artifactLocation": {"uri": path},
            "region": {"startLine": int((match and match["line"]) or 0) or 1},
        }
    logical = [{"fullyQualifiedName": match["path"], "kind": "resource"}] if match else []
    return {"physicalLocation": physical, **({"logicalLocations": logical} if logical else {})}


def _uri(path: str) -> str:
    """Relative to the folder one is in, where pages look for it; else as it is."""
    if not path:
        return ""
    absolute, here = Path(path).absolute(), Path.cwd()
    return quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else Path(path)))
