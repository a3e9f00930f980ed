"""``stream`` as a person calls it."""

from __future__ import annotations

from dataclasses import replace

from registry_pipelines.oci.digest import Digest
from tests.chain.fleet import Fleet
from tests.cli.on_fleet import answer, run
from tests.scan.images import push_image


def test_check_tells_of_a_layer_that_is_there_twice_for_a_release_and_for_any_image(fleet: Fleet) -> None:
    layer = {"app/data": b"x" * 5000}
    made = push_image(fleet.chain.place("app"), [layer, {"app/more": "y"}, layer], tag="v1")
    place = fleet.chain.place("app")
    for target in ("app:v1", "app", f"us/{place.repository}:v1", f"{place}@{made.digest}"):
        result = answer(fleet, "stream", "check", target)
        assert result["digest"] == made.digest and result["ok"] and result["facts"]["warnings"] == 1
        [twice] = [row for row in result["rows"] if row["severity"] == "warning"]
        assert twice["name"] == "repeated-layer" and twice["reader"] == "gke" and "layers 1, 3 of 3" in twice["what"]
    told = run(fleet, "stream", "check", "app:v1").stdout
    assert "1 warning" in told and "linux/amd64" in told and "GKE then fetches the whole image" in told


def test_check_ends_with_6_where_nothing_could_be_streamed(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    made = push_image(place, [{"a": "x"}], tag="v1")
    stored = place.registry.get_manifest(place.repository, made.digest)
    raw = stored.raw.replace(b"tar+gzip", b"tar+gzip+encrypted")
    place.registry.put_manifest(place.repository, replace(stored, raw=raw, digest=Digest.of(raw)), tag="v2")
    result = answer(fleet, "stream", "check", "app:v2", code=6)
    assert not result["ok"] and "the layer is encrypted" in result["reasons"][0]
    run(fleet, "stream", "check", "app:v3", code=4)
