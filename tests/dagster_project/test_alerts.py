"""Runs that failed and assets that grew old are told: once, together where there are many, again where nobody was."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from dagster_project import alerts
from dagster_project.alerts import recall
from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from tests.ports import free_ports

KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
SETTINGS = """\
registries: {{here: {{kind: embedded, port: 5999}}}}
images:
  app: {{registry: here, repository: vision/app}}
report: {{teams: {{vision: ["vision/*"]}}}}
dagster: {{owners: {{vision: [vision@example.com], platform: ["team:ops"]}}}}
retention: [{{registry: here, keep_newest: 3}}]
notify: {{command: {0}{1}}}
"""


class World:
    """A code location whose alerts are kept in a file, and an instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.kept, self.folder, self.instance, self.cursor = folder / "told", folder, instance, ""
        self.says([sys.executable, "-c", KEEP, "told"])

    def says(self, command: list[str], more: str = "", **variables: str) -> None:
        path = self.folder / "registry-pipelines.yaml"
        path.write_text(SETTINGS.format(json.dumps(command), more))
        self.chain = Chain(load(path, variables))
        self.defs = build_definitions(self.chain.config, lambda: self.chain)
        self.sensor = self.defs.get_repository_def().get_sensor_def("alerts")

    def look(self) -> str:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"chain": self.chain}, definitions=self.defs
        )
        found = self.sensor.evaluate_tick(context)
        self.cursor = found.cursor or ""
        return found.skip_message or ""

    def told(self) -> list[dict[str, Any]]:
        lines = self.kept.read_text().splitlines() if self.kept.exists() else []
        self.kept.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def fails(self, words: str, **tags: str) -> None:
        @dg.op
        def breaks() -> None:
            raise ValueError(words)

        @dg.job(name="nightly_thing")
        def job() -> None:
            breaks()

        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        job.execute_in_process(quiet, instance=self.instance, raise_on_error=False, tags=tags)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(tmp_path, instance)


def test_a_run_that_failed_is_told_once_with_its_owner_and_without_secrets(world: World) -> None:
    world.fails("before the first look")
    world.look()
    assert world.told() == []
    world.fails("postgresql://me:hunter22@db/x is away", **{"registry-pipelines/image": "app"})
    world.look()
    [notice] = world.told()
    assert (notice["event"], notice["stage"], notice["owners"]) == (
        "run-failed",
        "nightly_thing",
        ["vision@example.com"],
    )
    assert "breaks: ValueError" in notice["reasons"][0] and "hunter22" not in json.dumps(notice)
    world.look()
    assert world.told() == []


def test_many_of_one_job_are_one_notice_and_what_is_told_elsewhere_none(world: World) -> None:
    world.look()
    for _ in range(5):
        world.fails("down")
    world.fails("again", **{"dagster/will_retry": "true"})
    world.look()
    [notice] = world.told()
    assert notice["what"] == "5 runs failed" and len(notice["reasons"]) == 6
    assert notice["owners"] == ["team:ops"]


def test_what_nobody_could_be_told_is_told_at_the_next_look(world: World) -> None:
    world.look()
    world.fails("down")
    world.says([sys.executable, "-c", "import sys; sys.exit(3)"])
    assert "ended with 3" in world.look()
    world.says([sys.executable, "-c", KEEP, "told"])
    world.look()
    assert [each["event"] for each in world.told()] == ["run-failed"]
    world.cursor = "somebody typed this"
    world.look()
    assert world.told() == [] and recall(world.cursor).runs


def test_what_one_way_told_is_not_told_again_because_another_failed(world: World) -> None:
    [port] = free_ports(1)
    hook = f"http://127.0.0.1:{port}/"
    world.says([sys.executable, "-c", KEEP, "told"], ', webhook: "${HOOK}"', HOOK=hook)
    world.look()
    for words in ("down", "down again"):
        world.fails(words)
        assert "the webhook at 127.0.0.1 cannot be reached" in world.look()
        world.look()
        assert len(world.told()) == 1


def test_tries_in_vain_use_up_no_hour(world: World) -> None:
    world.look()
    world.says([sys.executable, "-c", "import sys; sys.exit(3)"], ", most_per_hour: 2")
    world.fails("down")
    for _ in range(4):
        assert "ended with 3" in world.look()
    world.says([sys.executable, "-c", KEEP, "told"], ", most_per_hour: 2")
    world.look()
    [notice] = world.told()
    assert notice["event"] == "run-failed" and not notice.get("left_out")


def test_more_at_once_than_a_look_reads_are_all_told_and_so_is_what_fails_after_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MOST_RUNS", 2)
    world.look()
    for number in range(5):
        world.fails(f"number {number}")
    for _ in range(3):
        world.look()
    assert [each["reasons"][0][-8:] for each in world.told()] == [f"number {number}" for number in range(5)]
    world.fails("one more")
    world.look()
    assert len(world.told()) == 1 and len(recall(world.cursor).runs) == 6


def test_a_look_begins_nothing_more_where_telling_takes_long_or_nobody_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.look()
    for number in range(3):
        world.fails(f"number {number}")
    world.says([sys.executable, "-c", f"import sys; {KEEP}; sys.exit(3)", "told"])
    world.look()
    assert len(world.told()) == 1
    monkeypatch.setattr(alerts, "LONGEST_S", 0)
    world.look()
    assert world.told() == []
    monkeypatch.undo()
    world.says([sys.executable, "-c", KEEP, "told"])
    world.look()
    assert len(world.told()) == 3


def test_assets_that_turn_red_are_told_together_and_again_after_they_were_fresh(world: World) -> None:
    def turns(name: str, state: FreshnessState) -> None:
        change = FreshnessStateChange(
            key=dg.AssetKey(name.split("/")),
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=1.0,
        )
        world.instance._report_runless_asset_event(change)

    for name in ("retention/here", "custody"):
        turns(name, FreshnessState.FAIL)
    turns("maturity", FreshnessState.WARN)
    world.look()
    [notice] = world.told()
    assert (notice["event"], notice["reasons"]) == ("stale", ["custody", "retention/here"])
    world.look()
    assert world.told() == []
    turns("custody", FreshnessState.PASS)
    world.look()
    turns("custody", FreshnessState.FAIL)
    world.look()
    assert [each["reasons"] for each in world.told()] == [["custody"]]


def test_there_is_no_sensor_where_nobody_is_to_be_told(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(SETTINGS.format("[]", ""))
    names = {each.name for each in build_definitions(load(path)).get_repository_def().sensor_defs}
    assert "alerts" not in names and "release_keys" in names
