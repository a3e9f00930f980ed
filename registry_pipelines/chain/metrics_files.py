"""Dashboards and alert rules of a configuration, as files. Nothing is asked."""

from __future__ import annotations

from registry_pipelines.chain.advisories import strictest_age
from registry_pipelines.chain.session import Session
from registry_pipelines.config.clouds import EcrRegistry
from registry_pipelines.measures import NAMESPACE
from registry_pipelines.report.metrics import dashboards
from registry_pipelines.report.metrics.rules import Bounds, document, rules

REGION = "us-east-1"
"""Of CloudWatch's dashboard where the configuration names no registry of AWS."""


def files(session: Session) -> dict[str, bytes]:
    """Content by name: Grafana's dashboard, CloudWatch's body, Cloud Monitoring's dashboard, and Prometheus' rules."""
    import yaml

    settings = session.config.report.metrics.cloudwatch
    ecr = [each for each in session.config.registries.values() if isinstance(each, EcrRegistry)]
    named = [each for each in ecr if settings is not None and each.name == settings.registry] or ecr
    region = named[0].region if named else REGION
    namespace = settings.namespace if settings else NAMESPACE
    written = yaml.safe_dump(document(rules(bounds(session))), sort_keys=False, width=200)
    return {
        "grafana.json": dashboards.as_file(dashboards.grafana()),
        "cloudwatch.json": dashboards.as_file(dashboards.cloudwatch(region, namespace)),
        "monitoring.json": dashboards.as_file(dashboards.monitoring()),
        "rules.yaml": written.encode(),
    }


def bounds(session: Session) -> Bounds:
    """What the configuration allows."""
    config = session.config
    return Bounds(
        bytes=tuple(config.report.metrics.alerts.bytes),
        backups={name: each.objectives.rpo.total_seconds() for name, each in config.backups.items()},
        mirrors={name: each.max_age.total_seconds() for name, each in config.mirrors.items() if each.upstreams},
        targets={name: each.max_lag.total_seconds() for name, each in config.targets.items()},
        advisories_s=strictest_age(config).total_seconds() if config.images else 0,
    )


__all__ = ["bounds", "files"]
