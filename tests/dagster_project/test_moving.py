"""Partition keys of earlier builds, keys that a lost state folder knew, and what ends in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from dagster_project import moving, sensors
from dagster_project.demo import Events, demonstrate
from dagster_project.memory import Memory
from registry_pipelines.chain.release_keys import FILE

if TYPE_CHECKING:
    from conftest import World

GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}


def whole(world: World, tag: str, packages: dict[str, str], *, note: str = "") -> str:
    """Push an image and add its partition as builds before 2026-12 did."""
    release = world.release_at("app", tag, packages, note=note)
    world.instance.add_dynamic_partitions("release", [release.key])
    return release.key


def partitions(world: World) -> list[str]:
    return list(world.instance.get_dynamic_partitions("release"))


def short(world: World, key: str) -> str:
    release = world.release(key)
    return world.key(release.image, release.tag, release.digest)


def test_whole_keys_become_short_ones_and_bring_along_what_they_had(world: World) -> None:
    old, new = whole(world, "v1", GOOD), whole(world, "v2", GOOD, note="new")
    assert world.run(old, "sbom").success
    reason = world.tick("release_keys", None).skip_reason
    assert partitions(world) == [short(world, old), short(world, new)], reason
    [told] = world.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("sbom"), asset_partitions=[short(world, old)]), limit=1
    ).records
    made = told.asset_materialization
    assert made and made.metadata["components"].value == 1 and made.metadata["earlier_key"].value == old
    assert old in world.instance.get_materialized_partitions(dg.AssetKey("sbom"))
    assert world.run(short(world, old), "sbom").success and world.run(short(world, new), "sbom").success


def test_no_sensor_asks_for_anything_before_and_nothing_twice_after(world: World) -> None:
    """What was promoted under its whole key was promoted: the older one is not run, which would take the tag back."""
    old, new = whole(world, "v1", GOOD), whole(world, "v2", GOOD, note="new")
    for asset in ("verdict", "promotion"):
        world.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=new))
    memory = Memory(life="x")
    memory.ask(old)
    found = world.tick("push_source", memory.write())
    assert not found.run_requests and "short keys to be made first" in str(found.skip_reason)
    assert not world.tick("promotion", None).run_requests
    world.tick("release_keys", None)
    for sensor in ("push_source", "promotion"):
        assert not world.tick(sensor, None).run_requests
    found = world.tick("push_source", memory.write())
    assert not found.run_requests
    assert Memory.read(found.cursor or "").tried(short(world, old)) == 1


def test_what_was_half_done_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [whole(world, f"v{number}", GOOD, note=str(number)) for number in range(3)]
    world.instance.report_runless_asset_event(dg.AssetMaterialization("verdict", partition=keys[0]))
    given = [short(world, key) for key in keys]
    with monkeypatch.context() as killed:
        killed.setattr(world.instance, "delete_dynamic_partition", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            moving.move_whole_keys(world.instance, world.chain, set())
    assert partitions(world) == [*keys, *given]
    monkeypatch.setattr(moving, "LONGEST_MOVE_S", 0)
    assert moving.move_whole_keys(world.instance, world.chain, set()) == keys
    monkeypatch.undo()
    assert moving.move_whole_keys(world.instance, world.chain, {keys[1]}) == [keys[1]]
    assert moving.move_whole_keys(world.instance, world.chain, set()) == []
    assert partitions(world) == given
    records = world.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("verdict"), asset_partitions=given), limit=9
    ).records
    assert len(records) == 1


def test_a_lost_state_folder_is_rebuilt_and_names_what_is_not_signed(world: World) -> None:
    judged, pushed = world.known("app", "v1", GOOD), world.known("app", "v2", GOOD, note="never judged")
    assert world.run(judged, "sbom", "vulnerabilities", "signature", "verdict").success
    (world.config.state / FILE).unlink()
    found = world.tick("release_keys", None)
    assert f"nothing signed names them: {pushed}" in str(found.skip_reason)
    assert list(world.chain.known_keys()) == [judged]
    assert not world.run(pushed, "provenance").success
    asked = world.tick("push_source", None).run_requests or []
    assert [request.partition_key for request in asked] == [pushed]
    assert world.run(pushed, "provenance").success
    assert "all keys are known" in str(world.tick("release_keys", found.cursor).skip_reason)


def test_a_key_whose_release_is_gone_and_unknown_is_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    stays = world.known("app", "v1", GOOD)
    world.instance.add_dynamic_partitions("release", ["app:v9@0123456789ab"])
    world.tick("push_source", None)
    assert partitions(world) == [stays]


def test_the_run_of_another_machine_is_told_the_digest(world: World) -> None:
    """Its state folder is another one; the run's tag has the whole digest."""
    key = world.known("app", "v1", GOOD)
    digest = str(world.release(key).digest)
    (world.config.state / FILE).unlink()
    result = world.defs.resolve_job_def("release").execute_in_process(
        instance=world.instance,
        partition_key=key,
        asset_selection=[dg.AssetKey("provenance")],
        tags={"registry-pipelines/digest": digest},
    )
    assert result.success


def test_the_demonstration_moves_keys_too(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    old = whole(world, "v1", GOOD)
    with (tmp_path_factory.mktemp("events") / "events").open("w") as file:
        demonstrate(world.config, world.instance, Events(file))
    assert partitions(world) == [short(world, old)]
