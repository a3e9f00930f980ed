"""Prometheus' text format: written, served over HTTP, and kept in a file for the node exporter.

Format: "Text-based format" 0.0.4 of Prometheus' documentation (exposition formats). A file is replaced whole: the
collector (``--collector.textfile.directory``) may read at any time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.measures import MEASURES, PREFIX
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.http_server import HttpServer
from registry_pipelines.report.metrics.model import Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
MAX_CONNECTIONS = 32
"""A scraper has one or two."""

Labelled = tuple[Mapping[str, str], float]


class Family(msgspec.Struct, frozen=True):
    """All values of one name. kind: ``gauge`` or ``counter``, whose name ends in ``_total``. told: its help."""

    name: str
    kind: str
    told: str
    values: list[Labelled]


def text_of(families: Iterable[Family]) -> str:
    """Families as Prometheus reads them."""
    lines: list[str] = []
    for family in families:
        lines += [f"# HELP {family.name} {_escaped(family.told)}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.values]
    return "\n".join(lines) + "\n"


def families_of(samples: Iterable[Sample]) -> list[Family]:
    """Samples by name. Their times are not told: Prometheus takes a number as one of its own time, and calls it stale
    five minutes after it was last there."""
    found: dict[str, list[Labelled]] = defaultdict(list)
    for each in samples:
        found[each.name].append((each.labels, each.value))
    return [Family(f"{PREFIX}_{name}", "gauge", MEASURES[name].told, values) for name, values in found.items()]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    told: Iterable[str] = (f'{name}="{_escaped(value, quotes=True)}"' for name, value in sorted(labels.items()))
    return "{" + ",".join(told) + "}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, of IPv6 in brackets; port 0 for a free one. Raises InputError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InputError(f"{text!r} is no address to listen on", do="Write host and port, as 127.0.0.1:9464")
    return host.removeprefix("[").removesuffix("]"), int(port)


def metrics_server(address: str, text: Callable[[], str]) -> HttpServer:
    """A server of ``/metrics``, not started; it tells nothing secret, and takes nothing. text: what it answers, called
    for each scrape. Raises InputError."""
    host, port = parse_address(address)

    def answer(request: Request) -> Response:
        if request.path not in (PATH, "/healthz"):
            return Response(404, [("Content-Type", "text/plain")], f"numbers are at {PATH}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return Response(405, [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")], b"only GET\n")
        content = text() if request.path == PATH else "ok\n"
        return Response(200, [("Content-Type", CONTENT_TYPE)], content.encode())

    return HttpServer(answer, host=host, port=port, max_connections=MAX_CONNECTIONS)


def check_file(path: Path) -> None:
    """Raises InputError for a file that the node exporter's collector would not read."""
    if path.suffix != ".prom":
        raise InputError("the collector reads no such file", where=str(path), do="Let its name end with .prom")


def write_text(path: Path, text: str) -> None:
    """Replace a file of the collector, whole or not at all. Raises InputError, LocalError."""
    check_file(path)
    with local_errors(path.parent):
        write_file(path, text.encode(), lasting=False)


__all__ = [
    "CONTENT_TYPE",
    "Family",
    "check_file",
    "families_of",
    "metrics_server",
    "parse_address",
    "text_of",
    "write_text",
]
