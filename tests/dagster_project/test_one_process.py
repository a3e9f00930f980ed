"""The instance that ``demo`` runs its jobs with: Dagster reads what it wrote, and an operator's settings hold."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from dagster_project.one_process import KeptEventLog, open_instance

KEYS = dg.DynamicPartitionsDefinition(name="keys")
seen: list[set[str]] = []


def children() -> set[str]:
    """Processes that this one has started."""
    return {child for path in Path("/proc/self/task").glob("*/children") for child in path.read_text().split()}


@dg.asset(partitions_def=KEYS)
def first(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Notes which processes run beside it."""
    seen.append(children())
    return dg.MaterializeResult(metadata={"key": context.partition_key})


@dg.asset_check(asset=first, blocking=True)
def passes() -> dg.AssetCheckResult:
    """Is another kind of event."""
    return dg.AssetCheckResult(passed=True)


DEFS = dg.Definitions(assets=[first], asset_checks=[passes], jobs=[dg.define_asset_job("job", [first])])


def test_dagster_reads_every_run_and_event_and_no_process_was_started(tmp_path: Path) -> None:
    seen.clear()
    before = children()  # of other tests
    with open_instance(tmp_path) as instance:
        assert isinstance(instance.event_log_storage, KeptEventLog)
        instance.add_dynamic_partitions("keys", ["a", "b"])
        for key in ("a", "b"):
            done = DEFS.resolve_job_def("job").execute_in_process(instance=instance, partition_key=key)
            assert done.success
    assert len(seen) == 2 and all(at_a_step <= before for at_a_step in seen)
    with dg.DagsterInstance.from_config(str(tmp_path)) as plain:
        assert type(plain.event_log_storage) is SqliteEventLogStorage
        runs = plain.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        for run in runs:
            kinds = [entry.dagster_event_type for entry in plain.all_logs(run.run_id) if entry.is_dagster_event]
            assert dg.DagsterEventType.ASSET_CHECK_EVALUATION in kinds and dg.DagsterEventType.RUN_SUCCESS in kinds
        assert plain.get_materialized_partitions(dg.AssetKey("first")) == {"a", "b"}


def test_where_dagster_yaml_says_something_of_them_storage_and_captured_output_stay(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(
        "compute_logs: {module: dagster._core.storage.local_compute_log_manager, class: LocalComputeLogManager,"
        f" config: {{base_dir: {tmp_path}/mine}}}}\n"
        f"storage: {{sqlite: {{base_dir: {tmp_path}/theirs}}}}\n"
    )
    with open_instance(tmp_path) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert instance.compute_log_manager.inst_data.config_dict == {"base_dir": f"{tmp_path}/mine"}


def test_a_process_that_writes_at_the_same_time_is_waited_for(tmp_path: Path) -> None:
    with open_instance(tmp_path) as kept, dg.DagsterInstance.from_config(str(tmp_path)) as plain:
        for instance in (kept, plain, kept):
            instance.report_runless_asset_event(dg.AssetMaterialization("first"))
        assert len(plain.fetch_materializations(dg.AssetKey("first"), limit=5).records) == 3
        assert len(kept.fetch_materializations(dg.AssetKey("first"), limit=5).records) == 3


pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
