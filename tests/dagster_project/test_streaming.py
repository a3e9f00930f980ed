"""Indexes in the run of a release, and releases that are derived: the job, its sensor, and what the UI shows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml

from dagster_project import sensors
from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.scan.images import push_image

if TYPE_CHECKING:
    from conftest import World

LAYER = {"usr/lib/big": random.Random(3).randbytes(200_000)}


def streaming(world: World, settings: Path, *images: str, **stream: str) -> None:
    """Go on with ``stream`` for images, ``app`` unless told."""
    raw = yaml.safe_load(settings.read_text())
    for image in images or ("app",):
        raw["images"][image]["stream"] = stream
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.use(load(settings))


def pushed(world: World, tag: str, image: str = "app") -> Release:
    place = Place(world.chain.registry("source"), f"team/{image}")
    return Release(image, tag, push_image(place, [LAYER, {"etc/note": tag}], tag=tag).digest)


def derived(world: World, release: Release, form: str) -> str:
    """The partition of what was derived of a release."""
    tag = f"{release.tag}-{form}"
    return world.key("app", tag, world.chain.find_release(f"app:{tag}").digest)


def test_a_release_is_indexed_before_it_is_scanned_and_its_neighbour_is_not(world: World, settings: Path) -> None:
    streaming(world, settings, min_layer_size="1KiB", span_size="64KiB")
    key = world.add("app", "v1", pushed(world, "v1").digest)
    result = world.run(key, "provenance", "streaming_index", "sbom")
    assert world.steps(result) == {"provenance": "ok", "streaming_index": "ok", "sbom": "ok"}
    [made] = result.asset_materializations_for_node("streaming_index")
    shown = {name: value.value for name, value in made.metadata.items()}
    assert (shown["layers"], shown["layers_indexed"], shown["platforms_indexed"]) == (2, 1, 1)
    assert shown["spans"] >= 3 and shown["index_bytes"] > shown["spans"] * 32_768
    assert "fetched by pieces" in shown["how_layers_are_fetched"] and "linux/amd64" in shown["how_layers_are_fetched"]
    [check] = result.get_asset_check_evaluations()
    assert check.asset_check_key.name == "streams" and check.partition == key
    again = world.run(key, "streaming_index")
    [made] = again.asset_materializations_for_node("streaming_index")
    assert made.metadata["action"].value == "unchanged" and made.metadata["changed"].value is False
    other = world.run(world.known("tool", "v1", {"calm": "2.0"}), "provenance", "streaming_index", "sbom")
    [check] = other.get_asset_check_evaluations()
    assert other.success and check.passed and "has no `stream`" in str(check.metadata["note"].value)


def test_a_layer_that_is_there_twice_is_a_warning_of_the_check(world: World, settings: Path) -> None:
    streaming(world, settings, min_layer_size="1KiB")
    place = Place(world.chain.registry("source"), "team/app")
    twice = push_image(place, [LAYER, {"a": "b"}, LAYER], tag="v1")
    result = world.run(world.add("app", "v1", twice.digest), "streaming_index")
    [check] = result.get_asset_check_evaluations()
    assert result.success and not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert "more than once" in str(check.description)


def test_what_is_pushed_is_converted_and_its_release_gets_the_run(world: World, settings: Path) -> None:
    before = pushed(world, "v1")
    streaming(world, settings, format="estargz")
    first = world.tick("convert", None)
    assert first.run_requests == [] and "1 image not converted, none new" in str(first.skip_reason)
    release = pushed(world, "v2")
    asked = world.tick("convert", first.cursor)
    [request] = asked.run_requests or []
    assert request.partition_key == "app" and request.run_config["ops"]["converted"]["config"]["tags"] == ["v2"]
    looked = world.tick("push_source", world.looked())
    assert looked.run_requests == []  # what was pushed is no release
    job = world.defs.resolve_job_def("convert")
    done = job.execute_in_process(instance=world.instance, partition_key="app", run_config=dict(request.run_config))
    [made] = done.asset_materializations_for_node("converted")
    key = derived(world, release, "estargz")
    assert made.asset_key == dg.AssetKey("converted") and made.metadata["layers_converted"].value == 2
    assert world.instance.get_dynamic_partitions("release") == [key]
    assert world.tick("convert", asked.cursor).run_requests == []
    [found] = world.tick("push_source", looked.cursor).run_requests or []
    assert found.partition_key == key
    result = world.run(key)
    assert result.success and world.reached(key) == {"eu-west-1", "gcp", "dmz", "airgap"}
    [index] = result.asset_materializations_for_node("streaming_index")
    assert "inside" in index.metadata["action"].value
    # Without tags: the newest that is not converted, here the one that was there before.
    assert job.execute_in_process(instance=world.instance, partition_key="app").success
    assert derived(world, before, "estargz") in world.instance.get_dynamic_partitions("release")
    failed = job.execute_in_process(instance=world.instance, partition_key="app", raise_on_error=False)
    [event] = [each for each in failed.all_events if each.is_step_failure]
    assert "everything of app is converted" in str(event.step_failure_data.user_failure_data)


def test_a_conversion_that_failed_is_asked_for_again_but_not_for_ever(world: World, settings: Path) -> None:
    streaming(world, settings, format="soci-v2")
    cursor = world.tick("convert", None).cursor
    pushed(world, "v1")
    asked = []
    for _ in range(5):
        found = world.tick("convert", cursor)
        cursor = found.cursor
        asked += [request.run_key for request in found.run_requests or []]
    assert len(asked) == len(set(asked)) == 3


def test_a_look_that_takes_too_long_goes_on_in_the_next(
    world: World, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the push sensor: Dagster ends a tick after a minute and forgets all of it."""
    monkeypatch.setattr(sensors, "LONGEST_LOOK_S", 0)
    for image in ("app", "tool"):
        pushed(world, "v1", image)
    streaming(world, settings, "app", "tool", format="soci-v2")
    asked, cursor = [], None
    for _ in range(2):
        found = world.tick("convert", cursor)
        assert "next time: " in str(found.skip_reason)
        cursor = found.cursor
    for image in ("app", "tool"):
        pushed(world, "v2", image)
    for _ in range(2):
        found = world.tick("convert", cursor)
        cursor = found.cursor
        asked.append([request.partition_key for request in found.run_requests or []])
    assert asked == [["app"], ["tool"]]
