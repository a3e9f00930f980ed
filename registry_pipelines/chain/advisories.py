"""Advisories over a configuration: which are used, and what is said before a scan is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import registry_pipelines
from registry_pipelines.config import Advisories, Config
from registry_pipelines.errors import AdvisoriesMissing
from registry_pipelines.oci.times import CLOCK_SKEW, read_time
from registry_pipelines.progress import count_text
from registry_pipelines.scan.advisory_sets import current_set
from registry_pipelines.scan.report import AdvisoryFacts, Report

BUNDLED_ADVISORIES = "pypa-advisories-*.tar.gz"
"""The advisory set that comes with the package, below its ``data`` folder; named by its date, the newest counts."""

UPDATE = "Run `registry-pipelines advisories update`, then scan again"
LOAD = "Load newer ones (`advisories.source`, `--advisories`), then scan again"
IMPORT = "Bring newer ones from another machine (`registry-pipelines advisories import FILE`), then scan again"


def advisory_source(state: Path, own: Path | None = None) -> Path:
    """Where advisories come from: ``own`` (``advisories.source``), else the set that was fetched or imported into the
    state folder, else the one that comes with the package. Raises AdvisoriesMissing for a damaged set."""
    if own is not None:
        return own
    chosen = current_set(state)
    return chosen.folder if chosen else bundled_advisories()


def bundled_advisories() -> Path:
    """The newest advisory set that comes with the package. Raises AdvisoriesMissing."""
    folder = Path(registry_pipelines.__file__).parent / "data"
    sets = sorted(folder.glob(BUNDLED_ADVISORIES))
    if not sets:
        raise AdvisoriesMissing("no advisory set comes with this installation", do="Set advisories.source")
    return sets[-1]


def remedy(config: Config | None) -> str:
    """What gives newer advisories, by how the configuration says they come."""
    settings = config.advisories if config else Advisories()
    if settings.source is not None:
        return LOAD
    return UPDATE if settings.feed is not None else IMPORT


def alerts_about(report: Report, *, max_age: timedelta, now: datetime, do: str) -> list[str]:
    """What a scan is not worth reading without: that the advisories are old, or say nothing about packages that are
    there. max_age: what the policy permits. do: see :func:`remedy`."""
    alerts = age_alerts(report.advisories, max_age=max_age, now=now, do=do)
    if report.lacking:
        packages = [f"{name} ({count_text(count, 'package')})" for name, count in sorted(report.lacking.items())]
        alerts.append(f"No advisories are there for {', '.join(packages)}: nothing is known about them. {do}")
    return alerts


def age_alerts(facts: AdvisoryFacts, *, max_age: timedelta, now: datetime, do: str) -> list[str]:
    """That advisories are older than ``max_age``, or dated in the future; nothing where they are not."""
    newest = read_time(facts.newest, zone=UTC)
    if newest is not None and newest - now > CLOCK_SKEW:
        return [
            f"The newest advisory is of {newest:%Y-%m-%d}, which is in the future, so nobody knows how old they are: "
            f"the clock of this machine is wrong, or of the one that made them. {do}"
        ]
    if newest is None or now - newest <= max_age:
        return []
    snapshot = fnmatchcase(facts.source, BUNDLED_ADVISORIES)
    what = "are the snapshot that comes with the package, for the demonstration" if snapshot else "are old"
    return [
        f"The advisories {what}: the newest is of {newest:%Y-%m-%d}, {count_text((now - newest).days, 'day')} ago, and "
        f"what was found since is not among them. {do}"
    ]


def strictest_age(config: Config) -> timedelta:
    """What the policy permits that permits least."""
    return min(policy.max_advisory_age for policy in config.policies.values())
