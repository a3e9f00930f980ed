"""Dashboards for Grafana, CloudWatch and Cloud Monitoring, made from one table of panels.

Sources: Grafana's "Dashboard JSON model"; "Dashboard body structure and syntax" of CloudWatch's API reference; the type
Dashboard of google-cloud-monitoring-dashboards 3.2, whose charts here ask in PromQL.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from registry_pipelines.measures import CUSTOM, MEASURES, NAMESPACE, PREFIX, camel

TITLE = "Registries"
UID = "registry-pipelines"
WIDTH, HEIGHT = 12, 8
"""Of a panel, in Grafana's and CloudWatch's grid of 24 columns: two beside each other."""
PERIOD_S = 3600
"""Of a point in CloudWatch: numbers come every half an hour."""

Json = dict[str, Any]


class Panel(msgspec.Struct, frozen=True):
    """A picture: a measure's series, one line for each value of ``by``. how: what is told of several with one value."""

    title: str
    measure: str
    by: tuple[str, ...]
    how: str = "max"

    @property
    def unit(self) -> str:
        """Of its numbers."""
        return MEASURES[self.measure].unit


PANELS = (
    Panel("Stored bytes by registry", "registry_bytes", ("registry",)),
    Panel("Stored bytes by repository", "repository_bytes", ("registry", "repository")),
    Panel("Images by registry", "registry_images", ("registry",)),
    Panel("Images without a tag", "registry_untagged_images", ("registry",)),
    Panel("Images pulled within a day", "repository_pulled_images", ("registry",), "sum"),
    Panel("Pulls within a day", "repository_pulls", ("registry",), "sum"),
    Panel("Given out within a day", "egress_bytes", ("registry",)),
    Panel("Arrived within a day", "replicated_bytes", ("source", "target")),
    Panel("Replication lag", "replication_lag_seconds", ("image", "target")),
    Panel("From push to arrival", "replication_arrival_seconds", ("image", "target")),
    Panel("Age of mirrors", "mirror_age_seconds", ("mirror", "upstream")),
    Panel("Age of advisories", "advisories_age_seconds", ()),
    Panel("Age of backups", "backup_age_seconds", ("backup",)),
    Panel("Age of restore drills", "drill_age_seconds", ("backup",)),
    Panel("Recovery time in the last drill", "drill_recovery_seconds", ("backup",)),
    Panel("Age of hot packs", "hot_pack_age_seconds", ("image", "channel")),
    Panel("Channels by verdict", "verdicts", ("outcome",), "sum"),
    Panel("Releases that wait", "waiting_releases", ("image", "channel")),
    Panel("Sources that could not be read", "source_failed", ("source",)),
    Panel("Age of inventories", "inventory_age_seconds", ("registry",)),
)


def promql(panel: Panel, metric: str) -> str:
    """The query of a panel. metric: the measure's name there."""
    return f"{panel.how} by ({', '.join(panel.by)}) ({metric})" if panel.by else f"{panel.how}({metric})"


def google_name(measure: str) -> str:
    """A measure in the PromQL of Cloud Monitoring: the first ``/`` of its type is a colon, all else an underscore."""
    domain, _, path = f"{CUSTOM}{measure}".partition("/")
    return f"{domain.replace('.', '_')}:{path.replace('/', '_')}"


def _places() -> list[tuple[Panel, int, int]]:
    """Panels with column and row."""
    return [(panel, at % 2 * WIDTH, at // 2 * HEIGHT) for at, panel in enumerate(PANELS)]


def grafana() -> Json:
    """A dashboard of Grafana 10 and later, over any data source of Prometheus."""
    units = {"bytes": "decbytes", "count": "short", "seconds": "s"}
    source = {"type": "prometheus", "uid": "${datasource}"}
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": panel.title,
            "description": MEASURES[panel.measure].told,
            "datasource": source,
            "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": units[panel.unit], "min": 0}, "overrides": []},
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
            "targets": [
                {
                    "refId": "A",
                    "datasource": source,
                    "expr": promql(panel, f"{PREFIX}_{panel.measure}"),
                    "legendFormat": " ".join(f"{{{{{label}}}}}" for label in panel.by) or panel.title,
                }
            ],
        }
        for number, (panel, x, y) in enumerate(_places(), 1)
    ]
    return {
        "uid": UID,
        "title": TITLE,
        "tags": [UID],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "5m",
        "time": {"from": "now-7d", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus"}]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def cloudwatch(region: str, namespace: str = NAMESPACE) -> Json:
    """The body of a dashboard of CloudWatch; a search finds the series of each measure."""
    units = {"bytes": "bytes", "count": "count", "seconds": "seconds"}
    widgets = []
    for panel, x, y in _places():
        schema = ",".join([f'"{namespace}"', *(camel(label) for label in MEASURES[panel.measure].labels)])
        search = f"SEARCH('{{{schema}}} MetricName=\"{camel(panel.measure)}\"', 'Maximum', {PERIOD_S})"
        expression = f"SUM({search})" if panel.how == "sum" else search
        properties = {
            "title": panel.title,
            "region": region,
            "view": "timeSeries",
            "stacked": False,
            "period": PERIOD_S,
            "metrics": [[{"expression": expression, "id": "e1", "label": ""}]],
            "yAxis": {"left": {"min": 0, "label": units[panel.unit], "showUnits": False}},
        }
        widgets.append({"type": "metric", "x": x, "y": y, "width": WIDTH, "height": HEIGHT, "properties": properties})
    return {"start": "-P7D", "widgets": widgets}


def monitoring() -> Json:
    """A dashboard of Cloud Monitoring; its grid has 48 columns."""
    units = {"bytes": "By", "count": "1", "seconds": "s"}
    tiles = [
        {
            "xPos": x * 2,
            "yPos": y * 2,
            "width": WIDTH * 2,
            "height": HEIGHT * 2,
            "widget": {
                "title": panel.title,
                "xyChart": {
                    "dataSets": [
                        {
                            "timeSeriesQuery": {
                                "prometheusQuery": promql(panel, google_name(panel.measure)),
                                "unitOverride": units[panel.unit],
                            },
                            "plotType": "LINE",
                        }
                    ],
                    "yAxis": {"scale": "LINEAR"},
                },
            },
        }
        for panel, x, y in _places()
    ]
    return {"displayName": TITLE, "mosaicLayout": {"columns": 48, "tiles": tiles}}


def as_file(document: Json) -> bytes:
    """A document as it is written."""
    return (json.dumps(document, indent=2) + "\n").encode()


__all__ = ["PANELS", "as_file", "cloudwatch", "google_name", "grafana", "monitoring", "promql"]
