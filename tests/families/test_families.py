"""Every family of registries against what its table says: what works, what does not and how that is said."""

from __future__ import annotations

import re

import pytest

from tests.doubles.families import FAMILIES, Family
from tests.doubles.families.table import SOURCE_STAGES, TARGET_STAGES, Cell
from tests.families.report import Report, run
from tests.families.stages import ACTS


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run(request.param, tmp_path_factory.mktemp(request.param.name))


def test_every_stage_ends_as_the_table_says(report: Report) -> None:
    wrong = []
    for (role, stage), outcome in report.cells.items():
        table = report.family.source if role == "source" else report.family.target
        expected = table.get(stage, Cell("")).error
        if outcome.error != expected:
            wrong.append(f"{role} {stage}: {outcome.error or 'done'}, not {expected or 'done'}: {outcome.said}")
    assert not wrong, "\n".join(wrong)


def test_what_a_family_refuses_is_said_clearly(report: Report) -> None:
    assert {name: outcome.said for name, outcome in report.checks.items() if outcome.error} == {}


def test_every_row_of_the_table_is_met(report: Report) -> None:
    assert not report.unplayed
    assert not report.met, "rows that say that our client never does this"


def test_no_password_goes_to_another_host(report: Report) -> None:
    assert not report.strangers


def test_what_is_found_by_trying_is_what_the_table_says(report: Report) -> None:
    assert {name: value for name, value in report.finds.items() if name in report.family.finds} == report.family.finds


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_row_says_where_it_is_from(family: Family) -> None:
    names = [row.name for row in family.rows]
    assert len(names) == len(set(names))
    for row in family.rows:
        assert row.situation and row.handling and len(row.source) > 5, row.name
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", row.date), row.name


def test_every_cell_has_an_act() -> None:
    assert set(ACTS) == {("source", each) for each in SOURCE_STAGES} | {("target", each) for each in TARGET_STAGES}
