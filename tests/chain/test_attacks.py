"""Somebody who may push to the source registry, but has no trusted key, tries to ship what the policy denies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from registry_pipelines.chain.outcome import outcomes
from registry_pipelines.errors import InputError, NotFound, PromotionDenied
from registry_pipelines.evidence.artifacts import attach, attached
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.cyclonedx import read_cyclonedx, write_cyclonedx
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, Report
from tests.chain.fleet import Fleet, write_advisory


def _subject(place: Place, release: Release) -> Descriptor:
    return place.registry.resolve(place.repository, release.digest)


def _attach(place: Place, release: Release, media_type: str, content: bytes) -> None:
    attach(place, subject=_subject(place, release), artifact_type=media_type, content=content, media_type=media_type)


def _named(place: Place, tag: str) -> str:
    try:
        return place.registry.resolve(place.repository, tag).digest
    except NotFound:
        return ""


def _forge_clean_report(place: Place, release: Release) -> None:
    [found] = attached(place, release.digest, artifact_type=REPORT_MEDIA_TYPE)
    report = Report.decode(found.content)
    assert report.findings
    later = (datetime.fromisoformat(report.scanned_at) + timedelta(seconds=1)).astimezone(UTC)
    forged = msgspec.structs.replace(report, findings=(), scanned_at=later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    _attach(place, release, REPORT_MEDIA_TYPE, forged.encode())


def test_a_forged_clean_report_is_not_signed(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    fleet.chain.sbom(bad)
    assert not fleet.chain.vulnerabilities(bad).ok
    _forge_clean_report(fleet.chain.place("app"), bad)
    signed = fleet.chain.sign(bad)
    assert "CRITICAL 9.8: pkg:pypi/badwheel@1.0" in " ".join(signed.reasons)
    assert not fleet.chain.judge(bad).ok
    with pytest.raises(PromotionDenied, match=r"badwheel|no trusted key signed it"):
        fleet.chain.promote(bad)


def test_a_forged_sbom_hides_no_package(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    place = fleet.chain.place("app")
    fleet.chain.sbom(bad)
    [found] = attached(place, bad.digest, artifact_type=SBOM_MEDIA_TYPE)
    packages = read_cyclonedx(found.content)
    [real] = packages.components
    harmless = tuple(
        msgspec.structs.replace(real, name=f"fine{number}", purl=f"pkg:pypi/fine{number}@1.0") for number in range(3)
    )
    _attach(place, bad, SBOM_MEDIA_TYPE, write_cyclonedx(msgspec.structs.replace(packages, components=harmless)))
    assert not fleet.chain.vulnerabilities(bad).ok
    fleet.chain.sign(bad)
    assert not fleet.chain.judge(bad).ok


def test_a_rescan_that_finds_something_stops_replication_before_it_is_judged(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    write_advisory(fleet.folder / "advisories", package="goodwheel")
    assert not fleet.chain.vulnerabilities(release).ok
    with pytest.raises(PromotionDenied, match=r"CRITICAL 9\.8: pkg:pypi/goodwheel@1\.0"):
        fleet.chain.replicate(release, "eu")
    with pytest.raises(PromotionDenied, match="after the verdict"):
        fleet.chain.mirror_release(release, "airgap")


def test_a_verdict_of_an_older_policy_lets_nothing_leave(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    stricter = fleet.reload(("signing:", "policies: {default: {platforms: [linux/s390x]}}\nsigning:"))
    with pytest.raises(PromotionDenied, match="policy default was changed since"):
        stricter.replicate(release, "eu")
    assert not outcomes(stricter, release).ships


@pytest.mark.parametrize("tag", ["prod", "v1.1.0"])
def test_a_release_takes_no_name_to_a_target_that_it_does_not_have(fleet: Fleet, tag: str) -> None:
    old, new = fleet.release("v1.0.0"), fleet.release("v1.1.0")
    for release in (old, new):
        assert fleet.judged(release)
        fleet.chain.promote(release)
        fleet.chain.replicate(release, "eu")
    with pytest.raises((PromotionDenied, InputError)):
        fleet.chain.replicate(Release("app", tag, old.digest), "eu")
    eu = fleet.chain.target_place("app", "eu")
    assert (_named(eu, "prod"), _named(eu, "v1.1.0")) == (new.digest, new.digest)


def test_an_image_of_ours_is_no_upstream(fleet: Fleet) -> None:
    bad = fleet.release("v1.0.0", package="badwheel")
    chain = fleet.reload(('us/up/stream, tags: ["1.*"], newest: 2', 'us/team/app, tags: ["v*"]'))
    with pytest.raises(InputError, match="app"):
        chain.mirror("airgap")
    private = fleet.chain.mirror_places("app", "airgap")[-1]
    assert _named(private, bad.tag) == ""


def test_what_a_channel_names_behind_the_air_gap_is_not_collected(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    fleet.chain.mirror_release(release, "airgap")
    place = fleet.chain.place("app")
    place.registry.delete_tag(place.repository, "prod")  # the source moved on; the private registry did not follow yet
    rules = 'retention:\n  - {registry: private, repositories: ["in/*"], keep_newest: 0, keep_days: 0}\nsigning:'
    chain = fleet.reload(("signing:", rules))
    plan = chain.plan_retention("private")
    assert not list(plan.deletions)
    told = " ".join(row["why"] for row in plan.rows() if isinstance(row["why"], str))
    assert "the channel prod of app names it, at " in told


def test_a_release_is_promoted_under_no_invented_version(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    with pytest.raises(PromotionDenied, match=r"v9\.0\.0 does not exist"):
        fleet.chain.promote(Release("app", "v9.0.0", release.digest))
    fleet.chain.promote(release)
    place = fleet.chain.place("app")
    for tag in ("v1.0.0", "prod"):
        place.registry.delete_tag(place.repository, tag)
    assert fleet.chain.promote(release).changed  # a rollback whose version tag was cleaned up
    assert fleet.chain.replicate(release, "eu").ok
