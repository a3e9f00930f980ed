"""``stream`` as a person calls it."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from registry_pipelines.chain.keys import Keyring, trusted_keys
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from registry_pipelines.stream.derivation import Derivation, attest_derivation
from registry_pipelines.stream.standing import read_standing
from tests.chain.fleet import Fleet, attach_provenance
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


DERIVED = ("team/app, targets", "team/app, stream: {format: estargz}, targets")


def test_where_releases_are_derived_the_pushed_tag_is_none(fleet: Fleet) -> None:
    for tag in ("v1.9.0", "v1.10.0", "v2.0.0-rc1", "pr-7"):
        fleet.release(tag)
    place = fleet.chain.place("app")
    assert [each.tag for each in fleet.chain.releases(["app"])] == ["v1.10.0", "v1.9.0", "v2.0.0-rc1"]
    chain = fleet.reload(DERIVED)
    assert list(chain.releases(["app"])) == []
    assert chain.origins("app") == {"v2.0.0-rc1": False, "v1.10.0": False, "v1.9.0": False}
    assert chain.origins("tool") == {}
    stored = place.registry.get_manifest(place.repository, "v1.9.0")
    for tag in ("v1.9.0-estargz", "v1.9.0-soci-v2", "pr-7-estargz"):
        place.registry.put_manifest(place.repository, stored, tag=tag)
    assert [each.tag for each in chain.releases(["app"])] == ["v1.9.0-estargz"]
    assert chain.origins("app") == {"v2.0.0-rc1": False, "v1.10.0": False, "v1.9.0": True}
    assert chain.find_release("app").tag == "v1.9.0-estargz"
    for command in ("judge", "promote", "sbom", "verify"):
        told = run(fleet, command, "app:v1.10.0", code=8).stderr
        assert "v1.10.0 is no release of app" in told and "stream convert app:v1.10.0" in told
    run(fleet, "tag", "us/team/app:pr-7", "v1.11.0", code=6)
    run(fleet, "tag", "us/team/app:pr-7", "v1.11.0-estargz", code=6)


def test_status_lists_what_was_pushed_and_is_no_release_yet(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    fleet.reload(DERIVED)
    [status] = answer(fleet, "status", "app", code=3)["images"]
    assert status["newer"][0]["tag"] == "v1.0.0" and "stream convert app:v1.0.0" in status["newer"][0]["why"]
    assert "v1.0.0: not converted" in run(fleet, "status", "app", code=3).stdout


LARGE = {"usr/lib/big.so": random.Random(7).randbytes(300_000), "usr/bin/app": "#!/bin/sh\n"}
INDEXED = ("team/app, targets", "team/app, promote: auto, stream: {min_layer_size: 100KiB}, targets")


def test_a_scan_keeps_records_of_layers_where_somebody_will_index_them(fleet: Fleet) -> None:
    fleet.chain.sbom(fleet.release("v1.0.0"))
    folder = fleet.config.state / "layers"
    spans = {path.name.rpartition("-")[2] for path in folder.glob("v*/*/*-*")}
    assert spans == {"0"}, "nobody asked for the hashes of files: listings alone"
    fleet.reload(INDEXED).sbom(fleet.release("v2.0.0"))
    assert {path.name.rpartition("-")[2] for path in folder.glob("v*/*/*-*")} > spans


METADATA = {"usr/lib/python3/site-packages/goodwheel-1.0.dist-info/METADATA": "Name: goodwheel\nVersion: 1.0\n"}


def large(fleet: Fleet, tag: str) -> Release:
    """A release of two layers, one of which is worth an index; with unsigned provenance."""
    place = fleet.chain.place("app")
    made = push_image(place, [LARGE, METADATA], tag=tag)
    attach_provenance(place, made)
    return Release("app", tag, made.digest)


def test_who_ships_an_image_without_stream_up_to_its_index_is_told_that_there_is_none(fleet: Fleet) -> None:
    large(fleet, "v1.0.0")
    assert "no `stream`" in answer(fleet, "ship", "app:v1.0.0", "--until", "index")["stages"][-1]["action"]
    assert "index" not in [stage["stage"] for stage in answer(fleet, "ship", "app:v1.0.0")["stages"]]


def test_an_index_is_made_once_stands_in_status_and_goes_with_every_copy(fleet: Fleet) -> None:
    release = large(fleet, "v1.0.0")
    chain = fleet.reload(INDEXED)
    shipment = answer(fleet, "ship", "app:v1.0.0")
    names = [stage["stage"] for stage in shipment["stages"]]
    assert names[:3] == ["provenance", "index", "sbom"] and shipment["release"] == release.key
    indexed = shipment["stages"][1]
    assert indexed["changed"] and indexed["facts"]["layers_indexed"] == 1 and indexed["facts"]["platforms_indexed"] == 1
    assert [row["how"] for row in indexed["rows"]] == ["uploaded", "skipped"] and "less than" in indexed["rows"][1][
        "why"
    ]
    [stage] = [each for each in answer(fleet, "ship", "app:v1.0.0")["stages"] if each["stage"] == "index"]
    assert (stage["changed"], stage["action"], stage["digest"]) == (False, "unchanged", indexed["digest"])
    [status] = answer(fleet, "status", "app")["images"]
    assert status["streams"]["formats"] == ["soci-v1"] and status["streams"]["covered"] == 1
    assert "soci-v1" in run(fleet, "status", "app").stdout and "soci-v1" in run(fleet, "releases", "app").stdout
    assert chain.page(release).facts["index_bytes"] == status["streams"]["index_bytes"] > 0
    for place in (
        chain.target_place("app", "eu"),
        chain.target_place("app", "gcp"),
        chain.mirror_places("app", "airgap")[1],
    ):
        assert read_standing(place, release.digest, trusted_keys(chain.config)).formats == ("soci-v1",)


@pytest.mark.parametrize(("form", "more"), [("soci-v2", ", min_layer_size: 100KiB"), ("estargz", "")])
def test_what_is_derived_is_what_ships_with_the_provenance_of_its_origin(fleet: Fleet, form: str, more: str) -> None:
    origin = large(fleet, "v1.0.0")
    fleet.reload(("team/app,", f"team/app, promote: auto, stream: {{format: {form}{more}}},"))
    shipment = answer(fleet, "ship", "app:v1.0.0")
    assert [stage["stage"] for stage in shipment["stages"]][:3] == ["convert", "provenance", "sbom"]
    assert all(stage["ok"] for stage in shipment["stages"])
    tag, digest = shipment["release"].partition(":")[2].split("@")
    assert tag == f"v1.0.0-{form}" and digest != origin.digest
    assert shipment["stages"][1]["facts"]["origin"] == origin.digest
    [status] = answer(fleet, "status", "app")["images"]
    assert (status["tag"], status["digest"], status["newer"]) == (tag, digest, [])
    assert status["streams"]["formats"] == [form]
    assert status["places"] == dict.fromkeys(("eu", "gcp", "airgap"), "same")
    again = answer(fleet, "ship", "app:v1.0.0")
    assert not any(stage["changed"] for stage in again["stages"]) and again["release"] == shipment["release"]
    assert answer(fleet, "stream", "convert", "app:v1.0.0")["action"] == "unchanged"
    assert "inside" in answer(fleet, "stream", "index", f"app:{tag}")["action"]
    assert "everything of app is converted" in run(fleet, "stream", "convert", "app", code=8).stderr


def test_of_several_origins_the_one_that_has_provenance_is_told(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    proven, made = fleet.release("v1.0.0"), fleet.release("v1.0.1", package="other", provenance=False)
    bare = [fleet.release(f"v0.{each}.0", package=f"bare{each}", provenance=False) for each in range(4)]
    subject = place.registry.resolve(place.repository, made.digest)
    signer = Keyring(fleet.config).signer("indexer")
    for each in (bare[0], proven, *bare[1:]):
        attest_derivation(
            place,
            subject,
            Derivation(
                origin=each.digest, derived=made.digest, format="estargz", options={}, platforms=(), tool="test"
            ),
            signer,
        )
    result = fleet.chain.provenance(made)
    assert (result.facts["statements"], result.facts["origin"]) == (1, proven.digest)


def test_a_derived_release_of_which_nothing_can_be_converted_is_the_image_as_it_is(fleet: Fleet) -> None:
    origin = large(fleet, "v1.0.0")
    fleet.reload(("team/app, targets", "team/app, stream: {format: soci-v2}, targets"))
    result = answer(fleet, "stream", "convert", "app:v1.0.0")
    assert result["facts"]["release"] == f"app:v1.0.0-soci-v2@{origin.digest}" and result["changed"]
    assert result["action"] == "nothing to convert" and result["notes"]
    assert answer(fleet, "stream", "convert", "app:v1.0.0")["changed"] is False
    assert answer(fleet, "releases", "app")[0]["tag"] == "v1.0.0-soci-v2"


def test_any_image_is_indexed_and_converted_with_a_key_of_ones_own(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fleet.folder)
    place = replace(fleet.chain.place("app"), repository="other/pushed")
    push_image(place, [LARGE], tag="v1")
    target, key = f"us/{place.repository}:v1", ("--key", "indexer.key")
    run(fleet, "sign", "--generate-key", *key)
    small = ("--min-layer-size", "100KiB")
    first, again = (answer(fleet, "stream", "index", target, *key, *small) for _ in range(2))
    assert (first["changed"], again["changed"]) == (True, False) and first["rows"][0]["spans"] >= 1
    assert answer(fleet, "stream", "convert", target, *key, "--format", "estargz")["changed"]
    assert set(place.registry.tags(place.repository)) == {"v1", "v1-estargz"}
    assert answer(fleet, "stream", "check", f"{target}-estargz")["ok"]
    for keys, said in ((), True), (("--key", "indexer.pub"), False):
        rows = answer(fleet, "stream", "check", target, *keys)["rows"]
        assert bool({"index-unsigned", "index-unverified"} & {row["name"] for row in rows}) is said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("convert", "us/other/pushed:v1"), "--format is missing"),
        (("convert", "us/other/pushed:v1", "--format", "estargz", "--span-size", "1MiB"), "format estargz makes none"),
        (("index", "app:v1.0.0", "--span-size", "1MiB"), "images.app.stream of the configuration says this"),
        (("index", "app:v1.0.0", "--key", "x"), "is signed with the configuration's key"),
        (("convert", "app:v1.0.0"), "nothing says what app is to be converted to"),
        (("convert", "app@sha256:12", "--format", "estargz"), "names no tag alone"),
        (("index", "us/other/pushed:v1", "--span-size", "1KiB"), "--span-size 1KiB is not between 64KiB and 1GiB"),
    ],
)
def test_what_cannot_be_meant_is_told_before_a_layer_is_read(
    fleet: Fleet, arguments: tuple[str, ...], said: str
) -> None:
    large(fleet, "v1.0.0")
    fleet.reload(INDEXED)
    assert said in run(fleet, "stream", *arguments, code=8).stderr.replace("\n", " ")


def test_without_the_indexers_key_nothing_is_read_or_written(fleet: Fleet) -> None:
    large(fleet, "v1.0.0")
    fleet.reload(INDEXED, ("signing: {generate: true}", "signing: {generate: true, indexer: {trusted: [other.pub]}}"))
    told = run(fleet, "stream", "index", "app:v1.0.0", code=8).stderr
    assert "no key of the indexer" in told and not (fleet.chain.config.state / "layers").exists()
