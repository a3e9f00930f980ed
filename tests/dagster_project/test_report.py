"""What Dagster shows of a result."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import dagster as dg
import pytest

from dagster_project.report import (
    MAX_RETRIES,
    MAX_TABLE_ROWS,
    OUTCOME_TAG,
    facts,
    materialized,
    refusals,
    stacked,
    succeeded,
    table,
)
from registry_pipelines.chain import StageResult
from registry_pipelines.errors import EvidenceMissing, PromotionDenied, QuotaSpent, RateLimited, Unavailable

DIGEST = "sha256:" + "a" * 64


def result(**more: object) -> StageResult:
    return StageResult(**{"stage": "sbom", "subject": "x", "action": "written", "digest": DIGEST, **more})  # type: ignore[arg-type]


@pytest.fixture
def step() -> Iterator[dg.AssetExecutionContext]:
    """What a step in its last attempt asks its context for."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
        yield cast(dg.AssetExecutionContext, SimpleNamespace(instance=instance, run=run, retry_number=MAX_RETRIES))


def outcome(step: dg.AssetExecutionContext) -> str | None:
    run = step.instance.get_run_by_id(step.run.run_id)
    return run.tags.get(OUTCOME_TAG) if run else None


def test_numbers_have_stable_names_and_the_digest_is_the_data_version() -> None:
    told = materialized(result(bytes_moved=7, seconds=1.23456, changed=True, facts={"components": 3}))
    assert told.metadata == {
        "components": 3,
        "action": "written",
        "digest": DIGEST,
        "changed": True,
        "bytes_moved": 7,
        "seconds": 1.235,
    }
    assert told.data_version == dg.DataVersion(DIGEST)


def test_large_numbers_of_bytes_stand_in_words_too() -> None:
    told = materialized(result(bytes_moved=3 << 20, facts={"image_bytes": 5 << 30, "index_bytes": 7})).metadata
    assert told["sizes"] == "image 5.0 GiB, moved 3.0 MiB"


def test_a_result_without_digest_has_no_data_version() -> None:
    assert materialized(result(digest="")).data_version is None


def test_a_table_is_cut_and_says_how_long_it_was() -> None:
    shown = facts(result(rows=[{"package": f"p{number}", "score": 9.8} for number in range(200)]))
    assert len(shown["rows"].records) == MAX_TABLE_ROWS
    assert shown["row_count"] == 200


def test_rows_with_different_columns_become_one_table() -> None:
    """Dagster refuses a table whose rows differ."""
    records = table([{"a": 1}, {"b": "x"}]).records
    assert [dict(record.data) for record in records] == [{"a": 1, "b": ""}, {"a": "", "b": "x"}]


def test_further_tables_have_their_names_and_people_read_sizes_and_digests() -> None:
    rows = [{"target": "eu", "bytes": 3 * 1024**2, "digest": DIGEST, "count": 3}]
    shown = facts(result(tables={"targets": rows, "images": []}))
    assert (shown["targets_rows"], shown["images_rows"], "images" in shown) == (1, 0, False)
    [record] = shown["targets"].records
    assert record.data == {
        "target": "eu",
        "bytes": "3.0\N{NO-BREAK SPACE}MiB",
        "digest": "sha256:aaaaaaaaaaaa",
        "count": 3,
    }


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    rows = [{"target": "eu-west-1", "sent": 60, "known": 20}, {"target": "gcp", "sent": 0, "known": 40}]
    drawn = stacked(rows, "target", {"sent": ("#", "sent"), "known": (".", "known")}).value.splitlines()
    assert drawn[1] == f"eu-west-1  {'#' * 24}{'.' * 8}  80 B"
    assert drawn[2] == f"gcp        {'.' * 16}{' ' * 16}  40 B"
    assert drawn[4] == "# sent   . known"
    assert "  0 B" in stacked([{"target": "eu", "sent": 0}], "target", {"sent": ("#", "sent")}).value


def test_reasons_are_a_list_people_can_read() -> None:
    assert facts(result(reasons=["one", "two"]))["reasons"].value == "- one\n- two"


def test_a_stage_without_check_fails_when_it_is_not_ok(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(dg.Failure, match="written: tag v1: unreachable") as caught:
        succeeded(step, result(ok=False, reasons=["tag v1: unreachable"]))
    assert caught.value.allow_retries is False
    assert "reasons" in caught.value.metadata


def test_a_refusal_is_a_failure_with_reasons_that_is_not_retried(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(dg.Failure) as caught, refusals(step):
        raise PromotionDenied("denied", reasons=["2 critical findings"], where="here", do="Fix them")
    assert caught.value.allow_retries is False
    assert caught.value.metadata["error"].value == "PromotionDenied"
    assert caught.value.metadata["do"].value == "Fix them"
    assert caught.value.metadata["reasons"].value == "- 2 critical findings"
    assert outcome(step) == "denied"


def test_missing_evidence_is_not_retried(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(dg.Failure) as caught, refusals(step):
        raise EvidenceMissing("no signature")
    assert caught.value.allow_retries is False


def test_network_trouble_is_tried_again(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(dg.RetryRequested) as caught, refusals(step):
        raise Unavailable("connection refused")
    assert caught.value.max_retries == 2
    assert isinstance(caught.value.__cause__, Unavailable)
    assert outcome(step) == "failed"


def test_a_run_that_is_tried_again_has_no_outcome_yet(step: dg.AssetExecutionContext) -> None:
    vars(step)["retry_number"] = MAX_RETRIES - 1
    with pytest.raises(dg.RetryRequested), refusals(step):
        raise Unavailable("connection refused")
    assert outcome(step) is None


def test_a_registry_that_names_a_time_is_obeyed(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(dg.RetryRequested) as caught, refusals(step):
        raise RateLimited("too many requests", retry_after_s=77.0)
    assert caught.value.seconds_to_wait == 77.0


def test_a_run_does_not_sleep_for_hours(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(dg.Failure, match="after 07:00 UTC") as caught, refusals(step):
        raise QuotaSpent("the quota is used up", do="Run it again after 07:00 UTC", retry_after_s=21600.0)
    assert caught.value.allow_retries is False


def test_a_mistake_in_the_code_is_not_tried_again(step: dg.AssetExecutionContext) -> None:
    with pytest.raises(ZeroDivisionError), refusals(step):
        raise ZeroDivisionError
    assert outcome(step) is None
