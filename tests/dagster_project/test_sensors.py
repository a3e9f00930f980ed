"""Sensors: every release is asked for once, in bounded portions; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml

from dagster_project import promoting, sensors
from dagster_project.definitions import build_definitions
from dagster_project.memory import Memory
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from conftest import World

GOOD = {"calm": "1.0"}
EVIL = {"calm": "1.0", "leaky": "1.0"}


def tick(world: World, name: str, cursor: str | None) -> tuple[list[str], str | None]:
    """One tick: the partitions it asks runs for, and its cursor."""
    found = world.tick(name, cursor)
    return [str(request.partition_key) for request in found.run_requests or []], found.cursor


def test_a_push_adds_the_partition_and_asks_for_the_run_once(world: World) -> None:
    asked, cursor = tick(world, "push_source", world.looked())
    assert asked == []
    key = world.push("app", "v1", GOOD)
    asked, cursor = tick(world, "push_source", cursor)
    assert asked == [key]
    assert world.instance.get_dynamic_partitions("release") == [key]
    assert tick(world, "push_source", cursor)[0] == []


def test_what_was_there_before_the_first_look_is_not_run(world: World, settings: Path) -> None:
    """Nor what a wider pattern takes, or a new image has; all of it can be launched by hand, by its partition."""
    before = [world.push("app", tag, GOOD, note=tag) for tag in ("v1", "v2", "v3", "v4")]
    wip = world.push("app", "pr-17-wip", GOOD, note="wip")
    found = world.tick("push_source", None)
    assert found.run_requests == []
    assert "4 releases were there before: not run" in str(found.skip_reason)
    assert world.instance.get_dynamic_partitions("release") == before
    new = world.push("app", "v5", GOOD, note="v5")
    asked, cursor = tick(world, "push_source", found.cursor)
    assert asked == [new]

    raw = yaml.safe_load(settings.read_text())
    raw["images"]["app"]["tags"] = ["v*", "pr-*"]
    raw["images"]["late"] = {"registry": "source", "repository": "team/late"}
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    late = world.push("late", "v1", GOOD, note="late")
    found = world.tick("push_source", cursor)
    assert found.run_requests == [] and "2 releases were there before" in str(found.skip_reason)
    assert set(world.instance.get_dynamic_partitions("release")) == {*before, wip, new, late}
    later = [world.push("late", "v2", GOOD, note="late 2"), world.push("app", "pr-18", GOOD, note="pr-18")]
    asked, cursor = tick(world, "push_source", found.cursor)
    assert sorted(asked) == sorted(later)
    assert tick(world, "push_source", cursor)[0] == []


def test_what_was_let_go_before_has_its_page_and_what_others_put_on_a_channel_has_none(world: World) -> None:
    """The release under its channel alone: `ship` on the command line, then the UI. A run of it changes nothing."""
    keys = {image: world.known(image, "v1", GOOD, note=image) for image in ("app", "tool")}
    for stage in ("sbom", "vulnerabilities", "sign", "judge", "promote"):
        assert getattr(world.chain, stage)(world.release(keys["app"])).ok
    newer = world.push("app", "v2", GOOD, note="newer")
    place = world.chain.place("tool")
    place.registry.put_manifest(place.repository, place.registry.get_manifest(place.repository, "v1"), tag="prod")
    found = world.tick("push_source", None)
    assert [request.partition_key for request in found.run_requests or []] == [keys["app"]]
    assert set(world.instance.get_dynamic_partitions("release")) == {*keys.values(), newer}
    again = world.run(keys["app"], "promotion")
    [told] = again.asset_materializations_for_node("promotion")
    assert told.metadata["changed"].value is False
    assert tick(world, "push_source", found.cursor)[0] == []


def test_an_image_that_was_silent_at_the_first_look_has_its_own(world: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    folder = settings.parent / "disk"
    raw["registries"]["disk"] = {"kind": "layout", "root": str(folder)}
    raw["images"]["app"]["registry"] = raw["images"]["tool"]["registry"] = "disk"
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    world.push_to("disk", "team/tool", "v1", GOOD)
    world.push_to("disk", "team/app", "v1", GOOD)
    index = folder / "team/app/index.json"
    whole = index.read_text()
    index.write_text("{")
    found = world.tick("push_disk", None)
    assert "1 release was there before: not run" in str(found.skip_reason)
    index.write_text(whole)
    found = world.tick("push_disk", found.cursor)
    assert found.run_requests == [] and "1 release was there before" in str(found.skip_reason)


def test_versions_are_asked_for_in_their_order() -> None:
    tags = ["v1.10.0", "v1.10.0-rc.2", "108.0.1_up0.7.0", "v1.9.0", "v1.10.0-rc.1", "108.0.0_up0.6.9"]
    found = sorted((Release("app", tag, Digest.of(b"x")) for tag in tags), key=sensors.by_version)
    assert [each.tag for each in found] == [
        "v1.9.0",
        "v1.10.0-rc.1",
        "v1.10.0-rc.2",
        "v1.10.0",
        "108.0.0_up0.6.9",
        "108.0.1_up0.7.0",
    ]


def test_what_we_attach_is_no_release(world: World) -> None:
    """Signatures, fallback tags and the channel tag appear beside the release; none of them is one."""
    key = world.push("app", "v1", GOOD)
    _, cursor = tick(world, "push_source", world.looked())
    assert world.run(key).success
    tags = set(world.chain.registry("source").tags("team/app"))
    assert "prod" in tags
    assert any(tag.startswith("sha256-") for tag in tags)
    assert tick(world, "push_source", cursor)[0] == []


def test_a_burst_is_asked_for_in_portions_oldest_version_first(world: World) -> None:
    keys = {tag: world.push("app", tag, GOOD, note=tag) for tag in ("v10", "v9", "v2", "v1")}
    first, cursor = tick(world, "push_source", world.looked())
    second, cursor = tick(world, "push_source", cursor)
    assert first == [keys["v1"], keys["v2"], keys["v9"]]
    assert second == [keys["v10"]]
    assert tick(world, "push_source", cursor)[0] == []


def test_a_tag_that_moved_at_its_source_is_a_new_release(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version tags do not move, so only a reconcile asks for them again."""
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 2)
    world.push("app", "v1", GOOD)
    _, cursor = tick(world, "push_source", world.looked())
    moved = world.push("app", "v1", GOOD, note="again")
    assert tick(world, "push_source", cursor)[0] == [moved]


def test_a_reconcile_asks_again_for_a_lost_run_but_not_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 2)
    key = world.push("app", "v1", GOOD)
    asked: list[str] = []
    cursor: str | None = world.looked()
    for _ in range(12):
        more, cursor = tick(world, "push_source", cursor)
        asked += more
    assert asked == [key] * sensors.MAX_ATTEMPTS


def test_a_reconcile_asks_again_for_what_was_promoted_and_is_not_everywhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died after the promotion, or a target did not answer: nobody else would copy it."""
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    key = world.push("app", "v1", GOOD)
    asked, cursor = tick(world, "push_source", world.looked())
    assert asked == [key] and world.run(key).success
    again, cursor = tick(world, "push_source", cursor)
    assert again == [], "it is everywhere"
    world.failed_run(key)
    for _ in range(2, sensors.MAX_ATTEMPTS + 1):
        again, cursor = tick(world, "push_source", cursor)
        assert again == [key]
    assert tick(world, "push_source", cursor)[0] == [], "now it is a person's"


def test_a_reconcile_asks_for_no_run_again_that_a_person_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its next run fails by itself, as after a re-execution by hand."""
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    key = world.push("app", "v1", GOOD)
    asked, cursor = tick(world, "push_source", world.looked())
    world.failed_run(key, dg.DagsterRunStatus.CANCELED)
    for _ in range(3):
        again, cursor = tick(world, "push_source", cursor)
        assert asked == [key] and again == []
    world.failed_run(key)
    assert tick(world, "push_source", cursor)[0] == [key]


def test_a_reconcile_leaves_a_refused_release_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    evil = world.push("app", "v1", EVIL)
    asked, cursor = tick(world, "push_source", world.looked())
    assert asked == [evil]
    world.run(evil)
    assert tick(world, "push_source", cursor)[0] == []


def test_a_reconcile_removes_the_keys_of_what_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    key, stays = world.known("app", "v1", GOOD), world.known("app", "v2", GOOD, note="stays")
    _, cursor = tick(world, "push_source", world.looked())
    world.chain.registry("source").delete_manifest("team/app", world.release(key).digest)
    _, cursor = tick(world, "push_source", cursor)
    assert world.instance.get_dynamic_partitions("release") == [stays]
    assert len(json.loads(cursor or "")["attempts"]) == 1


def test_a_repository_that_cannot_be_seen_any_more_costs_no_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries answer 404 for what one may not read."""
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    key = world.known("app", "v1", GOOD)
    _, cursor = tick(world, "push_source", world.looked())
    world.chain.registry("source").delete_manifest("team/app", world.release(key).digest)
    tick(world, "push_source", cursor)
    assert world.instance.get_dynamic_partitions("release") == [key]


def test_a_lost_run_is_not_asked_for_again_when_a_newer_release_is_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the channel tag back."""
    monkeypatch.setattr(sensors, "LOOKS_PER_RECONCILE", 1)
    monkeypatch.setattr(sensors, "MAX_ATTEMPTS", 99)
    old, new = world.push("app", "v1", GOOD), world.push("app", "v2", GOOD, note="new")
    asked, cursor = tick(world, "push_source", world.looked())
    assert asked == [old, new]
    assert world.run(new).success
    assert tick(world, "push_source", cursor)[0] == []
    assert world.channel("app") == world.release(new).digest


def test_what_was_run_by_hand_is_not_asked_for(world: World) -> None:
    key = world.known("app", "v1", GOOD)
    assert world.run(key).success
    asked, cursor = tick(world, "push_source", world.looked())
    assert asked == []
    assert Memory.read(cursor or "").tried(key) == 1


def test_a_further_tag_on_a_release_is_not_another_release(world: World) -> None:
    key = world.push("app", "v1", GOOD)
    _, cursor = tick(world, "push_source", world.looked())
    world.push("app", "1.0.0", GOOD)
    asked, _ = tick(world, "push_source", cursor)
    assert asked == []
    assert world.instance.get_dynamic_partitions("release") == [key]


def test_a_source_that_is_down_does_not_hide_the_pushes_to_another(world: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    raw["registries"]["elsewhere"] = {"kind": "distribution", "host": "127.0.0.1:9"}
    raw["images"]["tool"]["registry"] = "elsewhere"
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    key = world.push("app", "v1", GOOD)
    assert tick(world, "push_source", world.looked())[0] == [key]
    with pytest.raises(Unavailable):
        tick(world, "push_elsewhere", world.looked())


def test_a_registry_that_is_down_fails_the_tick(settings: Path) -> None:
    """Nothing serves here. The old cursor stays, and the next tick starts from the same place."""
    config = load(settings)
    chain = Chain(config)
    defs = build_definitions(config, lambda: chain)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, definitions=defs, resources={"chain": chain}) as context,
        pytest.raises(Unavailable),
    ):
        defs.resolve_sensor_def("push_source")(context)


def test_the_promotion_sensor_asks_for_nothing_while_the_evidence_denies(world: World) -> None:
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    good = world.known("app", "v2", GOOD)
    world.run(good)
    cursor = None
    for _ in range(3):
        asked, cursor = tick(world, "promotion", cursor)
        assert asked == []
    assert world.reached(evil) == set()


def test_the_promotion_sensor_lets_go_what_an_exception_allows_now(world: World, settings: Path) -> None:
    evil = world.known("app", "v1", EVIL)
    world.run(evil)
    _, cursor = tick(world, "promotion", None)
    raw = yaml.safe_load(settings.read_text())
    raw["policies"]["default"]["exceptions"] = [
        {
            "advisory": "PYSEC-2026-1",
            "owner": "team:ml",
            "reason": "the leaking function is not called",
            "expires": "2099-12-31",
        }
    ]
    settings.write_text(yaml.safe_dump(raw))
    world.use(load(settings))
    asked, cursor = tick(world, "promotion", cursor)
    assert asked == [evil]
    assert world.run(evil).success
    assert world.reached(evil) == {"eu-west-1", "gcp", "dmz", "airgap"}
    assert tick(world, "promotion", cursor)[0] == []


def test_the_promotion_sensor_rolls_nothing_back(world: World) -> None:
    """An older release that would pass now is left alone: a newer one is under the channel tag."""
    old, new = world.known("app", "v1", GOOD), world.known("app", "v2", GOOD, note="new")
    world.run(old, "provenance", "sbom", "vulnerabilities", "signature", "verdict")
    assert tick(world, "promotion", None)[0] == [old]
    assert world.run(new).success
    assert tick(world, "promotion", None)[0] == []
    assert world.channel("app") == world.release(new).digest


def test_held_releases_are_judged_in_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promoting, "MAX_JUDGED", 1)
    keys = [world.known("app", tag, GOOD, note=tag) for tag in ("v1", "v2")]
    for key in keys:
        world.run(key, "provenance", "sbom", "vulnerabilities", "signature", "verdict")
    first, cursor = tick(world, "promotion", None)
    second, cursor = tick(world, "promotion", cursor)
    assert [*first, *second] == keys


def test_one_release_that_cannot_be_judged_does_not_hold_the_others(world: World) -> None:
    gone, good = world.known("app", "v1", GOOD), world.known("tool", "v1", GOOD, note="stays")
    for key in (gone, good):
        world.run(key, "provenance", "sbom", "vulnerabilities", "signature", "verdict")
    place = Place(world.chain.registry("source"), "team/app")
    place.registry.delete_manifest(place.repository, world.release(gone).digest)
    assert tick(world, "promotion", None)[0] == [good]
