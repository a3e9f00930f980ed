"""Schedules: what the configuration takes Dagster can follow, and a bad one takes nothing else down."""

from __future__ import annotations

import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.errors import DagsterUserCodeExecutionError
from dagster._utils.schedules import CroniterShim, cron_string_iterator, is_valid_cron_schedule
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dagster_project.definitions import build_definitions
from dagster_project.resources import find_config
from registry_pipelines.config import load
from registry_pipelines.config.times import Cron, TimeZone

if TYPE_CHECKING:
    from conftest import World

NOW_S = 1_790_000_000.0
SPANS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


def parts(low: int, high: int) -> st.SearchStrategy[str]:
    """One field: stars, numbers, ranges, steps, lists."""
    number = st.integers(low, high).map(str)
    body = st.one_of(st.just("*"), number, st.tuples(number, number).map("-".join))
    part = st.one_of(body, st.tuples(body, st.integers(1, 70).map(str)).map("/".join))
    return st.lists(part, min_size=1, max_size=2).map(",".join)


@settings(max_examples=150, deadline=None)
@given(st.tuples(*(st.one_of(st.just("*"), parts(low, high)) for _, low, high in SPANS)).map(" ".join))
def test_what_is_taken_dagster_reads_alike_and_it_comes(text: str) -> None:
    try:
        cron = Cron.parse(text)
    except ValueError:
        return
    assert is_valid_cron_schedule(str(cron))
    expanded, _ = CroniterShim.expand(str(cron))
    for found, ours, (_, low, high) in zip(expanded, cron.values(), SPANS, strict=True):
        assert ours == (set(range(low, min(high, 6 if high == 7 else high) + 1)) if "*" in found else set(found))
    assert next(cron_string_iterator(NOW_S, str(cron), "Europe/Berlin")).timestamp() >= NOW_S


@pytest.mark.parametrize("cron", ["30 2 29 3 *", "30 2 * * *", "0 2 * * *"])
def test_a_time_that_the_change_of_clocks_skips_comes_when_the_gap_ends(cron: str) -> None:
    """What docs/dagster.md says; on 29 March 2026 clocks in Berlin go from 2:00 to 3:00."""
    before = 1_774_735_200.0  # 28 March, 23:00
    assert next(cron_string_iterator(before, cron, "Europe/Berlin")).isoformat() == "2026-03-29T03:00:00+02:00"


def test_an_hour_that_comes_twice_counts_once() -> None:
    before = 1_792_875_600.0  # 24 October, 23:00; at 3:00 clocks in Berlin go back to 2:00
    ticks = cron_string_iterator(before, "30 2 * * *", "Europe/Berlin")
    assert [next(ticks).isoformat() for _ in range(2)] == ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]


def test_every_time_zone_we_take_dagster_takes() -> None:
    @dg.job
    def nothing() -> None: ...

    for name in sorted(zoneinfo.available_timezones()):
        dg.ScheduleDefinition(job=nothing, cron_schedule="0 2 * * *", execution_timezone=TimeZone.parse(name))


def failure(defs: dg.Definitions, name: str) -> str:
    """What a tick of a schedule fails with."""
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_schedule_context(instance=instance) as context,
        pytest.raises(DagsterUserCodeExecutionError) as caught,
    ):
        defs.resolve_schedule_def(name).evaluate_tick(context)
    return str(caught.value.user_exception)


def test_a_bad_schedule_takes_nothing_else_down_and_fails_where_it_is_seen(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_text(settings.read_text() + "schedules: {retention: '0 2 30 2 *', time_zone: Europe/Berln}\n")
    monkeypatch.setenv("REGISTRY_PIPELINES_CONFIG", str(settings))
    defs = build_definitions(find_config())
    dg.Definitions.validate_loadable(defs)
    for name in ("nightly_mirror_foreign_schedule", "retention_schedule"):
        schedule = defs.resolve_schedule_def(name)
        assert "Europe/Berln" in str(schedule.description)
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    said = failure(defs, "retention_schedule")
    assert "never comes" in said and "Europe/Berln" in said


def test_a_time_zone_that_only_dagsters_machine_lacks_is_shown_alike(world: World) -> None:
    schedules = replace(world.config.schedules, time_zone=TimeZone("Mars/Olympus"))
    defs = build_definitions(replace(world.config, schedules=schedules))
    dg.Definitions.validate_loadable(defs)
    assert "Mars/Olympus" in failure(defs, "nightly_mirror_foreign_schedule")
    assert "push_source" in {sensor.name for sensor in defs.get_repository_def().sensor_defs}


def test_good_schedules_are_as_written(settings: Path) -> None:
    settings.write_text(settings.read_text() + "schedules: {mirror: '@daily', time_zone: Europe/Berlin}\n")
    schedule = build_definitions(load(settings)).resolve_schedule_def("nightly_mirror_foreign_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 0 * * *", "Europe/Berlin")
