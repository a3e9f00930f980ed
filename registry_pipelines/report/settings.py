"""What the configuration says below ``report``: whose repositories are whose, and what things cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.report.audit.settings import AuditSettings
from registry_pipelines.report.edges import PullEdge
from registry_pipelines.report.metrics.settings import MetricsSettings
from registry_pipelines.settings import FILE, GLOB, NAME, Duration, Names


class PaidScans(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scans that a cloud bills for what is in one registry."""

    repositories: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of the repositories that are scanned."""
    rescans: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    """How often each image is scanned again in a month, where that is billed (ECR enhanced); figures are marked as long
    as nobody says it."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a month may cost, in the currency of the price book; Dagster's check `budget` fails above it."""

    total: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    """All registries."""
    teams: dict[Annotated[str, NAME], Annotated[int, Meta(ge=0, le=10**9)]] = {}
    """Teams of `teams`, each by its name."""


class ReportSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What reports need to know beside the registries (docs/cost.md)."""

    teams: dict[Annotated[str, NAME], tuple[Annotated[str, GLOB], ...]] = {}
    """Patterns of each team's repositories, as `{vision: ['team/vision/*']}`. A repository is of the first team with a
    pattern that it matches; what matches none is nobody's."""
    prices: Annotated[Path, FILE] | None = None
    """Price book of your own (`report prices --refresh` writes one); that of the package unless told."""
    edges: dict[Annotated[str, NAME], PullEdge] = {}
    """Who pulls from where: nodes of a region, and the way of their layers (docs/cost.md)."""
    prices_old_after: Duration = Duration(days=180)
    """Age from which a price is called old wherever a figure rests on it."""
    metrics: MetricsSettings = MetricsSettings()
    """Numbers for programs that draw and alarm."""
    scans: dict[Annotated[str, Names("registries")], PaidScans] = {}
    """Registries in clouds whose scans are billed: ECR enhanced (found by itself where `infra` declares it), Artifact
    Analysis."""
    manifests: Literal["auto", "all"] = "auto"
    """Which manifests `report cost` reads in clouds to know what is shared. `all`: every one, which ECR counts as a
    pull of each image unless our role is excluded. `auto`: all of an ECR whose `infra` declares `pull_time_exclusions`,
    else those of indexes."""
    budget: Budget = Budget()
    """What a month may cost."""
    least_tier: Annotated[int, Meta(ge=0, le=4)] = 0
    """Tier of practice that every registry and image must have (docs/maturity.md): below it `report maturity` ends with
    3, and the check of the asset fails."""
    audit: AuditSettings = AuditSettings()
    """Logs of who did what, and who may (docs/audit.md)."""


__all__ = ["Budget", "PaidScans", "ReportSettings"]
