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

# From the golden vectors: soci-snapshotter's structs, encoded by Go (image manifest before and after, OCI index).
LAYER = "sha256:b9d5ddda90e16677c5b78b978c81df84d0418d759f9996958f4eb92459ccc3a4"
SOCI_INDEX = "sha256:1af2f58838bf6aef6ed6edbc10a0c9df3d093a74df4c8c947f191ce43ee50533"
ORIGINAL = (
    '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    '"application/vnd.oci.image.config.v1+json","digest":'
    '"sha256:e4c7d10efd79d4791f569ba3096edca650deae093cb80654b2815f5814d90bac","size":163},"layers":[{"mediaType":'
    '"application/vnd.oci.image.layer.v1.tar+gzip","digest":"LAYER","size":82137}]}'
).replace("LAYER", LAYER)
CONVERTED = "sha256:6287e64d11e2b91f75401a5b1ecbc1151a6bb7512c366a9815377d78efc257f0"
CONVERTED_INDEX = (
    (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":'
        '"application/vnd.oci.image.manifest.v1+json","digest":"IMAGE","size":524,"annotations":'
        '{"com.amazon.soci.index-digest":"INDEX"},"platform":{"architecture":"amd64","os":"linux"}},{"mediaType":'
        '"application/vnd.oci.image.manifest.v1+json","digest":"INDEX","size":708,"annotations":'
        '{"com.amazon.soci.image-manifest-digest":"IMAGE"},"platform":{"architecture":"amd64","os":"linux"},'
        '"artifactType":"application/vnd.amazon.soci.index.v2+json"}]}'
    )
    .replace("IMAGE", CONVERTED)
    .replace("INDEX", SOCI_INDEX)
)
AMD64 = Platform(os="linux", architecture="amd64")


def stored(document: Any, media_type: str = media_types.OCI_MANIFEST) -> ManifestBytes:
    raw = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    return ManifestBytes(raw, media_type, Digest.of(raw))


def soci_index(size: int = 708) -> ManifestBytes:
    """Stands for the golden SOCI index: its digest and size."""
    return ManifestBytes(b" " * size, media_types.OCI_MANIFEST, Digest(SOCI_INDEX))


def remade(origin: ManifestBytes, platform: Platform = AMD64) -> Remade:
    return Remade(annotated_manifest(origin.raw, Digest(SOCI_INDEX)), platform, soci_index())


def test_a_single_image_is_converted_to_the_official_bytes() -> None:
    origin = stored(ORIGINAL)
    made = remade(origin)
    assert made.manifest.digest == CONVERTED
    [top] = converted_indexes(origin, {}, {origin.digest: made})
    assert top.raw.decode() == CONVERTED_INDEX


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
    assert image["annotations"] == {"team": "ml", "com.amazon.soci.index-digest": SOCI_INDEX}
    assert image["unknown"] == {"x": [1]} and untouched == lines[1] and another == lines[3]
    assert attestation["annotations"] == links | {"vnd.docker.reference.digest": made.manifest.digest}
    assert attestation["digest"] == lines[2]["digest"]
    assert soci["digest"] == SOCI_INDEX and soci["platform"] == image["platform"]
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
        {"mediaType": media_types.DOCKER_LAYER_GZIP, "digest": LAYER, "size": 5, "urls": ["https://x.example"]},
        {"mediaType": media_types.DOCKER_LAYER_GZIP, "digest": LAYER, "size": 5, "annotations": {"mine": "1"}},
    ]
    soci = annotated_manifest(json.dumps(document).encode(), Digest(SOCI_INDEX))
    found = read_manifest(soci.raw, media_type=media_types.OCI_MANIFEST)
    assert isinstance(found, Manifest) and found.config.media_type == media_types.OCI_CONFIG
    assert json.loads(soci.raw)["layers"] == document["layers"]
    assert json.loads(soci.raw)["annotations"] == {"team": "ml", "com.amazon.soci.index-digest": SOCI_INDEX}
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
