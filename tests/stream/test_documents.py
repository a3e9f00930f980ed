"""Documents of converted images: the official converter's bytes where there is one image, and what it loses is kept."""

from __future__ import annotations

import json
from typing import Any

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes, read_manifest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.stream.documents import (
    Remade,
    annotated_manifest,
    config_with_layers,
    converted_indexes,
    manifest_with_layers,
)
from tests.ztoc_vectors import files

GOLDEN = {
    name: files()[f"soci-index/{name}.json"].decode()
    for name in ("image-manifest-original", "image-manifest-converted", "oci-index-converted", "soci-index-v2")
}
ORIGINAL = GOLDEN["image-manifest-original"]
AMD64 = Platform(os="linux", architecture="amd64")


def stored(document: Any, media_type: str = media_types.OCI_MANIFEST) -> ManifestBytes:
    raw = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    return ManifestBytes(raw, media_type, Digest.of(raw))


SOCI = stored(GOLDEN["soci-index-v2"])


def remade(origin: ManifestBytes, platform: Platform = AMD64) -> Remade:
    return Remade(annotated_manifest(origin.raw, SOCI.digest), platform, SOCI)


def test_a_single_image_is_converted_to_the_official_bytes() -> None:
    origin = stored(ORIGINAL)
    made = remade(origin)
    assert made.manifest.raw.decode() == GOLDEN["image-manifest-converted"]
    [top] = converted_indexes(origin, {}, {origin.digest: made})
    assert top.raw.decode() == GOLDEN["oci-index-converted"]


def test_links_of_attestations_and_annotations_of_lines_are_kept_and_follow_their_images() -> None:
    origin, other = stored(ORIGINAL), stored(ORIGINAL.replace("163", "164"))
    old_index = {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": str(Digest.of(b"old")),
        "size": 1,
        "annotations": {"com.amazon.soci.image-manifest-digest": origin.digest},
        "artifactType": media_types.SOCI_V2,
    }

    def line(manifest: Any, architecture: str, **more: Any) -> dict[str, Any]:
        platform = {"architecture": architecture, "os": "linux" if architecture != "unknown" else "unknown"}
        return {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": manifest,
            "size": 9,
            "platform": platform,
            **more,
        }

    links = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": origin.digest}
    unlinked = {"vnd.docker.reference.digest": other.digest}
    lines = [
        line(origin.digest, "amd64", annotations={"team": "ml"}, unknown={"x": [1]}),
        line(other.digest, "arm64"),
        line(Digest.of(b"attestation"), "unknown", annotations=links),
        line(Digest.of(b"another"), "unknown", annotations=unlinked),
        old_index,
    ]
    top = stored(
        {"schemaVersion": 2, "manifests": lines, "annotations": {"made": "by BuildKit"}, "unknown": 1},
        media_types.DOCKER_INDEX,
    )
    made = remade(origin)
    [index] = converted_indexes(top, {}, {origin.digest: made})
    document = json.loads(index.raw)
    assert (index.media_type, document["mediaType"]) == (media_types.OCI_INDEX,) * 2
    assert (document["annotations"], document["unknown"]) == ({"made": "by BuildKit"}, 1)
    image, untouched, attestation, another, soci = document["manifests"]
    assert image["digest"] == made.manifest.digest and image["size"] == len(made.manifest.raw)
    assert image["annotations"] == {"team": "ml", "com.amazon.soci.index-digest": SOCI.digest}
    assert image["unknown"] == {"x": [1]} and untouched == lines[1] and another == lines[3]
    assert attestation["annotations"] == links | {"vnd.docker.reference.digest": made.manifest.digest}
    assert attestation["digest"] == lines[2]["digest"]
    assert soci["digest"] == SOCI.digest and soci["platform"] == image["platform"]
    assert soci["annotations"] == {"com.amazon.soci.image-manifest-digest": made.manifest.digest}


def test_an_index_in_an_index_is_converted_before_the_one_that_names_it() -> None:
    origin = stored(ORIGINAL)
    inner = stored({"schemaVersion": 2, "manifests": [{**_plain(origin)}]}, media_types.OCI_INDEX)
    outer = stored({"schemaVersion": 2, "manifests": [{**_plain(inner)}]}, media_types.OCI_INDEX)
    first, top = converted_indexes(outer, {inner.digest: inner}, {origin.digest: remade(origin)})
    assert [entry["digest"] for entry in json.loads(top.raw)["manifests"]] == [first.digest]
    assert len(json.loads(first.raw)["manifests"]) == 2


def test_a_manifest_of_docker_becomes_one_of_oci_and_keeps_what_is_not_changed() -> None:
    document = json.loads(ORIGINAL) | {"annotations": {"team": "ml"}, "unknown": None, "mediaType": "x"}
    document["config"]["mediaType"] = media_types.DOCKER_CONFIG
    document["layers"] = [
        {
            "mediaType": media_types.DOCKER_LAYER_GZIP,
            "digest": Digest.of(b"layer"),
            "size": 5,
            "urls": ["https://x.example"],
        },
        {
            "mediaType": media_types.DOCKER_LAYER_GZIP,
            "digest": Digest.of(b"layer"),
            "size": 5,
            "annotations": {"mine": "1"},
        },
    ]
    soci = annotated_manifest(json.dumps(document).encode(), SOCI.digest)
    found = read_manifest(soci.raw, media_type=media_types.OCI_MANIFEST)
    assert isinstance(found, Manifest) and found.config.media_type == media_types.OCI_CONFIG
    assert json.loads(soci.raw)["layers"] == document["layers"]
    assert json.loads(soci.raw)["annotations"] == {"team": "ml", "com.amazon.soci.index-digest": SOCI.digest}
    assert list(json.loads(soci.raw))[:2] == ["schemaVersion", "mediaType"] and "unknown" in json.loads(soci.raw)
    new = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=Digest.of(b"new"), size=7, annotations={"toc": "2"})
    config = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(b"config"), size=8)
    raw = manifest_with_layers(json.dumps(document).encode(), config, {1: new}).raw
    made = read_manifest(raw)
    assert isinstance(made, Manifest) and made.config == config
    assert json.loads(raw)["layers"][0] == document["layers"][0]
    assert made.layers[1].annotations == {"mine": "1", "toc": "2"} and made.layers[1].digest == new.digest
    assert converted_indexes(stored(raw.decode()), {}, {stored(raw.decode()).digest: Remade(stored("{}"), AMD64)}) == []


def test_a_config_keeps_all_but_its_layers() -> None:
    text = (
        '{"os":"linux","config":{"Env":["A=\\u0001\\ud800"]},"rootfs":{"type":"layers","diff_ids":["x"]},'
        '"history":[{}],"n":1.0}'
    )
    diff_id = Digest.of(b"diff")
    made = config_with_layers(text.encode(), [diff_id]).decode()
    assert made == text.replace('["x"]', f'["{diff_id}"]')


def _plain(manifest: ManifestBytes) -> dict[str, Any]:
    return {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw)}
