"""What the configuration says of numbers: who is told, and of what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.measures import NAMESPACE
from registry_pipelines.settings import Duration, Names, Pattern, Secret, Size

Destination = Literal["prometheus", "cloudwatch", "monitoring", "otlp"]
SPACE = Pattern(r"^(?!AWS/)[A-Za-z0-9_./#-]{1,255}$", "a namespace of CloudWatch", "use letters, digits and _ . / # -")
COLLECTOR = Pattern(r"^https?://[^\s/@]+(/\S*)?$", "the address of a collector", "write http(s)://HOST:4318")
HEADER = Pattern(r"^[A-Za-z0-9-]{1,64}$", "the name of a header", "use letters, digits and -")


class CloudWatchMetrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in CloudWatch."""

    registry: Annotated[str, Names("registries")]
    """A registry of kind `ecr`: its account, region and log-in are taken."""
    namespace: Annotated[str, SPACE] = NAMESPACE
    """Of the metrics."""


class MonitoringMetrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in Cloud Monitoring."""

    registry: Annotated[str, Names("registries")]
    """A registry of kind `gar`: its project and log-in are taken."""


class OtlpMetrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A collector of OpenTelemetry (extra `otel`)."""

    url: Annotated[str, COLLECTOR]
    """Its address; `/v1/metrics` is put behind one that has no path."""
    headers: dict[Annotated[str, HEADER], Secret] = {}
    """Sent along: a token, as `${VARIABLE}`."""


class Alerts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the alert rules that are written for Prometheus; ages have theirs where they are declared."""

    bytes: tuple[Size, ...] = (Size(100 * 10**9), Size(500 * 10**9))
    """Of a registry, a rule for each: the greatest is critical."""


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers about registries, and who is told (docs/metrics.md)."""

    to: tuple[Destination, ...] = ()
    """Who is told by `report metrics` and by the asset `metrics`."""
    registries: tuple[Annotated[str, Names("registries")], ...] = ()
    """Registries that are counted; those with a nightly inventory unless told, and all where none has one."""
    repositories: Annotated[int, Meta(ge=1, le=5000)] = 200
    """Of each registry, so many of the largest repositories are told by name; the rest together, as `(others)`."""
    inventory_age: Duration = Duration(hours=26)
    """A kept inventory that is older is taken again."""
    file: Path | None = None
    """For `prometheus`: the file that the node exporter's textfile collector reads; it ends in `.prom`."""
    cloudwatch: CloudWatchMetrics | None = None
    """For `cloudwatch`."""
    monitoring: MonitoringMetrics | None = None
    """For `monitoring`."""
    otlp: OtlpMetrics | None = None
    """For `otlp`."""
    alerts: Alerts = Alerts()
    """Bounds of alert rules."""


def problems(settings: MetricsSettings, kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What does not go together, by its place in the configuration. kinds: of registries, by name."""
    where = "report.metrics"
    for each in settings.to:
        if each != "prometheus" and getattr(settings, each) is None:
            yield f"{where}.to", f"names {each}, and `{each}` says nothing of where that is"
    if "prometheus" in settings.to and settings.file is None:
        yield f"{where}.to", "names prometheus, and `file` is missing; a scrape needs `report metrics --listen` alone"
    if settings.file is not None and settings.file.suffix != ".prom":
        yield f"{where}.file", "must end in .prom: the collector reads no other file"
    for name, told, kind in (("cloudwatch", settings.cloudwatch, "ecr"), ("monitoring", settings.monitoring, "gar")):
        if told is not None and kinds.get(told.registry, kind) != kind:
            yield f"{where}.{name}.registry", f"{told.registry} is of kind {kinds[told.registry]}, and must be {kind}"


__all__ = [
    "Alerts",
    "CloudWatchMetrics",
    "Destination",
    "MetricsSettings",
    "MonitoringMetrics",
    "OtlpMetrics",
    "problems",
]
