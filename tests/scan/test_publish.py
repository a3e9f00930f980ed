"""SBOMs and reports in registries: the layout folder, and the embedded server through the distribution client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from registry_pipelines.errors import EvidenceMissing
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, REPORT_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.match import match
from registry_pipelines.scan.predicates import attest_pass, signed_report
from registry_pipelines.scan.publish import publish_report, publish_sboms, read_report, read_sboms
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, Report
from registry_pipelines.scan.sbom import scan_image
from registry_pipelines.transfer.copying import copy_closure
from tests.evidence.conftest import make_key
from tests.evidence.parts import Key
from tests.scan.images import DEBIAN, dist_info, push_image, push_index

__all__ = ["make_key"]

FIRST, LATER, LATEST = (datetime(2026, 11, day, tzinfo=UTC) for day in (23, 24, 25))


@pytest.fixture(params=["layout", "server"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "layout":
        yield Place(LayoutRegistry(tmp_path / "registry"), "team/app")
        return
    with EmbeddedServer(tmp_path / "registry") as server:
        yield Place(DistributionRegistry(server.address), "team/app")


def test_an_sbom_of_another_tool_stays_as_it_is(anywhere: Place, tmp_path: Path) -> None:
    """It is neither read nor written again; a copy has the same manifest and bytes, by digest."""
    image = push_image(anywhere, [dist_info("PyYAML", "5.3")], tag="v1")
    foreign = b'{ "bomFormat":"CycloneDX", "specVersion":"1.7",\n"compositions":[{"aggregate":"incomplete"}] }'
    theirs = attach(anywhere, subject=image, artifact_type=SBOM_MEDIA_TYPE, content=foreign, media_type=SBOM_MEDIA_TYPE)
    packages = scan_image(anywhere, image, state=tmp_path / "state")
    (published,) = publish_sboms(anywhere, image, packages)
    assert [item for _, item in read_sboms(anywhere, image.digest)] == packages
    target = Place(LayoutRegistry(tmp_path / "copy"), "team/app")
    copy_closure(anywhere, "v1", [target])
    there = attached(target, image.digest, artifact_type=SBOM_MEDIA_TYPE)
    assert {item.descriptor.digest: item.content for item in there} == {
        theirs.digest: foreign,
        published.descriptor.digest: published.content,
    }


def test_from_layers_to_a_rescan_without_layers(anywhere: Place, tmp_path: Path, pypa: AdvisoryStore) -> None:
    amd = push_image(anywhere, [DEBIAN, dist_info("PyYAML", "5.3")])
    arm = push_image(anywhere, [dist_info("PyYAML", "5.3.1")], architecture="arm64")
    top = push_index(anywhere, [amd, arm], tag="v1")
    packages = scan_image(anywhere, top, state=tmp_path / "state")

    published = publish_sboms(anywhere, top, packages)
    assert [item.changed for item in published] == [True, True]
    again = publish_sboms(anywhere, top, packages)
    assert [(item.changed, item.descriptor.digest) for item in again] == [
        (False, item.descriptor.digest) for item in published
    ]

    report = match(packages, pypa, now=FIRST)
    first = publish_report(anywhere, top, report)
    second = publish_report(anywhere, top, match(packages, pypa, now=LATER))
    assert first.changed and not second.changed and second.descriptor.digest == first.descriptor.digest
    stored_report, read = read_report(anywhere, top.digest)
    assert read == report and stored_report.content == report.encode()
    assert read.covers == (amd.digest, arm.digest) and len(read.findings) == 3

    stored = [item for _, item in read_sboms(anywhere, top.digest)]
    assert stored == packages
    assert match(stored, pypa, now=FIRST) == report


def test_a_changed_report_is_attached_and_the_newest_is_read(place: Place, tmp_path: Path, pypa: AdvisoryStore) -> None:
    image = push_image(place, [dist_info("PyYAML", "5.3")])
    packages = scan_image(place, image, state=tmp_path / "state")
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "a.json").write_bytes(b'{"id":"A","modified":"2026-01-01T00:00:00Z"}')
    publish_report(place, image, match(packages, pypa, now=FIRST))
    other = match(packages, AdvisoryStore.load(tmp_path / "db", tmp_path / "state"), now=LATER)
    assert publish_report(place, image, other).changed
    assert read_report(place, image.digest)[1] == other
    back = match(packages, pypa, now=LATEST)
    assert publish_report(place, image, back).changed and read_report(place, image.digest)[1] == back


def test_missing_evidence(place: Place) -> None:
    image = push_image(place, [DEBIAN])
    with pytest.raises(EvidenceMissing, match="no SBOM"):
        read_sboms(place, image.digest)
    with pytest.raises(EvidenceMissing, match="no vulnerability report"):
        read_report(place, image.digest)


def test_foreign_and_damaged_documents_hide_nothing(place: Place, tmp_path: Path, pypa: AdvisoryStore) -> None:
    image, other = push_image(place, [DEBIAN]), push_image(place, [dist_info("a", "1")])
    packages = scan_image(place, image, state=tmp_path / "state")
    wrong = msgspec.structs.replace(match(packages, pypa, now=LATER), subject=other.digest)
    for kind, content in (
        (SBOM_MEDIA_TYPE, b'{"bomFormat":"CycloneDX","specVersion":"1.6"}'),
        (SBOM_MEDIA_TYPE, b"garbage"),
        (REPORT_MEDIA_TYPE, b"{}"),
        (REPORT_MEDIA_TYPE, wrong.encode()),
    ):
        attach(place, subject=image, artifact_type=kind, content=content, media_type=kind)
    with pytest.raises(EvidenceMissing):
        read_report(place, image.digest)
    publish_sboms(place, image, packages)
    publish_report(place, image, match(packages, pypa, now=FIRST))
    assert [item for _, item in read_sboms(place, image.digest)] == packages
    assert isinstance(read_report(place, image.digest)[1], Report)


def test_a_damaged_referrer_keeps_no_sbom_from_being_attached(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [DEBIAN])
    packages = scan_image(place, image, state=tmp_path / "state")
    theirs = attach(place, subject=image, artifact_type="text/plain", content=b"theirs", media_type="text/plain")
    (tmp_path / "registry/team/app/blobs/sha256" / theirs.digest.hex).write_bytes(b"changed")
    assert [sbom.changed for sbom in publish_sboms(place, image, packages)] == [True]
    assert [sbom.changed for sbom in publish_sboms(place, image, packages)] == [False]
    assert [read for _, read in read_sboms(place, image.digest)] == packages


def test_fewer_components_never_win(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [DEBIAN])
    (packages,) = scan_image(place, image, state=tmp_path / "state")
    thin = msgspec.structs.replace(packages, components=packages.components[:1])
    for order in ([packages], [thin]):
        publish_sboms(place, image, order)
    assert [item for _, item in read_sboms(place, image.digest)] == [packages]


def test_what_is_scanned_is_signed_once_when_it_is_written(
    place: Place, tmp_path: Path, pypa: AdvisoryStore, make_key: Callable[[str], Key]
) -> None:
    key = make_key("scanner")
    image = push_image(place, [dist_info("PyYAML", "5.3")])
    packages = scan_image(place, image, state=tmp_path / "state")
    publish_sboms(place, image, packages)
    assert [item.changed for item in publish_sboms(place, image, packages, signer=key.signer)] == [True]
    assert [item.changed for item in publish_sboms(place, image, packages, signer=key.signer)] == [False]
    report = match(packages, pypa, now=FIRST)
    assert publish_report(place, image, report, signer=key.signer).changed
    assert not publish_report(place, image, report, signer=key.signer).changed
    attestations = read_attestations(place, image.digest, key.verifier).verified
    assert [item.predicate_type for item in attestations if item.predicate_type != CYCLONEDX_TYPE] == [REPORT_TYPE]
    assert [attest_pass(place, image, report, key.signer).changed for _ in range(2)] == [True, False]
    attestations = read_attestations(place, image.digest, key.verifier).verified
    assert [item.predicate_type for item in attestations] == [CYCLONEDX_TYPE, REPORT_TYPE, VULNERABILITIES_TYPE]
    assert [signed_report(item) for item in attestations[1:]] == [report, report]
    [sbom] = attached(place, image.digest, artifact_type=SBOM_MEDIA_TYPE)
    assert attestations[0].predicate == json.loads(sbom.content)


@pytest.mark.parametrize("scanned_at", ["2999-01-01T00:00:00Z", "zzz", "2026-12-01T00:00:00"])
def test_an_equal_report_of_no_past_is_not_signed(
    place: Place, tmp_path: Path, pypa: AdvisoryStore, make_key: Callable[[str], Key], scanned_at: str
) -> None:
    """Whoever may push put it there before us."""
    key = make_key("scanner")
    image = push_image(place, [DEBIAN])
    report = match(scan_image(place, image, state=tmp_path / "state"), pypa, now=FIRST)
    planted = msgspec.structs.replace(report, scanned_at=scanned_at).encode()
    attach(place, subject=image, artifact_type=REPORT_MEDIA_TYPE, content=planted, media_type=REPORT_MEDIA_TYPE)
    for changed in (True, False):
        assert publish_report(place, image, report, signer=key.signer).changed == changed
    [attestation] = read_attestations(place, image.digest, key.verifier).verified
    assert signed_report(attestation) == report


def test_what_is_too_large_to_sign_is_attached_and_says_so(
    place: Place, tmp_path: Path, pypa: AdvisoryStore, make_key: Callable[[str], Key]
) -> None:
    key = make_key("scanner")
    image = push_image(place, [dist_info("PyYAML", "5.3")])
    [packages] = scan_image(place, image, state=tmp_path / "state")
    path = "x" * (MAX_BUNDLE_BYTES // 2)
    [component] = packages.components
    large = msgspec.structs.replace(packages, components=(msgspec.structs.replace(component, locations=(path,)),))
    [sbom] = publish_sboms(place, image, [large], signer=key.signer)
    report = msgspec.structs.replace(match([packages], pypa, now=FIRST), scanned_at="2026-11-23T00:00:00Z")
    findings = (msgspec.structs.replace(report.findings[0], summary=path), *report.findings[1:])
    published = publish_report(place, image, msgspec.structs.replace(report, findings=findings), signer=key.signer)
    for each in (sbom, published):
        assert each.changed and "bytes, at most" in each.unsigned
    assert read_attestations(place, image.digest, key.verifier).verified == ()
