"""What is inside a release, in Dagster: numbers that are charted, a picture, and checks with the policy's limits."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from registry_pipelines.config import load
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.predicates import IMAGE_ADVICE_TYPE
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advice.document import signed_advice
from tests.scan.images import DEBIAN, Files, dist_info, push_image

if TYPE_CHECKING:
    from conftest import World

CACHE: Files = {"root/.cache/pip/wheel": b"w" * 50_000, "app/main.py": b"print()"}


def test_a_release_tells_what_is_inside_without_a_layer_that_the_scan_read(world: World) -> None:
    place = Place(world.chain.registry("source"), "team/app")
    push_image(place, [DEBIAN, dist_info("calm", "1.0"), {"app/main.py": b"old" * 500}], tag="v0")
    image = push_image(place, [DEBIAN, dist_info("calm", "1.0"), CACHE], tag="v1")
    key = world.add("app", "v1", image.digest)
    assert world.run(key, "sbom").success
    manifest = place.registry.get_manifest("team/app", image.digest).content()
    assert isinstance(manifest, Manifest)
    for layer in manifest.layers:
        place.registry.delete_blob("team/app", layer.digest)
    result = world.run(key, "image_advice")
    [made] = result.asset_materializations_for_node("image_advice")
    shown = {name: value.value for name, value in made.metadata.items()}
    assert shown["layers_read"] == 0 and shown["layer_count"] == 3 and shown["layers_rows"] == 3
    assert shown["moved_bytes"] == manifest.layers[2].size and shown["wasted_bytes"] > 0
    assert shown["application_bytes"] + shown["base_OS_bytes"] + shown["dependencies_bytes"] == shown["unpacked_bytes"]
    assert "v1" in shown["what_releases_moved"] and "█" in shown["what_releases_moved"]
    said, _, data = shown["picture"].partition("](data:image/png;base64,")
    assert "app:v1" in said and base64.b64decode(data.rstrip(")")).startswith(b"\x89PNG")
    [check] = result.get_asset_check_evaluations()
    assert check.passed and check.partition == key and "no `image_advice`" in str(check.metadata["note"].value)
    verifier = world.chain._session.verifier()
    [attested] = read_attestations(place, image.digest, verifier).of_type(IMAGE_ADVICE_TYPE)
    assert [row.kind for row in signed_advice(attested).platforms[0].advice] == ["pip-cache", "root-user"]
    [again] = world.run(key, "image_advice").asset_materializations_for_node("image_advice")
    assert again.metadata["changed"].value is False


def test_an_image_whose_config_names_no_platform_has_advice(world: World) -> None:
    place = Place(world.chain.registry("source"), "team/app")
    push_image(place, [DEBIAN, dist_info("calm", "1.0")], tag="v0", architecture="")
    image = push_image(place, [DEBIAN, dist_info("calm", "1.0"), CACHE], tag="v1", architecture="")
    told = world.chain.image_advice(world.chain.release_of_key(world.add("app", "v1", image.digest)))
    assert told.facts["platform"] == "unnamed" and told.facts["moved_bytes"] > 0


def test_limits_of_the_policy_are_a_check_and_the_verdict_has_the_advice(world: World, settings: Path) -> None:
    raw = yaml.safe_load(settings.read_text())
    name = raw["images"]["app"].get("policy", "default")
    raw.setdefault("policies", {}).setdefault(name, {})["image_advice"] = {"deny": ["pip-cache"]}
    settings.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.use(load(settings))
    place = Place(world.chain.registry("source"), "team/app")
    image = push_image(place, [DEBIAN, dist_info("calm", "1.0"), CACHE], tag="v1")
    result = world.run(world.add("app", "v1", image.digest))
    checks = {each.asset_check_key.asset_key.to_user_string(): each for each in result.get_asset_check_evaluations()}
    assert not checks["image_advice"].passed and "pip-cache" in str(checks["image_advice"].description)
    assert world.steps(result)["image_advice"] == "ok" and not checks["verdict"].passed
    assert "pip-cache" in str(checks["verdict"].description)
