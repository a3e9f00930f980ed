"""What a registry takes and some client cannot start: each kind of warning, on an image that has it and on others."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.estargz_footer import footer
from registry_pipelines.oci.manifests import Descriptor, Index, ManifestBytes, manifest_bytes
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import BytesSource, push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.image_warnings import (
    SOCI_ANNOTATION,
    footer_warnings,
    more_warnings,
    warnings_of,
)
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import KINDS, WarningId, summed
from tests.doubles.containerd import containerd
from tests.scan.images import make_tar

TAR = make_tar({"who": b"x"})
GZIP, RAW = media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER
AMD64 = {"os": "linux", "architecture": "amd64"}
TOC = {TOC_ANNOTATION: "sha256:" + "1" * 64}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with EmbeddedServer(tmp_path / "registry") as server:
        yield Place(DistributionRegistry(server.address, plain_http=True), "some/app")


def layer(place: Place, *, content: bytes = TAR, kind: str = RAW, **more: Any) -> dict[str, Any]:
    pushed = push_blob(place, content, media_type=kind)
    return {"mediaType": kind, "digest": pushed.digest, "size": pushed.size, **more}


def image(
    place: Place,
    layers: Sequence[dict[str, Any]] | None = None,
    *,
    config: dict[str, Any] | None = None,
    config_type: str = media_types.OCI_CONFIG,
    kind: str = media_types.OCI_MANIFEST,
    **more: Any,
) -> Descriptor:
    """A manifest as JSON, so that it can be wrong in every way."""
    layers = [layer(place)] if layers is None else layers
    shape = {**AMD64, "rootfs": {"type": "layers", "diff_ids": [Digest.of(TAR)] * len(layers)}, **(config or {})}
    pushed = push_blob(place, json.dumps(shape).encode(), media_type=config_type)
    described = {"mediaType": config_type, "digest": pushed.digest, "size": pushed.size}
    document = {"schemaVersion": 2, "mediaType": kind, "config": described, "layers": layers, **more}
    raw = json.dumps(document).encode()
    place.registry.put_manifest(place.repository, ManifestBytes(raw, kind, Digest.of(raw)))
    return Descriptor(media_type=kind, digest=Digest.of(raw), size=len(raw))


def index(place: Place, *lines: tuple[Descriptor, dict[str, Any]]) -> Descriptor:
    children = tuple(
        Descriptor(
            media_type=more.get("media_type", child.media_type),
            digest=child.digest,
            size=child.size,
            platform=more.get("platform", Platform(**AMD64)),
            annotations=more.get("annotations"),
        )
        for child, more in lines
    )
    made = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=children))
    place.registry.put_manifest(place.repository, made)
    return made.descriptor


def sha512(place: Place) -> dict[str, Any]:
    digest = Digest.of(TAR, "sha512")
    named = Descriptor(media_type=RAW, digest=digest, size=len(TAR))
    place.registry.upload_blob(place.repository, named, BytesSource(TAR))
    return {"mediaType": RAW, "digest": digest, "size": len(TAR)}


def again_by_sha512(place: Place, descriptor: Descriptor) -> Descriptor:
    raw = place.registry.get_manifest(place.repository, descriptor.digest).raw
    stored = ManifestBytes(raw, descriptor.media_type, Digest.of(raw, "sha512"))
    place.registry.put_manifest(place.repository, stored)
    return stored.descriptor


def not_stored(size: int, kind: str = GZIP) -> dict[str, Any]:
    return {"mediaType": kind, "digest": "sha256:" + "2" * 64, "size": size}


WRONG: dict[WarningId, Callable[[Place], Descriptor]] = {
    "several-images": lambda at: index(
        at, (image(at, n=1), {"platform": Platform(**AMD64, variant="v3")}), (image(at, n=2), {})
    ),
    "platform-disagrees": lambda at: index(at, (image(at, config={"architecture": "arm64"}), {})),
    "platform-spelling": lambda at: index(at, (image(at), {"platform": Platform(os="linux", architecture="x86_64")})),
    "image-of-no-platform": lambda at: index(
        at, (image(at), {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
    ),
    "image-with-artifact-type": lambda at: image(at, artifactType="application/vnd.example"),
    "config-type": lambda at: image(at, config_type="application/octet-stream"),
    "odd-entry-type": lambda at: index(at, (image(at), {"media_type": "application/vnd.example"})),
    "mixed-types": lambda at: image(at, kind=media_types.DOCKER_MANIFEST),
    "sha512-layer": lambda at: image(at, [sha512(at)]),
    "sha512-manifest": lambda at: again_by_sha512(at, image(at)),
    "diff-ids": lambda at: image(at, config={"rootfs": {"diff_ids": []}}),
    "config-unreadable": lambda at: image(at, config={"rootfs": 3}),
    "config-without-platform": lambda at: image(at, config={"os": "", "architecture": ""}),
    "expires-by-label": lambda at: image(at, config={"config": {"Labels": {"quay.expires-after": "2w"}}}),
    "odd-layer-type": lambda at: image(at, [layer(at, kind="application/octet-stream")]),
    "no-layers": lambda at: image(at, []),
    "repeated-layer": lambda at: image(at, [layer(at)] * 2),
    "many-layers": lambda at: image(at, [layer(at, content=b"%d" % n) for n in range(126)]),
    "large-layer": lambda at: image(at, [not_stored(8_000_000_001)]),
    "foreign-layer": lambda at: image(at, [layer(at, urls=["https://example.com/layer"])]),
    "soci-index-missing": lambda at: image(at, annotations={SOCI_ANNOTATION: "sha256:" + "3" * 64}),
    "zstd-under-soci": lambda at: image(
        at, [layer(at, kind=media_types.OCI_LAYER_ZSTD)], annotations={SOCI_ANNOTATION: image(at).digest}
    ),
    "estargz-partly": lambda at: image(at, [layer(at, kind=GZIP, annotations=TOC), layer(at, content=b"x", kind=GZIP)]),
}
"""Embedded registries take all of these."""

ELSEWHERE: set[WarningId] = {
    "soci-v1-only", "cosign-copied", "estargz-no-annotation", "estargz-no-footer"
}  # fmt: skip
"""Shown by tests of their own."""


def told(place: Place, top: Descriptor) -> set[WarningId]:
    entries = read_entries(place, place.registry.get_manifest(place.repository, top.digest))
    return {each.id for each in warnings_of(place, entries)}


@pytest.mark.parametrize("kind", WRONG)
def test_an_image_that_has_it_is_warned_of(place: Place, kind: WarningId) -> None:
    also: set[WarningId] = {"several-images"} if kind == "platform-spelling" else set()
    assert told(place, WRONG[kind](place)) == {kind} | also


def test_an_ordinary_image_has_no_warning(place: Place) -> None:
    arm = image(place, config={"architecture": "arm64"})
    soci = image(place, n=2)
    annotated = image(place, annotations={SOCI_ANNOTATION: soci.digest})
    assert told(place, image(place)) == set()
    top = index(place, (annotated, {}), (arm, {"platform": Platform(os="linux", architecture="arm64", variant="v8")}))
    assert told(place, top) == set()


def test_every_kind_is_shown_and_has_a_dated_source() -> None:
    assert set(KINDS) == set(get_args(WarningId)) == set(WRONG) | ELSEWHERE
    for name, kind in KINDS.items():
        assert kind.text and kind.do, name
        assert re.search(r"20\d\d|issue \d+|image-spec 1|docs/", kind.source), name


def test_an_image_under_its_own_list_of_referrers_and_old_soci_indexes(place: Place) -> None:
    top = image(place)
    stored = place.registry.get_manifest(place.repository, top.digest)
    entries = read_entries(place, stored)
    assert more_warnings(place, entries, referrers=[(top.digest, "text/plain")]) == []
    place.registry.put_manifest(place.repository, stored, tag=top.digest.fallback_tag)
    warnings = more_warnings(place, entries, referrers=[(top.digest, media_types.SOCI_V1)])
    assert [each.id for each in warnings] == ["cosign-copied", "soci-v1-only"]


def test_estargz_footers_are_compared_with_annotations(place: Place) -> None:
    whole = layer(place, content=bytes(100) + footer(0), kind=GZIP, annotations=TOC)
    lost = layer(place, content=bytes(101) + footer(0), kind=GZIP)
    false = layer(place, content=bytes(200), kind=GZIP, annotations=TOC)
    alike = layer(place, content=bytes(132) + b"STARGZ" + bytes(13), kind=GZIP)
    plain = [layer(place, content=bytes(201), kind=GZIP), alike, layer(place, content=b"short", kind=GZIP)]
    top = image(place, [whole, lost, false, *plain])
    entries = read_entries(place, place.registry.get_manifest(place.repository, top.digest))
    warnings = footer_warnings(place, entries)
    assert [(each.id, each.detail) for each in warnings] == [
        ("estargz-no-annotation", Digest(lost["digest"]).short),
        ("estargz-no-footer", Digest(false["digest"]).short),
    ]


def test_warnings_of_one_kind_are_one_sentence(place: Place) -> None:
    lines = [(image(place, [], n=number), {}) for number in range(3)]
    top = index(place, *lines)
    entries = read_entries(place, place.registry.get_manifest(place.repository, top.digest))
    sentences = summed([each for each in warnings_of(place, entries) if each.id == "no-layers"])
    assert list(sentences) == ["no-layers"]
    assert sentences["no-layers"].endswith(f"({lines[0][0].digest.short} and 2 more)")


REFUSED_BY_CONTAINERD = {
    "sha512-layer": "unexpected commit digest",
    "diff-ids": "mismatched image rootfs and manifest layers",
    "odd-layer-type": "mismatched image rootfs and manifest layers",
    "odd-entry-type": "unexpected media type",
}


@pytest.mark.peer("containerd")
def test_containerd_refuses_what_is_said_to_be_refused(place: Place, peer: Callable[[str], str]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ctr-") as folder,
        containerd(peer("containerd"), peer("ctr-remote"), Path(folder)) as ctr,
    ):
        where = f"{place.registry.name}/{place.repository}"
        ctr("images", "pull", "--plain-http", f"{where}@{image(place).digest}")
        for kind, error in REFUSED_BY_CONTAINERD.items():
            top = WRONG[kind](place)  # type: ignore[index]
            with pytest.raises(AssertionError, match=error):
                ctr("--namespace", kind, "images", "pull", "--plain-http", f"{where}@{top.digest}")


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize("kind", ["mixed-types", "sha512-layer"])
def test_skopeo_refuses_what_is_said_to_be_refused(
    place: Place, peer: Callable[[str], str], tmp_path: Path, kind: WarningId
) -> None:
    command = [peer("skopeo"), "copy", "--src-tls-verify=false"]
    where = f"docker://{place.registry.name}/{place.repository}@"
    assert subprocess.run([*command, f"{where}{image(place).digest}", f"dir:{tmp_path}/good"]).returncode == 0
    bad = subprocess.run([*command, f"{where}{WRONG[kind](place).digest}", f"dir:{tmp_path}/bad"], capture_output=True)
    assert bad.returncode != 0
