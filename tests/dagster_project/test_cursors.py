"""Cursors: what is asked once, asked again after a reset, and never makes a sensor fail for good."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.partitions.context import partition_loading_context
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from dagster_project import promoting, sensors
from dagster_project.memory import Memory, fingerprint
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from conftest import Made, World

GOOD = {"calm": "1.0"}
JUDGED = ("provenance", "sbom", "vulnerabilities", "signature", "verdict")


def forget(world: World, image: str, digest: Digest) -> None:
    """Remove a manifest from the source, with its tags."""
    with suppress(NotFound):
        world.chain.registry("source").delete_manifest(world.config.images[image].repository, digest)


def test_run_keys_name_digest_life_and_attempt() -> None:
    """Dagster remembers a run key for ever, also after a failed run."""
    memory = Memory(life="a1")
    first, second = memory.ask("k"), memory.ask("k")
    other = memory.ask("k", "sha256:feed")
    assert len({first.run_key, second.run_key, other.run_key}) == 3
    assert Memory.read(memory.write()).ask("k", "sha256:feed").run_key == "k#sha256:feed#a1#2"


def run_keys(world: World, cursor: str | None, last_tick_s: float | None = None) -> tuple[list[str], str | None]:
    """Run keys of one tick of the push sensor, whose requests nobody serves."""
    found = world.tick("push_source", cursor, last_tick_s)
    return [str(request.run_key) for request in found.run_requests or []], found.cursor


def tick(world: World, name: str, cursor: str | None) -> tuple[list[str], str | None]:
    """Keys that one tick asks runs for."""
    found = world.tick(name, cursor)
    return [str(request.partition_key) for request in found.run_requests or []], found.cursor


def test_a_reset_cursor_asks_with_fresh_run_keys(world: World) -> None:
    world.failed_run(world.push("app", "v1", GOOD))
    assert not set(run_keys(world, None)[0]) & set(run_keys(world, None)[0])
    first, cursor = run_keys(world, None, 1_790_000_000.25)
    assert len(first) == 1
    assert run_keys(world, None, 1_790_000_000.25)[0] == first, "the same tick once more: two daemons, or a kill"
    assert run_keys(world, cursor, 1_790_000_001.5)[0] == []
    again, _ = run_keys(world, None, 1_790_000_002.5)
    assert len(again) == 1 and again != first


def test_a_reset_cursor_rolls_nothing_back(world: World) -> None:
    """An older release whose runs failed looks new again then; the channel tag would go back to it."""
    old, new = world.known("app", "v1", GOOD), world.known("app", "v2", GOOD, note="new")
    assert world.run(new).success
    assert tick(world, "push_source", None)[0] == []
    assert world.channel("app") == world.release(new).digest
    assert old in world.instance.get_dynamic_partitions("release")


@pytest.mark.parametrize(
    "cursor", ["nonsense", "[]", "1", '{"attempts": 3}', '{"attempts": {"a": ["", -1]}}', '{"looks": 1e999}', "\ud800"]
)
def test_a_cursor_that_somebody_typed_begins_anew(world: World, cursor: str) -> None:
    key = world.push("app", "v1", GOOD)
    world.failed_run(key)
    asked, after = tick(world, "push_source", cursor)
    assert asked == [key]
    assert tick(world, "push_source", after)[0] == []
    assert tick(world, "promotion", cursor)[0] == []


def test_a_cursor_of_an_earlier_version_is_read(world: World) -> None:
    key, new = world.push("app", "v1", GOOD), world.push("app", "v2", GOOD, note="new")
    before = json.dumps({"attempts": {fingerprint(key): ["", 1]}, "looks": 7, "last": "", "later": {"x": 1}})
    asked, cursor = tick(world, "push_source", before)
    assert asked == [new]
    memory = Memory.read(cursor or "")
    assert (memory.looks, memory.tried(key), bool(memory.life)) == (8, 1, True)


def test_a_cursor_for_three_thousand_releases_stays_small() -> None:
    memory = Memory(life="a1")
    for number in range(3000):
        memory.ask(f"app:v{number}@sha256:{number:064x}")
    assert len(memory.write()) < 100_000


def test_a_repository_that_fails_does_not_hide_the_pushes_to_another(world: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    folder = settings.parent / "disk"
    raw["registries"]["disk"] = {"kind": "layout", "root": str(folder)}
    raw["images"]["app"]["registry"] = raw["images"]["tool"]["registry"] = "disk"
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    made = world.push_to("disk", "team/tool", "v1", GOOD)
    world.push_to("disk", "team/app", "v1", GOOD)
    (folder / "team/app/index.json").write_text("{")
    key = world.key("tool", "v1", made.digest)
    asked, cursor = tick(world, "push_disk", world.looked())
    assert asked == [key]
    found = world.tick("push_disk", cursor)
    assert "app cannot be looked at" in str(found.skip_reason)


def test_a_look_that_takes_too_long_goes_on_in_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster ends a tick after a minute and forgets all of it; it would begin at the same place for ever."""
    for module in (sensors, promoting):
        monkeypatch.setattr(module, "LONGEST_LOOK_S", 0)
    app, tool = world.push("app", "v1", GOOD), world.push("tool", "v1", GOOD, note="tool")
    first, cursor = tick(world, "push_source", world.looked())
    second, cursor = tick(world, "push_source", cursor)
    assert [first, second] == [[app], [tool]]
    assert tick(world, "push_source", cursor)[0] == []
    for key in (app, tool):
        world.run(key, *JUDGED)
    judged, cursor = tick(world, "promotion", None)
    assert [judged, tick(world, "promotion", cursor)[0]] == [[app], [tool]]


def test_a_partition_that_is_removed_meanwhile_does_not_fail_the_tick(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [world.known("app", "v1", GOOD), world.known("tool", "v1", GOOD, note="tool")]
    for key in keys:
        world.run(key, *JUDGED)
    judge = promoting.evidence_that_allows

    def judge_and_remove(chain: Chain, release: Release) -> str:
        evidence = judge(chain, release)
        if release == world.release(keys[0]):
            world.instance.delete_dynamic_partition("release", keys[0])
        return evidence

    monkeypatch.setattr(promoting, "evidence_that_allows", judge_and_remove)
    with (
        partition_loading_context(dynamic_partitions_store=world.instance),
        dg.build_sensor_context(world.instance, definitions=world.defs, resources={"chain": world.chain}) as context,
    ):
        found = world.defs.resolve_sensor_def("promotion").evaluate_tick(context)
    assert [request.partition_key for request in found.run_requests or []] == [keys[1]]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("push"), st.sampled_from(["app", "tool"]), st.sampled_from(["v1", "v2", "v3"]), st.integers(0, 2)
        ),
        st.tuples(st.just("add"), st.sampled_from(["app", "tool"]), st.sampled_from(["v1", "v4"]), st.integers(0, 2)),
        st.tuples(st.just("delete"), st.sampled_from(["app", "tool"]), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("reset"), st.just(""), st.just(""), st.just(0)),
        st.tuples(st.just("tick"), st.just(""), st.just(""), st.just(0)),
    ),
    max_size=12,
)


@settings_of(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_one_tick_names_no_key_twice_and_no_run_key_comes_back(
    world: World,
    image: Callable[..., Made],
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[str, str, str, int]],
) -> None:
    """Tags, digests, keys that somebody adds, deletions and resets in any order."""
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 2)
    cursor: str | None = world.looked()
    served: set[str] = set()
    for name in ("app", "tool"):
        for note in range(3):
            forget(world, name, image(GOOD, str(note)).digest)
    with dg.DagsterInstance.ephemeral() as instance:
        fresh = replace(world, instance=instance)
        for number, (what, name, tag, note) in enumerate([*steps, ("tick", "", "", 0), ("tick", "", "", 0)]):
            made = image(GOOD, str(note))
            if what == "push":
                fresh.push(name, tag, GOOD, note=str(note))
            elif what == "add":
                fresh.add(name, tag, made.digest)
            elif what == "delete":
                forget(world, name, made.digest)
            elif what == "reset":
                cursor = None
            else:
                found = fresh.tick("push_source", cursor, float(number))
                cursor = found.cursor
                asked = [str(request.run_key) for request in found.run_requests or []]
                changed = [key for each in found.dynamic_partitions_requests or [] for key in each.partition_keys]
                partitions = [request.partition_key for request in found.run_requests or []]
                assert len({*asked}) == len(asked) == len({*partitions})
                assert len({*changed}) == len(changed)
                assert not served.intersection(asked)
                served.update(asked)
