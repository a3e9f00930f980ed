"""Images of the configuration whose layers are a package each, from the push to the channel."""

from __future__ import annotations

import marshal
import random
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import Keyring, trusted_keys
from registry_pipelines.cli import main
from registry_pipelines.errors import InputError, TagImmutable
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import key_name
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.stream.derivation import read_derivations
from registry_pipelines.stream.hot.contents import known_contents
from registry_pipelines.stream.hot.packs import find_packs
from registry_pipelines.stream.hot.recordings import publish_recording
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.lazy.opened import open_image
from registry_pipelines.stream.rechunk_record import RechunkRecord, attest_rechunk, read_rechunks
from tests.chain.fleet import Fleet, attach_provenance
from tests.chain.test_bundles import ACROSS, far_side
from tests.cli.on_fleet import answer, run
from tests.scan.images import push_image
from tests.stream.hot.packing import content, recording

SITE = "usr/lib/python3/site-packages"


def wheel(name: str, version: str, seed: int, size: int = 400_000) -> dict[str, bytes | str]:
    """An installed package of two files and a compiled module, which RECORD lists."""
    code = marshal.dumps(compile("x = 1\n", f"{name}.py", "exec"))
    pyc = MAGIC_NUMBER + (0).to_bytes(4, "little") + (0).to_bytes(4, "little") + (6).to_bytes(4, "little") + code
    files: dict[str, bytes | str] = {
        f"{SITE}/{name}/__init__.py": "x = 1\n",
        f"{SITE}/{name}/__pycache__/__init__.cpython-311.pyc": pyc,
        f"{SITE}/{name}/big.so": random.Random(seed).randbytes(size),
        f"{SITE}/{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    info = f"{SITE}/{name}-{version}.dist-info/RECORD"
    lines = [f"{path.removeprefix(SITE + '/')},," for path in (*files, info)]
    return {**files, info: "\n".join(lines) + "\n"}


BASE: dict[str, bytes | str] = {
    "etc/os-release": "ID=debian\nVERSION_ID=13\n",
    "usr/bin/tool": "#!/bin/sh\n",
    "root/.cache/pip/http/a": b"c" * 50_000,
}


def pushed(fleet: Fleet, tag: str, *, bumped: int = 1, code: str = "print(1)\n") -> Release:
    """What a team's CI pushes: one layer of all packages, as a Dockerfile makes it; with unsigned provenance."""
    place = fleet.chain.place("app")
    packages = {**wheel("torch", "2.0", 7, 900_000), **wheel("numpy", f"{bumped}.0", bumped)}
    made = push_image(place, [BASE, packages, {"app/main.py": code, "usr/bin/.wh.tool": ""}], tag=tag)
    attach_provenance(place, made)
    return Release("app", tag, made.digest)


def rechunked(fleet: Fleet, more: str = "{}", stream: str = "", policy: str = "") -> Chain:
    required = "policies: {default: {required: [provenance, sbom, vulnerabilities, signature, same-tree]}}\n"
    return fleet.reload(
        ("team/app,", f"team/app, promote: auto, rechunk: {more},{f' stream: {stream},' if stream else ''}"),
        *((("signing:", f"{required}signing:"),) if policy else ()),
    )


def records(place: Place, digest: str, fleet: Fleet) -> list[RechunkRecord]:
    known = read_attestations(place, Digest.parse(digest), trusted_keys(fleet.chain.config))
    return [record for record, _ in read_rechunks(known, Digest.parse(digest))[0]]


def layers(place: Place, tag: str) -> dict[str, int]:
    content = place.registry.get_manifest(place.repository, tag).content()
    assert isinstance(content, Manifest)
    return {layer.digest: layer.size for layer in content.layers}


def test_what_was_pushed_is_rechunked_between_build_and_scan_and_ships_with_its_provenance(fleet: Fleet) -> None:
    origin = pushed(fleet, "v1.0.0")
    chain = rechunked(fleet)
    shipment = answer(fleet, "ship", "app:v1.0.0")
    assert [stage["stage"] for stage in shipment["stages"]][:3] == ["rechunk", "provenance", "sbom"]
    assert all(stage["ok"] for stage in shipment["stages"]), shipment
    made = shipment["stages"][0]
    facts, [platform] = made["facts"], made["tables"]["platforms"]
    assert shipment["release"].startswith("app:v1.0.0-rechunked@") and facts["release"] == shipment["release"]
    assert facts["origin"] == shipment["stages"][1]["facts"]["origin"] == origin.digest
    assert facts["layers_before"] == 3 and facts["layers"] == len(made["rows"]) > 3 and facts["same_tree"]
    assert facts["pyc_rewritten"] == 2 and platform["tree"] == facts["trees"]
    contents = [row["contents"] for row in made["rows"]]
    assert {row["how"] for row in made["rows"]} == {"uploaded"} and contents[-1] == "(application)"
    place = chain.place("app")
    [record] = records(place, made["digest"], fleet)
    assert record.origin == origin.digest and record.platforms[0].origin_tree == record.platforms[0].tree
    assert [layer.contents for layer in record.platforms[0].layers] == contents
    again = answer(fleet, "ship", "app:v1.0.0-rechunked")
    assert "rechunk" not in [stage["stage"] for stage in again["stages"]] and again["release"] == shipment["release"]
    same = chain.rechunk("app", "v1.0.0")
    assert (same.changed, same.action, same.digest, same.bytes_moved) == (False, "unchanged", made["digest"], 0)
    # Both records go with every copy: they refer to what was made.
    for there in (chain.target_place("app", "eu"), chain.mirror_places("app", "airgap")[1]):
        assert records(there, made["digest"], fleet) == [record]
        known = read_attestations(there, Digest.parse(made["digest"]), trusted_keys(chain.config))
        assert [each.origin for each, _ in read_derivations(known, Digest.parse(made["digest"]))[0]] == [origin.digest]
    # And whoever looks at it is told.
    [told] = answer(fleet, "inspect", "app:v1.0.0-rechunked")["rechunked"]
    assert (told["origin"], told["tree"], told["same_tree"]) == (origin.digest, platform["tree"], True)
    assert told["signed_by"] == key_name(Keyring(chain.config).signer("indexer").key_id)
    assert answer(fleet, "inspect", f"{place}:v1.0.0")["rechunked"] == []
    by_nobody = CliRunner().invoke(main, ["inspect", f"{place}:v1.0.0-rechunked"], env={"COLUMNS": "250"})
    assert by_nobody.exit_code == 0 and "nobody whose key is trusted here" in by_nobody.output


def test_the_next_release_keeps_its_layers_and_moves_what_was_bumped_alone(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    chain = rechunked(fleet)
    first = chain.rechunk("app", "v1.0.0")
    place = chain.place("app")
    files = {**wheel("torch", "2.0", 7, 900_000), **wheel("numpy", "2.0", 2)}
    made = push_image(place, [BASE, files, {"app/main.py": "print(1)\n", "usr/bin/.wh.tool": ""}], tag="v1.1.0")
    second = chain.rechunk("app", "v1.1.0")
    assert second.facts["previous"] == first.digest and second.facts["origin"] == made.digest
    before, after = layers(place, "v1.0.0-rechunked"), layers(place, "v1.1.0-rechunked")
    new = sum(size for digest, size in after.items() if digest not in before)
    assert second.facts["new_bytes"] == new < sum(after.values())
    assert second.bytes_moved < new + 20_000 and f"{len(after)} layers" in second.action
    assert second.action.endswith("in none of the release before")


@pytest.mark.parametrize(
    ("form", "more"), [("soci-v2", ", min_layer_size: 100KiB"), pytest.param("estargz", "", marks=pytest.mark.long)]
)
def test_what_was_rechunked_is_converted_after_that_and_the_gate_follows_both_records(
    fleet: Fleet, form: str, more: str
) -> None:
    origin = pushed(fleet, "v1.0.0")
    chain = rechunked(fleet, stream=f"{{format: {form}{more}}}", policy="same-tree")
    shipment = answer(fleet, "ship", "app:v1.0.0")
    names = [stage["stage"] for stage in shipment["stages"]]
    assert names[:3] == ["rechunk", "convert", "provenance"] and all(stage["ok"] for stage in shipment["stages"])
    assert shipment["release"].startswith(f"app:v1.0.0-rechunked-{form}@")
    assert [each.tag for each in chain.releases(["app"])] == [f"v1.0.0-rechunked-{form}"]
    assert chain.origins("app") == {"v1.0.0": True}
    assert shipment["stages"][1]["facts"]["origin"] == shipment["stages"][0]["digest"]
    verdict = next(stage for stage in shipment["stages"] if stage["stage"] == "judge")
    told = "\n".join(row["text"] for row in verdict["rows"])
    assert f"that of {origin.digest}, which it was made of (rechunked and {form})" in told
    assert f"has the files of {origin.digest}, tree digest sha256:" in told
    with pytest.raises(InputError, match=r"v1\.0\.0-rechunked is no release of app"):
        chain.find_release("app:v1.0.0-rechunked")
    with pytest.raises(InputError, match="it was derived itself"):
        chain.rechunk("app", f"v1.0.0-rechunked-{form}")
    moved = pushed(fleet, "v1.1.0", code="print(2)\n")
    assert [stage["stage"] for stage in answer(fleet, "ship", "app:v1.1.0")["stages"]][:2] == ["rechunk", "convert"]
    assert moved.digest != origin.digest


def test_an_index_beside_what_was_rechunked(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    rechunked(fleet, stream="{min_layer_size: 100KiB}")
    stages = {stage["stage"]: stage for stage in answer(fleet, "ship", "app:v1.0.0")["stages"]}
    assert list(stages)[:3] == ["rechunk", "provenance", "index"]
    assert stages["index"]["facts"]["layers_indexed"] == 2 and stages["index"]["digest"] != stages["rechunk"]["digest"]


def test_files_that_were_left_out_are_told_and_a_policy_refuses_that(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    chain = rechunked(fleet, "{drop: [caches]}", policy="same-tree")
    shipment = answer(fleet, "ship", "app:v1.0.0", code=3)
    made = shipment["stages"][0]
    assert made["ok"] and not made["facts"]["same_tree"] and made["facts"]["dropped_bytes"] == 50_000
    assert "left out as asked: 1 file of 48.8 KiB (pip-cache)" in made["notes"][0]
    judged = next(stage for stage in shipment["stages"] if stage["stage"] == "judge")
    assert any(
        "has not all files of" in reason and "1 file of 48.8 KiB (pip-cache)" in reason for reason in judged["reasons"]
    )
    assert any("without `drop`" in step for step in judged["next_steps"])
    checked = chain.verify_rechunked("app")
    assert checked.ok and not checked.facts["same_tree"]  # what is missing is what the record says


def test_verify_reads_both_images_again_and_believes_no_record(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    chain = rechunked(fleet)
    made = chain.rechunk("app", "v1.0.0")
    checked = chain.verify_rechunked("app")
    assert checked.ok and checked.digest == made.digest and checked.facts["same_tree"]
    assert checked.rows[0]["tree"] == made.facts["trees"]
    # The indexer's own key says so of an image with another file: reading both finds it.
    place, signer = chain.place("app"), Keyring(chain.config).signer("indexer")
    [record] = records(place, made.digest, fleet)
    lying = push_image(place, [{"app/main.py": "print(666)\n"}], tag="v1.0.1-rechunked")
    pair = msgspec.structs.replace(record.platforms[0], rechunked=lying.digest)
    attest_rechunk(place, lying, msgspec.structs.replace(record, rechunked=lying.digest, platforms=(pair,)), signer)
    found = chain.verify_rechunked("app", "v1.0.1-rechunked")
    assert not found.ok and found.exit_code == 3 and found.action == "the files differ"
    assert any("the trees differ: " in reason for reason in found.reasons)
    assert any("the record says that the tree digest of what was made is" in reason for reason in found.reasons)


def test_a_tag_that_names_something_else_is_not_moved_and_nothing_is_signed(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    chain = rechunked(fleet)
    other = push_image(chain.place("app"), [{"a": "b"}], tag="v1.0.0-rechunked")
    with pytest.raises(TagImmutable, match=str(other.digest)):
        chain.rechunk("app", "v1.0.0")
    with pytest.raises(InputError, match=r"images\.tool has no `rechunk`"):
        chain.rechunk("tool", "v1.0.0")


def test_options_that_changed_make_another_image_which_wants_another_tag(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    chain = rechunked(fleet)
    chain.rechunk("app", "v1.0.0")
    other = fleet.reload(("rechunk: {}", "rechunk: {times: keep}"))
    with pytest.raises(TagImmutable):
        other.rechunk("app", "v1.0.0")


def test_the_command_does_what_the_configuration_says_and_verifies_who_ever_signed(fleet: Fleet) -> None:
    pushed(fleet, "v1.0.0")
    rechunked(fleet)
    made = answer(fleet, "rechunk", "app")
    assert made["facts"]["release"].startswith("app:v1.0.0-rechunked@") and made["changed"]
    place = fleet.chain.place("app")
    for target in (f"{place}:v1.0.0-rechunked", "app:v1.0.0-rechunked"):
        checked = answer(fleet, "rechunk", "--verify", target)
        assert checked["ok"] and checked["digest"] == made["digest"] and checked["facts"]["same_tree"]
    assert (
        "no record that a trusted indexer signed" in run(fleet, "rechunk", "--verify", f"{place}:v1.0.0", code=3).stderr
    )
    assert "nothing of app waits" in run(fleet, "rechunk", "app", code=8).stderr
    assert "stands in the configuration" in run(fleet, "rechunk", "app:v1.0.0", "--times", "keep", code=8).stderr
    assert "--verify makes none" in run(fleet, "rechunk", "--verify", "app", "--to", f"{place}:x", code=8).stderr
    # A plain reference: signed with the configuration's key, laid out as another image.
    pushed(fleet, "pr-8", code="print(8)\n")
    other = answer(fleet, "rechunk", f"{place}:pr-8", "--previous", f"{place}:v1.0.0-rechunked")
    assert other["facts"]["tag"] == "pr-8-rechunked" and "release" not in other["facts"]
    assert other["facts"]["previous"] == made["digest"] and other["facts"]["new_bytes"] < 2_000
    assert answer(fleet, "rechunk", "--verify", f"{place}:pr-8-rechunked")["ok"]


@pytest.mark.parametrize("stream", ["{format: soci-v2, ", pytest.param("{", marks=pytest.mark.long)])
def test_a_recording_of_what_was_pushed_is_that_of_what_was_made_and_nothing_is_run(fleet: Fleet, stream: str) -> None:
    origin = pushed(fleet, "v1.0.0")
    chain = rechunked(fleet, stream=stream + "min_layer_size: 100KiB, record: {until: exit}}")
    place, signer = chain.place("app"), Keyring(chain.config).signer("indexer")
    module = f"{SITE}/torch/__pycache__/__init__.cpython-311.pyc"
    sizes = {path: len(content) for path, content in wheel("torch", "2.0", 7, 900_000).items() if content}
    assert module in sizes
    started = known_contents(place, recording(origin.digest, {**sizes, "usr/bin/tool": 10}), state=chain.config.state)
    assert all(file.sha256 for file in started.files if file.path != "usr/bin/tool")
    publish_recording(place, place.registry.resolve(place.repository, origin.digest), started, signer)
    shipment = answer(fleet, "ship", "app:v1.0.0", "--until", "record")
    stages = {stage["stage"]: stage for stage in shipment["stages"]}
    assert stages["rechunk"]["facts"]["pyc_rewritten"] == 2
    [row] = stages["record"]["rows"]
    assert (row["how"], row["why"]) == ("taken over", "of what it was made of") and row["percent"] >= 90
    release = image_for(place, shipment["release"].partition("@")[2]).descriptor.digest
    [pack] = find_packs(place, release, trusted_keys(chain.config)).believed
    assert (pack.note.recorded, pack.note.pages) == (origin.digest, started.pages)
    assert pack.note.pages_found == started.pages - 1, "all but of the file that a later layer deletes"
    with open_image(
        place, release, state=fleet.folder / "node", verifier=trusted_keys(chain.config), log=print
    ) as opened:
        head = content(opened, module)[4:16]
        assert head[:4] == b"\x01\0\0\0", "the pack has the module as it was rewritten"
        assert len(content(opened, f"{SITE}/torch/big.so")) == 900_000
        count = opened.count(opened.note("v1", fleet.folder))
        assert count.pack_bytes > 900_000 and not count.demand_bytes


@pytest.mark.long
def test_a_bundle_brings_the_records_across_an_air_gap(fleet: Fleet, tmp_path: Path) -> None:
    origin = pushed(fleet, "v1.0.0")
    fleet.reload(ACROSS)
    chain = fleet.chain = rechunked(fleet)
    release = answer(fleet, "ship", "app:v1.0.0")["release"].partition("@")[2]
    push_image(Place(chain.registry("dmz"), "in/up/stream"), [{"a": "b"}], tag="1.0")
    assert chain.create_bundle("airgap", [tmp_path / "disk"]).ok
    far = far_side(fleet, chain)
    assert far.load_bundles("airgap", [tmp_path / "disk"]).ok
    there = Place(far.registry("private"), "in/team/app")
    [record] = records(there, release, fleet)
    assert record.origin == origin.digest and digest_at(there, record.origin) is None
