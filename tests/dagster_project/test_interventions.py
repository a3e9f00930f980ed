"""What persons decided beside the policy, in Dagster: listed, and a warning, until it is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.assets.interventions import NONE_OPEN
from dagster_project.definitions import build_definitions
from registry_pipelines.promote.person import Person
from tests.chain.fleet import Fleet, start
from tests.dagster_project.conftest import QUIET

JANE = Person.named("jane", "claimed")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


def looked(fleet: Fleet) -> tuple[dg.AssetCheckEvaluation, dict[str, dg.MetadataValue]]:
    chain = fleet.chain
    job = build_definitions(chain.config, lambda: chain).resolve_job_def("open_interventions")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config=QUIET)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    [made] = result.asset_materializations_for_node("interventions")
    return check, dict(made.metadata)


def test_what_is_open_is_a_warning_until_it_is_closed(fleet: Fleet) -> None:
    check, shown = looked(fleet)
    assert check.check_name == NONE_OPEN and check.passed and shown["open"].value == 0

    bad = fleet.release("v1.0.0", package="badwheel")
    assert not fleet.judged(bad)
    fleet.chain.break_glass(bad, JANE, reason="checkout is down", lasts=timedelta(hours=4))
    for tag in ("v1.0.1", "v1.1.0"):
        gone = fleet.release(tag)
        assert fleet.judged(gone)
        fleet.chain.promote(gone)
    fleet.chain.revoke(gone, JANE, reason="it loses orders")
    check, shown = looked(fleet)
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    assert "BREAK-GLASS app:v1.0.0 by jane: checkout is down" in str(check.description)
    assert "REVOCATION app:v1.1.0 by jane: it loses orders" in str(check.description)
    assert (shown["break_glasses"].value, shown["revocations"].value) == (1, 1)
    rows = shown["rows"]
    assert isinstance(rows, dg.TableMetadataValue) and len(rows.records) == 2
    steps = str(shown["next_steps"].value)
    assert "break-glass close app:v1.0.0" in steps and "revoke --close app:v1.1.0" in steps

    fleet.chain.close_break_glass(bad, JANE, reason="put right")
    fleet.chain.close_revocation(gone, JANE, reason="all told")
    check, shown = looked(fleet)
    assert check.passed and shown["open"].value == 0
