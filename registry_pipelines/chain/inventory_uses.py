"""What an inventory is good for: what changed since an older one, and what storage costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.report.prices import FilePrices
from registry_pipelines.report.storage import stored

if TYPE_CHECKING:
    from registry_pipelines.inventory.value import Inventory

MAX_ROWS = 200
"""Of a table of changes or costs; the counts and sums have all of them."""


def with_changes(result: StageResult, before: Inventory, after: Inventory) -> StageResult:
    """The result of an inventory with what changed since an older one: ``tables["changes"]``, and the facts ``new``,
    ``gone`` and ``moved``. What one of the two could not read is in none of these, and a note."""
    from registry_pipelines.inventory.compare import compare

    changes, left = compare(before, after)
    counts = Counter(each.what for each in changes)
    facts: dict[str, Scalar] = {
        "new": counts["new"],
        "gone": counts["gone"],
        "moved": counts["tag moved"],
        "bytes_gone": sum(each.size_bytes for each in changes if each.what == "gone"),
    }
    return replace(
        result,
        facts={**result.facts, **facts},
        tables={**result.tables, "changes": [each._asdict() for each in changes[:MAX_ROWS]]},
        notes=[*result.notes, *(f"{each}: not compared, for one of the two has not read it" for each in left)],
    )


def with_costs(result: StageResult, inventory: Inventory, *, prices: Path | None = None) -> StageResult:
    """The result of an inventory with what its storage costs a month: ``tables["costs"]`` by repository, the dearest
    first, and the fact ``usd_per_month``. prices: a price book; the package's unless told. Raises InputError."""
    book = FilePrices(prices)
    grouped = inventory.frame.groupby(["registry", "repository"], observed=True)["size_bytes"].sum()
    sizes = {(str(registry), str(repository)): int(size) for (registry, repository), size in grouped.items()}
    costs = stored(sizes, {each.registry: each.kind for each in inventory.sources}, book)
    rows: list[dict[str, Scalar]] = [
        {
            "registry": each.registry,
            "repository": each.repository,
            "size_bytes": each.size_bytes,
            "usd_per_month": round(each.usd, 2),
        }
        for each in costs[:MAX_ROWS]
    ]
    billed = sorted({each.registry for each in costs})
    free = [each.registry for each in inventory.sources if each.registry not in billed and each.images]
    notes = [
        f"costs are at most these: layers that images share are billed once; prices ({book.currency}) of {book.date}, "
        f"{book.source}"
    ]
    notes += [f"{name}: no cloud bills its storage by the GB" for name in free]
    return replace(
        result,
        facts={**result.facts, "usd_per_month": round(sum(each.usd for each in costs), 2)},
        tables={**result.tables, "costs": rows},
        notes=[*result.notes, *notes],
    )
