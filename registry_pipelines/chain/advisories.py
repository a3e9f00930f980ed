"""Advisories over a configuration: which are used, and what is said before a scan is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import registry_pipelines
from registry_pipelines.config import Config
from registry_pipelines.errors import AdvisoriesMissing
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text
from registry_pipelines.scan.report import Report

BUNDLED_ADVISORIES = "pypa-advisories-*.tar.gz"
"""The advisory set that comes with the package, below its ``data`` folder; named by its date, the newest counts."""

UPDATE = "Run `registry-pipelines advisories update`, then scan again"
LOAD = "Load newer ones (`advisories.source`, `--advisories`), then scan again"


def advisory_source(config: Config) -> Path:
    """Where advisories come from: the configuration's source, or the set that comes with the package."""
    return config.advisories.source or bundled_advisories()


def bundled_advisories() -> Path:
    """The newest advisory set that comes with the package. Raises AdvisoriesMissing."""
    folder = Path(registry_pipelines.__file__).parent / "data"
    sets = sorted(folder.glob(BUNDLED_ADVISORIES))
    if not sets:
        raise AdvisoriesMissing("no advisory set comes with this installation", do="Set advisories.source")
    return sets[-1]


def alerts_about(report: Report, *, max_age: timedelta, now: datetime, own_source: bool = False) -> list[str]:
    """What a scan is not worth reading without: that the advisories are old, or say nothing about packages that are
    there. max_age: what the policy permits. own_source: whether they are of ``advisories.source``."""
    do = LOAD if own_source else UPDATE
    alerts = []
    newest = read_time(report.advisories.newest, zone=UTC)
    if newest is not None and now - newest > max_age:
        snapshot = fnmatchcase(report.advisories.source, BUNDLED_ADVISORIES)
        what = "The advisories are the snapshot that comes with the package, for the demonstration" if snapshot else ""
        days = count_text((now - newest).days, "day")
        alerts.append(
            f"{what or 'The advisories are old'}: the newest is of {newest:%Y-%m-%d}, {days} ago, and what was found "
            f"since is not in this scan. {do}"
        )
    if report.lacking:
        packages = [f"{name} ({count_text(count, 'package')})" for name, count in sorted(report.lacking.items())]
        alerts.append(f"No advisories are there for {', '.join(packages)}: nothing is known about them. {do}")
    return alerts
