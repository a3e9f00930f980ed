"""One tag, several images: whatever some client could start is scanned and judged, however the index calls it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence

import msgspec
import pytest

from registry_pipelines.errors import LayerInvalid, ManifestInvalid, PromotionDenied, RegistryPipelinesError
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.cyclonedx import read_cyclonedx
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, Report
from tests.chain.entries import AMD64, NOWHERE, V2, entry, index, release
from tests.chain.fleet import Fleet
from tests.scan.images import dist_info, make_tar

SAYS_ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "sha256:00"}


def untyped(place: Place, rewrite: Callable[[bytes], bytes]) -> Descriptor:
    """An image whose config is called anything; programs written in Go read it all the same."""
    return entry(place, "badwheel", config_type="application/octet-stream", rewrite=rewrite)


def stored(place: Place, line: Descriptor) -> ManifestBytes:
    return place.registry.get_manifest(place.repository, line.digest)


HIDDEN: dict[str, Callable[[Place], Sequence[Descriptor]]] = {
    "a variant of the platform": lambda at: [entry(at, "badwheel", platform=V2)],
    "a second entry of the platform": lambda at: [entry(at, "badwheel")],
    "no platform": lambda at: [entry(at, "badwheel", platform=None)],
    "a platform that nobody asks for": lambda at: [entry(at, "badwheel", platform=NOWHERE)],
    "a nested index": lambda at: [index(at, entry(at, "badwheel"))],
    "the same nested index twice": lambda at: [index(at, entry(at, "badwheel"))] * 2,
    "annotations of an attestation": lambda at: [
        entry(at, "badwheel", platform=NOWHERE, annotations=SAYS_ATTESTATION),
    ],
    "an artifactType": lambda at: [entry(at, "badwheel", artifact_type="application/vnd.example")],
    "the artifactType of a SOCI index": lambda at: [entry(at, "badwheel", artifact_type=media_types.SOCI_V2)],
    "a config without a type": lambda at: [entry(at, "badwheel", config_type="application/octet-stream")],
    "a config of another type": lambda at: [entry(at, "badwheel", config_type="application/vnd.example+json")],
    "a null in its history": lambda at: [untyped(at, lambda raw: raw[:-1] + b',"history":[null]}')],
    "a Docker manifest, config of another type": lambda at: [
        entry(
            at,
            "badwheel",
            media_type=media_types.DOCKER_MANIFEST,
            layer_type=media_types.DOCKER_LAYER_GZIP,
            config_type="application/vnd.example+json",
        )
    ],
    "an entry that is called no manifest": lambda at: [entry(at, "badwheel", line_type="application/vnd.example+json")],
}
"""What somebody who may push writes beside a clean image. Each of these some client starts (registry/platforms.py)."""


READ_APART: dict[str, Callable[[bytes], bytes]] = {
    "a config in other letters": lambda raw: raw.replace(b"rootfs", b"RootFS"),
    "a list in other letters": lambda raw: raw.replace(b"diff_ids", b"Diff_Ids"),
    "an escaped name": lambda raw: raw.replace(b"rootfs", rb"rootf\u017f"),
    "layers in one of two members": lambda raw: raw[:-1] + b',"rootfs":{"type":"layers"}}',
}
"""Configs of no known type in which Go finds layers, and strict readers none."""


@pytest.mark.parametrize("config_type", ["application/octet-stream", media_types.OCI_CONFIG])
@pytest.mark.parametrize("how", READ_APART)
def test_a_config_that_two_programs_read_as_different_things_passes_no_gate(
    fleet: Fleet, how: str, config_type: str
) -> None:
    place = fleet.chain.place("app")
    hidden = entry(place, "badwheel", config_type=config_type, rewrite=READ_APART[how])
    assert hidden.digest in {each.digest for each in read_entries(place, stored(place, hidden)) if each.kind == "image"}
    bad = release(place, entry(place, "goodwheel"), hidden)
    apart = "of the image config is there twice, or with other capital letters"
    with pytest.raises(ManifestInvalid, match=apart):
        fleet.chain.sbom(bad)
    with pytest.raises(PromotionDenied, match=apart):
        fleet.chain.promote(bad)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("how", HIDDEN)
def test_what_stands_beside_a_clean_image_is_scanned_and_denied(fleet: Fleet, how: str, first: bool) -> None:
    place = fleet.chain.place("app")
    clean, hidden = [entry(place, "goodwheel")], list(HIDDEN[how](place))
    bad = release(place, *((*hidden, *clean) if first else (*clean, *hidden)))
    fleet.chain.sbom(bad)
    found = fleet.chain.vulnerabilities(bad)
    assert "CRITICAL 9.8: pkg:pypi/badwheel@1.0" in " ".join(found.reasons)
    fleet.chain.sign(bad)
    assert not fleet.chain.judge(bad).ok
    with pytest.raises(RegistryPipelinesError, match="badwheel"):
        fleet.chain.promote(bad)


def test_every_entry_of_one_platform_has_its_own_sbom_and_is_in_the_report(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    lines = [entry(place, name, platform=each) for name, each in (("one", AMD64), ("two", AMD64), ("three", V2))]
    good = release(place, *lines, lines[0])
    assert fleet.judged(good)
    documents = [read_cyclonedx(each.content) for each in attached(place, good.digest, artifact_type=SBOM_MEDIA_TYPE)]
    assert {each.manifest.digest: [item.name for item in each.components] for each in documents} == {
        line.digest: [name] for line, name in zip(lines, ("one", "two", "three"), strict=True)
    }
    [report] = attached(place, good.digest, artifact_type=REPORT_MEDIA_TYPE)
    assert set(Report.decode(report.content).covers) == {line.digest for line in lines}


@pytest.mark.parametrize("how", HIDDEN)
def test_evidence_about_the_clean_entries_alone_is_not_enough(fleet: Fleet, how: str) -> None:
    """An older scanner, or one that was told to look away, leaves an entry without an SBOM."""
    place = fleet.chain.place("app")
    clean = entry(place, "goodwheel")
    part = release(place, clean, *HIDDEN[how](place))
    alone = release(place, clean)
    fleet.chain.sbom(alone)
    top = place.registry.resolve(place.repository, part.digest)
    for each in attached(place, alone.digest, artifact_type=SBOM_MEDIA_TYPE):
        moved = each.content.replace(alone.digest.encode(), part.digest.encode())
        attach(place, subject=top, artifact_type=SBOM_MEDIA_TYPE, content=moved, media_type=SBOM_MEDIA_TYPE)
    assert fleet.chain.vulnerabilities(part).ok  # what is known of it is clean
    fleet.chain.sign(part)
    reasons = " ".join(fleet.chain.judge(part).reasons)
    assert "was not scanned" in reasons and "does not cover" in reasons


def test_layers_that_are_called_statements_are_no_way_around(fleet: Fleet) -> None:
    """containers/image unpacks them; an attestation is listed for no platform."""
    place = fleet.chain.place("app")
    bad = release(place, entry(place, "goodwheel"), entry(place, "badwheel", layer_type=media_types.IN_TOTO))
    with pytest.raises(LayerInvalid):
        fleet.chain.sbom(bad)
    assert not fleet.chain.judge(bad).ok


def test_an_attestation_that_is_also_listed_for_a_platform_is_an_image(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    hidden = entry(place, "badwheel", layer_type=media_types.IN_TOTO, platform=NOWHERE)
    bad = release(place, entry(place, "goodwheel"), hidden, msgspec.structs.replace(hidden, platform=AMD64))
    with pytest.raises(LayerInvalid):
        fleet.chain.sbom(bad)
    assert not fleet.chain.judge(bad).ok


def test_naming_the_diff_id_of_a_known_layer_hides_no_layer(fleet: Fleet) -> None:
    """containers/image does not compare them when it unpacks; what was read of another layer says nothing."""
    place = fleet.chain.place("app")
    fleet.chain.sbom(release(place, entry(place, "goodwheel")))
    known = [Digest.of(make_tar(dist_info("goodwheel", "1.0")))]
    bad = release(place, entry(place, "badwheel", diff_ids=known))
    with pytest.raises(RegistryPipelinesError, match="uncompressed layer"):
        fleet.chain.sbom(bad)
    assert not fleet.chain.judge(bad).ok


def test_one_diff_id_for_two_layers_hides_neither(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    good, bad = make_tar(dist_info("goodwheel", "1.0")), make_tar(dist_info("badwheel", "1.0"))
    layers = [push_blob(place, gzip.compress(tar), media_type=media_types.OCI_LAYER_GZIP) for tar in (bad, good)]
    shape = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [Digest.of(good)] * 2}}
    config = push_blob(place, msgspec.json.encode(shape, enc_hook=str), media_type=media_types.OCI_CONFIG)
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
    )
    place.registry.put_manifest(place.repository, manifest)
    with pytest.raises(RegistryPipelinesError, match="uncompressed layer"):
        fleet.chain.sbom(release(place, manifest.descriptor))


def test_a_platform_is_there_only_when_the_config_says_so_too(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    told = release(place, entry(place, "goodwheel", platform=Platform(os="linux", architecture="arm64")))
    chain = fleet.reload(("signing:", "policies: {default: {platforms: [linux/arm64]}}\nsigning:"))
    for stage in (chain.sbom, chain.vulnerabilities, chain.sign):
        stage(told)
    reasons = " ".join(chain.judge(told).reasons)
    assert "linux/arm64 is required" in reasons and "its config says linux/amd64" in reasons
