"""Alert rules for Prometheus, of the bounds that a configuration has anyway: how old a backup may be, how far behind a
target. Format: "Alerting rules" of Prometheus' documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from registry_pipelines.measures import PREFIX

GROUP = "registry-pipelines"


class Rule(msgspec.Struct, frozen=True):
    """An alert. expression: PromQL. minutes: for which it must hold. told: a sentence; ``{{ $labels.x }}`` in it."""

    name: str
    expression: str
    told: str
    severity: str = "warning"
    minutes: int = 0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration allows, in seconds by name; bytes: of a registry."""

    bytes: tuple[int, ...] = ()
    backups: dict[str, float] = {}
    mirrors: dict[str, float] = {}
    targets: dict[str, float] = {}
    advisories_s: float = 0
    inventory_s: float = 50 * 3600
    drill_s: float = 15 * 86_400
    silent_s: float = 2 * 3600
    """Since the last collection."""


def above(measure: str, bound: float, **labels: str) -> str:
    """That a measure is greater than a bound."""
    chosen = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
    number = int(bound) if bound == int(bound) else bound
    return f"{PREFIX}_{measure}{f'{{{chosen}}}' if chosen else ''} > {number}"


def rules(bounds: Bounds) -> list[Rule]:
    """The rules that hold a configuration's bounds."""
    found = [
        Rule(
            "RegistryBytes",
            above("registry_bytes", size),
            f"{{{{ $labels.registry }}}} holds more than {size}",
            "critical" if size == max(bounds.bytes) else "warning",
            30,
        )
        for size in sorted(bounds.bytes)
    ]
    for what, measure, label, ages in (
        ("Backup", "backup_age_seconds", "backup", bounds.backups),
        ("Mirror", "mirror_age_seconds", "mirror", bounds.mirrors),
        ("Replication", "replication_lag_seconds", "target", bounds.targets),
    ):
        found += [
            Rule(
                f"{what}Late",
                above(measure, age_s, **{label: name}),
                f"{{{{ $labels.{label} }}}} is behind by {{{{ $value | humanizeDuration }}}}",
                "critical" if what == "Backup" else "warning",
            )
            for name, age_s in ages.items()
        ]
    if bounds.backups:
        found += [
            Rule("DrillOld", above("drill_age_seconds", bounds.drill_s), "{{ $labels.backup }} was not drilled"),
            Rule("DrillFailed", above("drill_failed", 0), "the last drill of {{ $labels.backup }} failed", "critical"),
        ]
    if bounds.advisories_s:
        told = "the newest advisory is {{ $value | humanizeDuration }} old"
        found.append(Rule("AdvisoriesOld", above("advisories_age_seconds", bounds.advisories_s), told))
    outcomes = "revoked|break-glass"
    return [
        *found,
        Rule(
            "ReleaseAgainstPolicy",
            f'{PREFIX}_verdicts{{outcome=~"{outcomes}"}} > 0',
            "a channel of {{ $labels.image }} names a release that is {{ $labels.outcome }}",
        ),
        Rule(
            "InventoryOld",
            above("inventory_age_seconds", bounds.inventory_s),
            "what {{ $labels.registry }} holds was last read {{ $value | humanizeDuration }} ago",
        ),
        Rule("SourceFailed", above("source_failed", 0), "{{ $labels.source }} could not be read", minutes=120),
        Rule(
            "MetricsStopped",
            f"absent({PREFIX}_collected_timestamp_seconds) == 1 or "
            f"time() - {PREFIX}_collected_timestamp_seconds > {bounds.silent_s:g}",
            "nobody counts registries any more",
            "critical",
            15,
        ),
    ]


def document(several: Iterable[Rule]) -> dict[str, Any]:
    """Rules as a file of Prometheus."""
    written = [
        {
            "alert": each.name,
            "expr": each.expression,
            **({"for": f"{each.minutes}m"} if each.minutes else {}),
            "labels": {"severity": each.severity},
            "annotations": {"summary": each.told},
        }
        for each in several
    ]
    return {"groups": [{"name": GROUP, "rules": written}]}


__all__ = ["Bounds", "Rule", "above", "document", "rules"]
