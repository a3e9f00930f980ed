"""The clouds' own scanners beside our advisories, as a user configures them, against the clouds' doubles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grafeas import grafeas_v1 as grafeas

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.clouds.ecr_scan import EcrScan
from registry_pipelines.scan.clouds.states import ONCE_A_DAY
from registry_pipelines.scan.clouds.waiting import Waiting
from tests.chain.fleet import Fleet
from tests.doubles.aws.ecr_places import Image, Repository
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.ecr_scans import EcrScans, Scan, basic_finding, enhanced_finding
from tests.doubles.aws.front import ACCOUNT, ApiError, AwsDouble
from tests.doubles.aws.inspector import InspectorCoverage
from tests.doubles.google import GoogleCloud
from tests.doubles.google.on_demand import Scans
from tests.doubles.google.services.containeranalysis import Analysis
from tests.scan.images import push_platforms

REGION = "eu-west-1"
GOOD = "pkg:pypi/goodwheel@1.0"


@dataclass
class Clouds:
    """A fleet whose registry `us` is ECR's by one name and Artifact Registry's by another."""

    fleet: Fleet
    aws: AwsDouble
    google: GoogleCloud

    def chain(self, scanners: str, *, registry: str = "ecr") -> Chain:
        config = self.fleet.config
        us = config.registries["us"].client_address  # type: ignore[union-attr]
        ecr = f"{{kind: ecr, account: '{ACCOUNT}', region: {REGION}, endpoint: '{self.aws.url}', reachable_as: '{us}'}}"
        gar = "{kind: gar, project: ml-prod, location: europe-west1, "
        gar += f"endpoint: '{self.google.endpoint}', reachable_as: '{us}'}}"
        text = self.fleet.path.read_text()
        if "\n  ecr:" not in text:
            text = text.replace("registries:\n", f"registries:\n  ecr: {ecr}\n  gar: {gar}\n", 1)
        for old in ("us", "ecr", "gar"):
            text = text.replace(f"app: {{registry: {old},", f"app: {{registry: {registry},")
        text = text[: text.index("scanners:")] if "scanners:" in text else text
        self.fleet.path.write_text(f"{text.rstrip()}\nscanners: {scanners}\n")
        return Chain(load(self.fleet.path, {}))

    @property
    def scans(self) -> EcrScans:
        return self.aws.area(EcrScans)

    def register(self, place: Place, digest: Digest) -> None:
        """ECR's API knows what the registry has."""
        there = (
            self.aws.area(EcrRegistries)
            .at(ACCOUNT, REGION)
            .repositories.setdefault(place.repository, Repository(place.repository))
        )
        manifest = place.registry.get_manifest(place.repository, digest)
        there.images[str(digest)] = Image(manifest.raw, manifest.media_type)

    def occurrence(self, release: Release, repository: str = "team/app", **details: Any) -> None:
        """One occurrence about a release in Artifact Analysis."""
        kept = self.google.world.state(Analysis).occurrences
        name = f"projects/ml-prod/occurrences/{len(kept)}"
        uri = f"https://europe-west1-docker.pkg.dev/{repository}@{release.digest}"
        kind = grafeas.NoteKind[next(iter(details)).upper()]
        note = details.pop("note", "CVE-2026-9")
        made = grafeas.Occurrence(
            name=name, resource_uri=uri, kind=kind, note_name=f"projects/n/notes/{note}", **details
        )
        kept[name] = made


@pytest.fixture
def clouds(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    with AwsDouble() as aws, GoogleCloud(tmp_path / "google") as google:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        yield Clouds(fleet, aws, google)


@pytest.fixture
def release(clouds: Clouds) -> Release:
    found = clouds.fleet.release("v1")
    clouds.fleet.chain.sbom(found)
    clouds.register(clouds.fleet.chain.place("app"), found.digest)
    return found


def told(result: StageResult) -> str:
    return "\n".join(result.reasons)


def test_a_basic_scan_is_started_waited_for_and_read_page_by_page(clouds: Clouds, release: Release) -> None:
    found = [basic_finding(f"CVE-2026-{number}", "zlib", "1", severity="LOW") for number in range(230)]
    found.append(basic_finding("CVE-2026-999", "zlib", "1", severity="CRITICAL"))
    clouds.scans.next = Scan(["IN_PROGRESS", "COMPLETE"], findings=found, source_at=clouds.aws.clock())
    result = clouds.chain("{ecr: {timeout: 1m}}").vulnerabilities(release)
    assert len(result.rows) == 231 and clouds.aws.count("StartImageScan") == 1
    assert clouds.aws.count("DescribeImageScanFindings") == 5  # none yet, under way, three pages
    assert "CVE-2026-999" in told(result) and result.rows[0]["found_by"] == "ecr"
    [row] = result.tables["scanners"]
    assert (row["scanner"], row["findings"], row["images"]) == ("ecr", 231, 1)


def test_a_clean_scan_passes_with_the_age_of_its_data(clouds: Clouds, release: Release) -> None:
    clouds.scans.next = Scan(source_at=clouds.aws.clock() - 86400)
    chain = clouds.chain("{ecr: {}}")
    assert chain.vulnerabilities(release).ok
    chain.sign(release)
    assert chain.judge(release).ok
    clouds.scans.scans[("team/app", str(release.digest))].source_at -= 30 * 86400
    chain.vulnerabilities(release)
    assert "advisories of ecr: its database is of" in told(chain.judge(release))


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("FAILED", "incomplete"),
        ("PENDING", "pending"),
        ("UNSUPPORTED_IMAGE", "uncovered"),
        ("FINDINGS_UNAVAILABLE", "unreadable"),
    ],
)
def test_a_scan_that_did_not_end_well_denies_for_its_own_reason(
    clouds: Clouds, release: Release, state: str, kind: str
) -> None:
    clouds.scans.scans["team/app", str(release.digest)] = Scan([state], description="as it is told")
    result = clouds.chain("{ecr: {timeout: 50ms}}").vulnerabilities(release)
    assert not result.ok and told(result).startswith(f"{kind}: scanner/ecr") and "as it is told" in told(result)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("UnsupportedImageTypeException", "uncovered", "does not scan such an image"),
        ("LimitExceededException", "pending", "once in 24 hours"),
        ("ImageArchivedException", "incomplete", "archived"),
        ("ValidationException", "uncovered", "not scanned"),
        ("AccessDeniedException", "incomplete", "ecr:StartImageScan"),
    ],
)
def test_a_scan_that_cannot_be_started_denies_for_its_own_reason(
    clouds: Clouds, release: Release, code: str, kind: str, words: str
) -> None:
    said = f"User is not authorized to perform: ecr:StartImageScan because no identity-based policy allows it: {code}"
    clouds.aws.fail("StartImageScan", ApiError(code, said))
    result = clouds.chain("{ecr: {timeout: 50ms}}").vulnerabilities(release)
    assert not result.ok and told(result).startswith(f"{kind}: scanner/ecr") and words in told(result)


def test_a_basic_result_of_yesterday_is_made_anew_and_kept_where_it_may_not(clouds: Clouds, release: Release) -> None:
    scan = EcrScan(AwsCalls(AwsAccess(REGION, endpoint=clouds.aws.url)), ACCOUNT, REGION)
    old = clouds.aws.clock() - 30 * 3600
    clouds.scans.scans["team/app", str(release.digest)] = Scan(completed_at=old, started_at=old)
    answer = scan.ask("team/app", release.digest, Waiting(10, sleep=lambda _: None))
    assert clouds.aws.count("StartImageScan") == 1
    assert answer.completed is not None and datetime.now(UTC) - answer.completed < timedelta(hours=1)
    kept = clouds.scans.scans["team/app", str(release.digest)]
    kept.completed_at = old  # started a moment ago: not again today
    answer = scan.ask("team/app", release.digest, Waiting(10, sleep=lambda _: None))
    assert answer.status == "COMPLETE" and answer.completed is not None and answer.end is not ONCE_A_DAY


def test_inspectors_findings_count_and_what_it_does_not_watch_is_no_clean_answer(
    clouds: Clouds, release: Release
) -> None:
    clouds.scans.enhanced = True
    arn = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/app/{release.digest}"
    coverage = clouds.aws.area(InspectorCoverage)
    chain = clouds.chain("{inspector: {timeout: 50ms}}")
    assert told(chain.vulnerabilities(release)).startswith("uncovered: scanner/inspector")
    coverage.reasons[arn] = "SUCCESSFUL"
    clouds.scans.scans["team/app", str(release.digest)] = Scan(
        ["ACTIVE"], enhanced=[enhanced_finding("CVE-2026-5", "goodwheel", "1.0")]
    )
    result = chain.vulnerabilities(release)
    assert f"CRITICAL 9.8: {GOOD}: CVE-2026-5" in told(result)
    coverage.reasons[arn] = "SCAN_ELIGIBILITY_EXPIRED"
    assert "scanned no more" in told(chain.vulnerabilities(release))
    coverage.reasons[arn] = "SUCCESSFUL"
    clouds.scans.scans["team/app", str(release.digest)] = Scan(source_at=1.0)
    assert "none of Inspector" in told(chain.vulnerabilities(release))


def test_google_is_asked_whether_it_scanned_and_only_then_what_it_found(clouds: Clouds, release: Release) -> None:
    chain = clouds.chain("{google: {timeout: 50ms}}", registry="gar")
    assert told(chain.vulnerabilities(release)).startswith("pending: scanner/google")
    status, active = grafeas.DiscoveryOccurrence.AnalysisStatus, grafeas.DiscoveryOccurrence.ContinuousAnalysis
    clouds.occurrence(
        release, discovery={"analysis_status": status.FINISHED_SUCCESS, "continuous_analysis": active.ACTIVE}
    )
    assert chain.vulnerabilities(release).ok
    issue = {
        "affected_package": "goodwheel",
        "affected_version": {"name": "1.0", "kind": grafeas.Version.VersionKind.NORMAL},
        "package_type": "PYPI",
        "fixed_version": {"kind": grafeas.Version.VersionKind.MAXIMUM},
        "effective_severity": 5,
    }
    for number in range(3):
        clouds.occurrence(release, vulnerability={"package_issue": [issue]}, note=f"CVE-2026-{number}")
    result = chain.vulnerabilities(release)
    assert f"CRITICAL: {GOOD}: CVE-2026-0" in told(result) and len(result.rows) == 3
    [found] = [each for each in clouds.google.world.state(Analysis).occurrences.values() if each.kind == 6]
    found.discovery.continuous_analysis = active.INACTIVE
    assert "stale" in told(chain.vulnerabilities(release))
    clouds.google.world.deny("containeranalysis.occurrences.list")
    result = chain.vulnerabilities(release)
    assert told(result).startswith("incomplete: scanner/google") and "containeranalysis" in told(result)


def test_of_several_platforms_google_scans_the_first_linux_amd64_alone(clouds: Clouds) -> None:
    top, images = push_platforms(clouds.fleet.chain.place("app"), "amd64", "arm64", tag="v2")
    release = Release("app", "v2", top.digest)
    clouds.fleet.chain.sbom(release)
    active = grafeas.DiscoveryOccurrence.ContinuousAnalysis.ACTIVE
    clouds.occurrence(release, discovery={"analysis_status": 3, "continuous_analysis": active})
    result = clouds.chain("{google: {timeout: 50ms}}", registry="gar").vulnerabilities(release)
    assert told(result).count("scanner/google") == 1
    assert f"{images[1].digest.short}: of an image of several platforms it scans the first linux/amd64" in told(result)


def test_on_demand_our_packages_are_sent_and_nothing_is_pulled(clouds: Clouds, release: Release) -> None:
    chain = clouds.chain("{google-on-demand: {registry: gar, timeout: 1m}}")
    state = clouds.google.world.state(Scans)
    issue = {"affected_package": "goodwheel", "affected_version": {"name": "1.0"}, "package_type": "PYPI"}
    for number in range(5):
        vulnerability = {"package_issue": [{**issue, "effective_severity": 4}]}
        state.findings.append(
            grafeas.Occurrence(kind=1, note_name=f"projects/n/notes/CVE-2026-{number}", vulnerability=vulnerability)
        )
    result = chain.vulnerabilities(release)
    assert state.asked, told(result)
    [asked] = state.asked
    assert [(each["package"], each["packageType"]) for each in asked["packages"]] == [("goodwheel", "PYPI")]
    assert len(result.rows) == 5 and "HIGH" in told(result), told(result)
    state.findings.clear()
    assert chain.vulnerabilities(release).ok
    state.error = "out of luck"
    assert told(chain.vulnerabilities(release)).startswith("incomplete: scanner/google-on-demand")
    state.questions = 10**6
    late = clouds.chain("{google-on-demand: {registry: gar, timeout: 50ms}}")
    assert told(late.vulnerabilities(release)).startswith("pending: scanner/google-on-demand")
    clouds.google.world.deny("ondemandscanning.scans.analyzePackages")
    assert "answered with 403" in told(late.vulnerabilities(release))


def test_an_image_that_is_in_no_cloud_is_not_scanned_by_one(clouds: Clouds, release: Release) -> None:
    """A fleet may be in both clouds: each scanner is asked about what its registry has."""
    clouds.scans.next = Scan(source_at=clouds.aws.clock())
    text = clouds.fleet.path.read_text()
    clouds.fleet.path.write_text(text.replace("tool: {registry: us,", "tool: {registry: gar,"))
    result = clouds.chain("{ecr: {}, google: {timeout: 50ms}}").vulnerabilities(release)
    assert result.ok and [row["scanner"] for row in result.tables["scanners"]] == ["ecr"]
    clouds.fleet.path.write_text(clouds.fleet.path.read_text().replace("tool: {registry: gar,", "tool: {registry: us,"))
    with pytest.raises(ConfigInvalid, match="no image is in a registry of the kind `gar`"):
        clouds.chain("{google: {}}")


def test_settings_that_fit_another_scanner_are_refused(clouds: Clouds) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        clouds.chain("{ecr: {program: ecr, registry: gar}, google-on-demand: {registry: ecr}}")
    assert "scanners.ecr.program" in str(raised.value)
    assert "scanners.google-on-demand.registry" in str(raised.value) and "scanners.ecr.registry" in str(raised.value)
