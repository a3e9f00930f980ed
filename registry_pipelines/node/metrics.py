"""What Prometheus reads of an agent: the status as numbers, over HTTP or in a file for the node exporter.

Format: "Text-based format" 0.0.4 of Prometheus' documentation (exposition formats). Names of images are no labels: a
node sees new ones every day, and each would be a series for ever; ``node status --json`` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from registry_pipelines.errors import InputError
from registry_pipelines.node.counts import COUNTERS
from registry_pipelines.node.status import NodeStatus, Reporter
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.http_server import HttpServer

PREFIX = "registry_pipelines_node_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
MAX_CONNECTIONS = 32
"""A scraper has one or two."""

Sample = tuple[Mapping[str, str], float]


def exposition(status: NodeStatus) -> str:
    """All numbers of an agent, with what each says."""
    lines: list[str] = []
    for name, kind, told, samples in (*_gauges(status), *_counters(status)):
        lines += [f"# HELP {PREFIX}{name} {_escaped(told)}", f"# TYPE {PREFIX}{name} {kind}"]
        lines += [f"{PREFIX}{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _gauges(status: NodeStatus) -> Iterator[tuple[str, str, str, list[Sample]]]:
    mounts = [each for image in status.images for each in image.mounts]
    carriers = {each.carrier for each in mounts}

    def one(name: str, told: str, value: float) -> tuple[str, str, str, list[Sample]]:
        return name, "gauge", told, [({}, value)]

    yield "info", "gauge", "The agent, by its version.", [({"version": status.version}, 1)]
    yield one("start_time_seconds", "When the agent started, seconds since 1970.", _seconds(status.started))
    yield one("snapshots", "Layers and containers that the agent keeps.", status.snapshots)
    yield one("containers", "Snapshots that containers write to.", status.containers)
    yield one("lazy_images", "Images of which layers are served before they are fetched.", len(status.images))
    lazy_containers = sum(len(each.containers) for each in status.images)
    yield one("lazy_containers", "Containers of such images.", lazy_containers)
    by_carrier: list[Sample] = [
        ({"carrier": carrier}, sum(each.carrier == carrier for each in mounts)) for carrier in sorted(carriers)
    ]
    yield "mounted", "gauge", "Trees that are mounted now.", by_carrier or [({"carrier": "fuse"}, 0)]
    yield one("waiting_readers", "Reads of containers that wait for a registry now.", sum(m.waiting for m in mounts))
    yield one("mounted_bytes", "Of what is mounted, bytes of all layers' tars.", sum(m.size_bytes for m in mounts))
    yield one("filled_bytes", "Of them, those that are on this node.", sum(m.filled_bytes for m in mounts))
    yield one("draining", "1 while a drain is under way or done, else 0.", status.drain is not None)


def _counters(status: NodeStatus) -> Iterator[tuple[str, str, str, list[Sample]]]:
    for name, told in COUNTERS.items():
        samples: list[Sample] = [(each.labels, each.value) for each in status.counters if each.name == name]
        if samples:
            yield f"{name}_total", "counter", told, samples


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    told: Iterable[str] = (f'{name}="{_escaped(value, quotes=True)}"' for name, value in sorted(labels.items()))
    return "{" + ",".join(told) + "}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _seconds(text: str) -> float:
    moment: datetime | None = read_time(text)
    return moment.timestamp() if moment else 0


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, of IPv6 in brackets; port 0 for a free one. Raises InputError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InputError(f"{text!r} is no address to listen on", do="Write host and port, as 127.0.0.1:9464")
    return host.removeprefix("[").removesuffix("]"), int(port)


def metrics_server(address: str, now: Callable[[], NodeStatus]) -> HttpServer:
    """A server of ``/metrics``, not started; it tells nothing secret, and takes nothing. Raises InputError."""
    host, port = parse_address(address)

    def answer(request: Request) -> Response:
        if request.path not in (PATH, "/healthz"):
            return Response(404, [("Content-Type", "text/plain")], f"numbers are at {PATH}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return Response(405, [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")], b"only GET\n")
        content = exposition(now()) if request.path == PATH else "ok\n"
        return Response(200, [("Content-Type", CONTENT_TYPE)], content.encode())

    return HttpServer(answer, host=host, port=port, max_connections=MAX_CONNECTIONS)


@contextmanager
def metrics_of(reporter: Reporter, *, address: str, file: Path | None) -> Iterator[HttpServer | None]:
    """Tell an agent's numbers while the context lasts: at an address, where it is not empty, and in a file, which goes
    with the agent. Raises InputError, PortTaken, LocalError."""
    with ExitStack() as stack:
        if file is not None:
            stack.enter_context(_kept(reporter, file))
        yield stack.enter_context(metrics_server(address, reporter.now)) if address else None


@contextmanager
def _kept(reporter: Reporter, path: Path) -> Iterator[None]:
    if path.suffix != ".prom":
        raise InputError("the collector reads no such file", where=str(path), do="Let its name end with .prom")

    def write(status: NodeStatus) -> None:
        write_file(path, exposition(status).encode(), lasting=False)

    with local_errors(path.parent):
        write(reporter.now())
    reporter.told.append(write)
    try:
        yield
    finally:
        reporter.told.remove(write)
        path.unlink(missing_ok=True)


__all__ = ["exposition", "metrics_of", "metrics_server", "parse_address"]
