"""What goes of old runs and partitions: a look, and what was removed."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from dagster_project.history import going, remove
from dagster_project.report import bullets, table
from dagster_project.resources import ChainParam

HISTORY = "history"


class HistoryConfig(dg.Config):
    """What a person may say for one run."""

    apply: Literal["", "look", "auto"] = Field(
        default="", description="`look`: say what would go; `auto`: remove it. As `dagster.history.apply` if empty."
    )


@dg.asset(
    name=HISTORY,
    group_name="collect",
    kinds={"dagster"},
    owners=["team:platform"],
    code_version="1",
    description="Ended runs and partitions that are old enough to go by `dagster.history`, with why; removed where "
    "`apply` is `auto`. No run goes that is under way, or that materialized what an asset or a partition has now. "
    "Evidence is in the registries, and stays.",
)
def history(context: dg.AssetExecutionContext, chain: ChainParam, config: HistoryConfig) -> dg.MaterializeResult[None]:
    """Look, and remove where that is said."""
    settings = chain.config.dagster.history
    found = going(context.instance, chain, settings, datetime.now(UTC))
    applied = (config.apply or settings.apply) == "auto"
    runs, partitions = remove(context.instance, found) if applied else (0, 0)
    days = Counter(f"{datetime.fromtimestamp(ended, UTC):%Y-%m-%d}" for ended in found.runs.values())
    tables: dict[str, list[dict[str, Any]]] = {
        "partitions": [{"partition": key, "why": why} for key, why in found.partitions.items()],
        "runs_by_day": [{"ended": day, "runs": number} for day, number in sorted(days.items())],
        "kept": [{"why": why, "runs": number} for why, number in found.kept.items()],
    }
    return dg.MaterializeResult(
        metadata={
            "old_runs": len(found.runs),
            "old_partitions": len(found.partitions),
            "removed_runs": runs,
            "removed_partitions": partitions,
            "kept_runs": sum(found.kept.values()),
            "applied": applied,
            **({"notes": bullets(found.notes)} if found.notes else {}),
            **{name: table(rows) for name, rows in tables.items() if rows},
        }
    )
