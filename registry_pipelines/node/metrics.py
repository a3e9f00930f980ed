"""What Prometheus reads of an agent: the status as numbers, over HTTP or in a file for the node exporter.

Names of images are no labels: a node sees new ones every day, and each would be a series for ever; ``node status
--json`` has them. The format is written by ``report.metrics.prometheus``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from registry_pipelines.node.counts import COUNTERS
from registry_pipelines.node.status import NodeStatus, Reporter
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.embedded.http_server import HttpServer
from registry_pipelines.report.metrics import prometheus
from registry_pipelines.report.metrics.prometheus import Family, Labelled

PREFIX = "registry_pipelines_node_"


def exposition(status: NodeStatus) -> str:
    """All numbers of an agent, with what each says."""
    told = (*_gauges(status), *_counters(status))
    return prometheus.text_of(Family(f"{PREFIX}{name}", kind, text, values) for name, kind, text, values in told)


def _gauges(status: NodeStatus) -> Iterator[tuple[str, str, str, list[Labelled]]]:
    mounts = [each for image in status.images for each in image.mounts]
    carriers = {each.carrier for each in mounts}

    def one(name: str, told: str, value: float) -> tuple[str, str, str, list[Labelled]]:
        return name, "gauge", told, [({}, value)]

    yield "info", "gauge", "The agent, by its version.", [({"version": status.version}, 1)]
    yield one("start_time_seconds", "When the agent started, seconds since 1970.", _seconds(status.started))
    yield one("snapshots", "Layers and containers that the agent keeps.", status.snapshots)
    yield one("containers", "Snapshots that containers write to.", status.containers)
    yield one("lazy_images", "Images of which layers are served before they are fetched.", len(status.images))
    lazy_containers = sum(len(each.containers) for each in status.images)
    yield one("lazy_containers", "Containers of such images.", lazy_containers)
    by_carrier: list[Labelled] = [
        ({"carrier": carrier}, sum(each.carrier == carrier for each in mounts)) for carrier in sorted(carriers)
    ]
    yield "mounted", "gauge", "Trees that are mounted now.", by_carrier or [({"carrier": "fuse"}, 0)]
    yield one("waiting_readers", "Reads of containers that wait for a registry now.", sum(m.waiting for m in mounts))
    yield one("mounted_bytes", "Of what is mounted, bytes of all layers' tars.", sum(m.size_bytes for m in mounts))
    yield one("filled_bytes", "Of them, those that are on this node.", sum(m.filled_bytes for m in mounts))
    yield one("draining", "1 while a drain is under way or done, else 0.", status.drain is not None)


def _counters(status: NodeStatus) -> Iterator[tuple[str, str, str, list[Labelled]]]:
    for name, told in COUNTERS.items():
        samples: list[Labelled] = [(each.labels, each.value) for each in status.counters if each.name == name]
        if samples:
            yield f"{name}_total", "counter", told, samples


def _seconds(text: str) -> float:
    moment: datetime | None = read_time(text)
    return moment.timestamp() if moment else 0


def metrics_server(address: str, now: Callable[[], NodeStatus]) -> HttpServer:
    """A server of ``/metrics``, not started. Raises InputError."""
    return prometheus.metrics_server(address, lambda: exposition(now()))


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
    prometheus.check_file(path)

    def write(status: NodeStatus) -> None:
        prometheus.write_text(path, exposition(status))

    write(reporter.now())
    reporter.told.append(write)
    try:
        yield
    finally:
        reporter.told.remove(write)
        path.unlink(missing_ok=True)


__all__ = ["exposition", "metrics_of", "metrics_server"]
