"""A policy of the configuration that requires a streaming index: what is denied, and what to type then."""

from __future__ import annotations

import json

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet
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
