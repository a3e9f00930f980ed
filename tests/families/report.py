"""All that is tried with one family, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.errors import (
    RegistryPipelinesError,
)
from tests.doubles.families import Family
from tests.doubles.families.table import SOURCE_STAGES, TARGET_STAGES, Cell, Stage
from tests.families.matrix import Matrix
from tests.families.refusals import CHECKS
from tests.families.stages import ACTS


@dataclass
class Outcome:
    """What came of a stage. error: the class's name, empty when all was as it must be."""

    error: str = ""
    said: str = ""


@dataclass
class Report:
    """What a family did. cells: by role and stage, without those that were not tried."""

    family: Family
    cells: dict[tuple[str, Stage], Outcome] = field(default_factory=dict)
    checks: dict[str, Outcome] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    """Rows that our client should never meet, and did."""
    unplayed: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    finds: dict[str, bool | None] = field(default_factory=dict)


def run(family: Family, folder: Path) -> Report:
    """Every cell of a family's two rows, and which of its table's rows were never played."""
    report = Report(family)
    with Matrix(family, folder) as matrix:
        for role, stages, expected in (
            ("source", SOURCE_STAGES, family.source),
            ("target", TARGET_STAGES, family.target),
        ):
            for stage in stages:
                cell = expected.get(stage, Cell(""))
                if cell.why and not (cell.error or cell.lost):
                    continue
                report.cells[role, stage] = _try(ACTS[role, stage], matrix)
        for check in CHECKS:
            report.checks[check.__name__] = _try(check, matrix)
        report.met = {row.name for row in family.rows if row.provoke and matrix.server.hits[row.name]}
        for row in family.rows:
            matrix.provoke(row)
        found = matrix.here.capabilities(matrix.name("signed"))
        report.finds = {name: getattr(found, name) for name in ("referrers_api", "chunked_upload", "range_reads")}
        report.unplayed = [row.name for row in family.rows if not matrix.server.hits[row.name]]
        report.strangers = matrix.server.second.strangers
    return report


def _try(act: Callable[[Matrix], None], matrix: Matrix) -> Outcome:
    try:
        act(matrix)
    except (RegistryPipelinesError, AssertionError) as error:
        return Outcome(type(error).__name__, str(error)[:1500])
    return Outcome()
