"""A policy of the configuration that requires a streaming index: what is denied, and what to type then."""

from __future__ import annotations

import json
import random

import pytest

from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.release import Release
from registry_pipelines.stream.signed_index import find_index
from tests.chain.fleet import Fleet
from tests.cli.on_fleet import answer, run
from tests.scan.images import push_image

POLICY = "policies: {default: {required: [streaming-index]}}\nsigning:"


@pytest.mark.parametrize(
    ("stream", "tag", "command"),
    [
        ("", "v1", "stream index app:v1"),
        ("soci-v1", "v1", "stream index app:v1"),
        ("estargz", "v1-estargz", "stream convert app:v1"),
        ("soci-v2", "v1-soci-v2", "stream convert app:v1"),
    ],
)
def test_a_release_without_an_index_is_denied_with_the_command_that_makes_one(
    fleet: Fleet, stream: str, tag: str, command: str
) -> None:
    place = fleet.chain.place("app")
    made = push_image(place, [{"a": "x"}], tag="small")
    stored = place.registry.get_manifest(place.repository, made.digest)
    document = json.loads(stored.raw)
    document["layers"][0]["size"] = 20 << 20
    raw = json.dumps(document).encode()
    place.registry.put_manifest(place.repository, ManifestBytes(raw, stored.media_type, Digest.of(raw)), tag=tag)
    wanted = f"targets: [eu, gcp], stream: {{format: {stream}}}}}" if stream else "targets: [eu, gcp]}"
    chain = fleet.reload(("signing:", POLICY), ("targets: [eu, gcp]}", wanted))
    judged = chain.judge(Release("app", tag, Digest.of(raw)))
    assert not judged.ok
    [reason] = [each for each in judged.reasons if each.startswith("streaming index")]
    assert "nothing that a trusted indexer signed covers layer" in reason
    assert f"registry-pipelines {command} --config {fleet.path}" in judged.next_steps


def test_a_release_of_small_layers_passes_it(fleet: Fleet) -> None:
    made = push_image(fleet.chain.place("app"), [{"a": "x"}], tag="v1")
    assert fleet.reload(("signing:", POLICY)).judge(Release("app", "v1", made.digest)).ok


@pytest.mark.parametrize("form", ["soci-v1", "soci-v2", "estargz"])
def test_what_the_commands_make_passes_the_check_and_the_policy_and_what_is_spoilt_does_not(
    fleet: Fleet, form: str
) -> None:
    """Of a release of 11 MiB that does not compress."""
    place = fleet.chain.place("app")
    made = push_image(place, [{"app/data": random.Random(1).randbytes(11 << 20)}, {"app/run": "x"}], tag="v1")
    chain = fleet.reload(("signing:", POLICY), ("gcp]}", f"gcp], stream: {{format: {form}}}}}"))
    if form == "soci-v1":
        wanted = Release("app", "v1", made.digest)
        unsure = answer(fleet, "stream", "check", "app:v1")
        assert unsure["rows"][0]["name"] == "no-index"
        answer(fleet, "stream", "index", "app:v1")
    else:
        wanted = Release.parse(answer(fleet, "stream", "convert", "app:v1")["facts"]["release"])
    for options in ([], ["--every-span"]):
        told = answer(fleet, "stream", "check", f"app:{wanted.tag}", *options)
        assert told["ok"] and not told["facts"]["warnings"] and not told["facts"]["errors"]
        assert {row["name"] for row in told["rows"]} <= {"gke-registry", "soci-v1-only"}
        first = told["tables"]["layers"][0]
        assert first["form"] == form and first["spans"] >= 3 and first["index_bytes"] > 0
    assert chain.judge(wanted).ok
    if form == "estargz":
        return
    [image] = read_images(place, place.registry.get_manifest(place.repository, wanted.digest))
    [index] = find_index(place, image.digest, trusted_keys(chain.config)).signed
    place.registry.delete_blob(place.repository, index.manifest.layers[0].digest)
    spoilt = answer(fleet, "stream", "check", f"app:{wanted.tag}", code=6)
    assert "a part of the index is not here" in spoilt["reasons"][0]
    assert "its part of the index is gone" in "".join(fleet.reload().judge(wanted).reasons)
    assert "a part of the index is not here" in run(fleet, "stream", "check", f"app:{wanted.tag}", code=6).stdout
