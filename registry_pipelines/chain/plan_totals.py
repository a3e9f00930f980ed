"""The sums of a retention plan as tables: bytes before and after, by team, repository and rule."""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.chain.result import Scalar
from registry_pipelines.collect.plan import RetentionPlan

TABLES = {"teams": "team", "repositories": "repository", "rules": "rule"}
"""Name of a table, and what its rows are sums of."""

MOST = 200
"""Rows of a table, those that free most; the saved plan has all."""


def totals_tables(plan: RetentionPlan) -> dict[str, Sequence[dict[str, Scalar]]]:
    """By name the tables that have rows: what a person reads, and what a plot is drawn from."""
    tables = {name: totals_table(plan, of) for name, of in TABLES.items()}
    return {name: rows for name, rows in tables.items() if rows}


def totals_table(plan: RetentionPlan, of: str) -> list[dict[str, Scalar]]:
    """Rows of one kind: ``of`` (the name), ``images``, ``going``, ``bytes_before``, ``bytes_after``, ``freed_bytes``.
    Of rules what goes by each alone, for no rule holds anything."""
    held = of != "rule"
    found = sorted((each for each in plan.totals if each.of == of), key=lambda each: (-each.freed, each.name))
    return [
        {
            of: each.name,
            "images": each.images,
            "going": each.going,
            **({"bytes_before": each.before, "bytes_after": each.after} if held else {}),
            "freed_bytes": each.freed,
        }
        for each in found[:MOST]
    ]
