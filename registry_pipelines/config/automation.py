"""When work runs by itself, and how pushes are noticed."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from registry_pipelines.config.times import Cron, TimeZone
from registry_pipelines.settings import Duration


class Schedules(msgspec.Struct, frozen=True, kw_only=True):
    """When the nightly work runs (cron expressions)."""

    advisories: Cron = Cron("0 1 * * *")
    """The update of the advisories."""
    rescan: Cron = Cron("30 1 * * *")
    """What is in use against the advisories that are there then: `rescan`."""
    sweeps: Cron = Cron("30 2 * * *")
    """The sweeps of `dagster.sweeps`."""
    history: Cron = Cron("40 5 * * *")
    """The removal of old runs and partitions (`dagster.history`)."""
    mirror: Cron = Cron("0 2 * * *")
    """Mirrors and syncs."""
    bundle: Cron = Cron("0 3 * * *")
    """Bundles of mirrors that name a `bundle.folder`, when there is something new."""
    retention: Cron = Cron("30 3 * * *")
    """The retention plan."""
    collect: Cron = Cron("0 6 * * 0")
    """The application of retention plans, where `collect.apply` is `auto`."""
    purge: Cron = Cron("30 5 * * *")
    """The end of quarantines that are over."""
    infra: Cron = Cron("15 4 * * *")
    """What registries in clouds are set to, against `infra`."""
    replication_lag: Cron = Cron("*/30 * * * *")
    """How far copies at targets are behind."""
    events: Cron = Cron("20 * * * *")
    """A look at the queues of `events`: whether each answers, and what failed."""
    inventory: Cron = Cron("0 4 * * *")
    """The inventory of registries in clouds and of those that `retention` names, and who runs what."""
    backup: Cron = Cron("30 2 * * *")
    """Backups."""
    drill: Cron = Cron("0 7 * * 0")
    """Restore drills."""
    failover: Cron = Cron("10 * * * *")
    """A look at each section of `failover`."""
    failover_drill: Cron = Cron("30 7 * * 0")
    """Fail-over drills."""
    report: Cron = Cron("45 4 * * *")
    """Custody of what channels name, and maturity."""
    start_time: Cron = Cron("0 5 * * *")
    """The measurement of starts."""
    audit: Cron = Cron("50 * * * *")
    """The audit: logs are read, and alerts looked for."""
    cost: Cron = Cron("30 4 * * *")
    """What registries cost, for the trend and the budget of `report`."""
    metrics: Cron = Cron("*/30 * * * *")
    """Numbers, for who is told by `report.metrics`."""
    time_zone: TimeZone = TimeZone("UTC")
    """IANA time zone of all."""


class Sensors(msgspec.Struct, frozen=True, kw_only=True):
    """How pushes are noticed."""

    running: bool = False
    """On from the start. Otherwise a person starts them in the UI, on the Automation page."""
    interval: Duration = Duration(seconds=30)
    """How often source registries are asked."""
    max_requests: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Most runs that one look asks for."""
