"""What changed in a registry since an older inventory of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar, StageResult

if TYPE_CHECKING:
    from registry_pipelines.inventory.value import Inventory

MAX_ROWS = 200
"""Of a table of changes; the counts have all of them."""


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
