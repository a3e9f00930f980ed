"""Samples as OpenTelemetry takes them: requests of OTLP over HTTP, in Protocol Buffers.

Format: OTLP 1.x, ``ExportMetricsServiceRequest`` to the path ``/v1/metrics``. Needs the extra ``otel``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from registry_pipelines import __version__
from registry_pipelines.errors import ContentError, ToolMissing
from registry_pipelines.measures import MEASURES, PREFIX
from registry_pipelines.report.metrics.model import Sample

PATH = "/v1/metrics"
CONTENT_TYPE = "application/x-protobuf"
MOST_POINTS = 2000
"""Of one request: below the 4 MB that collectors take unless they are told otherwise."""
UNITS = {"bytes": "By", "count": "1", "seconds": "s"}


def requests_of(samples: Sequence[Sample]) -> list[bytes]:
    """The body of each request. Raises ToolMissing without the extra."""
    return [_request(samples[at : at + MOST_POINTS]) for at in range(0, len(samples), MOST_POINTS)]


def refused(answer: bytes) -> str:
    """What a collector did not take of a request it answered; empty where it took all. Raises ContentError for an
    answer that is none of OTLP."""
    from google.protobuf.message import DecodeError

    try:
        told = _service().ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError as error:
        raise ContentError("the collector's answer is none of OTLP") from error
    if not told.rejected_data_points:
        return ""
    return f"{told.rejected_data_points} points were rejected: {told.error_message[:200]}"


def _service() -> Any:
    try:
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
    except ImportError as error:
        do = "Install it: pip install 'registry-pipelines[otel]'"
        raise ToolMissing("opentelemetry-proto is not installed; OTLP needs it", do=do) from error
    return metrics_service_pb2


def _request(samples: Sequence[Sample]) -> bytes:
    made = _service().ExportMetricsServiceRequest()
    resource = made.resource_metrics.add()
    attribute = resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", PREFIX.replace("_", "-")
    scope = resource.scope_metrics.add()
    scope.scope.name, scope.scope.version = PREFIX, __version__
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for each in samples:
        by_name[each.name].append(each)
    for name, several in by_name.items():
        metric = scope.metrics.add()
        metric.name, metric.unit = f"{PREFIX}.{name}", UNITS[MEASURES[name].unit]
        metric.description = MEASURES[name].told
        for each in several:
            point = metric.gauge.data_points.add()
            point.as_double, point.time_unix_nano = each.value, int(each.time.timestamp() * 1e9)
            for label, value in each.labels.items():
                own = point.attributes.add()
                own.key, own.value.string_value = label, value
    content: bytes = made.SerializeToString()
    return content


__all__ = ["CONTENT_TYPE", "PATH", "refused", "requests_of"]
