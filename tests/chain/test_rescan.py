"""New advisories against stored SBOMs: what is told, attached and shown, and that no layer is read for it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.buckets import BUCKETS, bucket_of, filled_buckets, held
from registry_pipelines.cli import main
from registry_pipelines.errors import PromotionDenied, StateLocked
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.promote.evidence import signed_about
from registry_pipelines.release import Release
from registry_pipelines.scan.publish import read_report
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE
from tests.answers import answered
from tests.chain.fleet import Fleet
from tests.chain.test_notify import keeping, told
from tests.chain.test_status import ports
from tests.doubles.debian_archive import DebianArchive, changelog, documented, make_deb
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status as Answer
from tests.scan.images import push_image


def new_advisory(fleet: Fleet, name: str = "NEW-2026-7", package: str = "goodwheel", **more: Any) -> None:
    record = {
        "id": name,
        "modified": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
            }
        ],
        **more,
    }
    (fleet.folder / "advisories" / f"{name}.json").write_text(json.dumps(record))


def shipped(chain: Chain, release: Release) -> Release:
    for act in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        assert act(release).ok
    return release


def asked(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    found = CliRunner().invoke(main, [*arguments, "--json", "--config", str(fleet.path)])
    assert found.exit_code == code, found.output
    return answered(found.stdout)


def test_a_promoted_release_that_became_vulnerable_is_told_attached_and_shown(fleet: Fleet) -> None:
    chain, kept = keeping(fleet)
    live, waiting = shipped(chain, fleet.release("v1.0.0")), fleet.release("v1.1.0", package="otherwheel")
    fleet.judged(waiting)
    quiet = chain.rescan()
    assert quiet.ok and quiet.facts["changed"] == 0 and told(kept) == []
    new_advisory(fleet)
    result = chain.rescan()
    assert (result.ok, result.exit_code, result.facts["newly_vulnerable"]) == (False, 3, 1)
    [row] = result.rows
    assert (row["tag"], row["found"], row["new_findings"], row["promoted"]) == ("v1.0.0", "newly vulnerable", 1, True)
    assert "NEW-2026-7" in result.reasons[0] and "fixed in 2.0" in result.reasons[0]
    [event] = told(kept)
    assert (event["event"], event["stage"], event["release"]) == ("vulnerable", "rescan", live.key)
    assert "NEW-2026-7" in event["reasons"][0]
    place, verifier = chain.place("app"), chain._session.verifier()
    signed = signed_about(read_attestations(place, live.digest, verifier), live.digest)
    assert signed and signed[0] == read_report(place, live.digest)[1] and signed[0].findings
    with pytest.raises(PromotionDenied, match="NEW-2026-7"):
        chain.replicate(live, "eu")
    [status] = chain.statuses(["app"])
    assert status.ruling == "outdated" and "NEW-2026-7" in status.vulnerable[0]
    assert status.reasons[0].startswith("newly vulnerable: CRITICAL")
    [image] = asked(fleet, "status", "app", code=3)["images"]
    assert image["vulnerable"] and image["reasons"][0].startswith("newly vulnerable")
    assert "newly vulnerable" in chain.page(live).reasons[0]
    assert chain.rescan().ok and len(told(kept)) == 1  # it is known now, and stands in the status
    assert not chain.judge(live).ok
    assert chain.statuses(["app"])[0].ruling == "deny"


def test_no_blob_of_an_image_is_read(fleet: Fleet) -> None:
    live = shipped(fleet.chain, fleet.release("v1.0.0"))
    new_advisory(fleet)
    us = fleet.chain.registry("us").name
    with FaultRegistry(us) as proxy, ExitStack() as stack:
        here = ports(fleet, "us")
        there = f"us: {{kind: distribution, host: '{proxy.address}'}}"
        stack.callback(lambda: fleet.reload((there, here)))
        assert not fleet.reload((here, there)).rescan().ok
        asked_for = {each.target for each in proxy.seen}
    manifest = json.loads(fleet.chain.place("app").registry.get_manifest("team/app", live.digest).raw)
    pieces = [manifest["config"], *manifest["layers"]]
    assert asked_for and not [each["digest"] for each in pieces if any(each["digest"] in path for path in asked_for)]


def test_releases_matched_with_the_same_advisories_are_passed_over(fleet: Fleet) -> None:
    shipped(fleet.chain, fleet.release("v1.0.0"))
    assert fleet.chain.rescan().facts["rescanned"] == 1
    again = fleet.chain.rescan()
    assert (again.facts["rescanned"], again.facts["known"], again.facts["releases"]) == (0, 1, 1)
    assert fleet.chain.rescan(everything=True).facts["rescanned"] == 1
    new_advisory(fleet)
    assert fleet.chain.rescan().facts["rescanned"] == 1
    for path in (fleet.config.state / "rescan").glob("*.json"):
        path.write_text("torn")
    assert fleet.chain.rescan().facts["rescanned"] == 1


def test_a_release_that_nothing_new_is_about_is_not_read(fleet: Fleet) -> None:
    """No request for its evidence; what is about its packages, by any record, is read."""
    shipped(fleet.chain, fleet.release("v1.0.0"))
    assert fleet.chain.rescan().facts["rescanned"] == 1
    new_advisory(fleet, package="another")
    us = fleet.chain.registry("us").name
    with FaultRegistry(us) as proxy, ExitStack() as stack:
        here, there = ports(fleet, "us"), f"us: {{kind: distribution, host: '{proxy.address}'}}"
        stack.callback(lambda: fleet.reload((there, here)))
        result = fleet.reload((here, there)).rescan()
        assert not [each.target for each in proxy.seen if "referrers" in each.target or "/blobs/" in each.target]
    assert (result.facts["untouched"], result.facts["rescanned"], result.facts["known"]) == (1, 0, 0) and result.ok
    assert fleet.chain.rescan().facts["known"] == 1
    new_advisory(fleet, "NEW-2026-9")
    found = fleet.chain.rescan()
    assert not found.ok and (found.facts["newly_vulnerable"], found.facts["untouched"]) == (1, 0)
    new_advisory(fleet, "NEW-2026-9", withdrawn="2026-01-01T00:00:00Z")
    assert fleet.chain.rescan().facts["changed"] == 1


def test_a_release_is_read_again_after_some_weeks(fleet: Fleet) -> None:
    shipped(fleet.chain, fleet.release("v1.0.0"))
    assert fleet.chain.rescan().ok
    path = fleet.config.state / "rescan" / f"{bucket_of(fleet.config.images['app'])}.json"
    marks = json.loads(path.read_text())
    for mark in marks.values():
        mark["read"] = "2026-01-01T00:00:00Z"
    path.write_text(json.dumps(marks))
    new_advisory(fleet, package="another")
    assert fleet.chain.rescan().facts["rescanned"] == 1


def test_who_could_not_be_told_is_told_by_the_next_rescan(fleet: Fleet) -> None:
    live = shipped(fleet.chain, fleet.release("v1.0.0"))
    deaf = fleet.reload(("signing:", "notify: {command: [no-such-program]}\nsigning:"))
    new_advisory(fleet)
    result = deaf.rescan()
    assert any("nobody was notified" in note for note in result.notes)
    fleet.reload(("notify: {command: [no-such-program]}\n", ""))
    chain, kept = keeping(fleet)
    assert chain.rescan().ok
    [event] = told(kept)
    assert (event["event"], event["release"]) == ("vulnerable", live.key) and "NEW-2026-7" in event["reasons"][0]
    assert Chain(chain.config).rescan().facts["known"] == 1 and len(told(kept)) == 1


def test_what_the_policy_permits_and_what_is_not_promoted_is_no_event(fleet: Fleet) -> None:
    fleet.reload(("signing:", "policies: {default: {limits: {low: null}}}\nsigning:"))
    chain, kept = keeping(fleet)
    shipped(chain, fleet.release("v1.0.0"))
    fleet.release("v1.1.0", package="otherwheel")
    waiting = Release("app", "v1.1.0", chain.find_release("app:v1.1.0").digest)
    for act in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge):
        act(waiting)
    low = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]
    new_advisory(fleet, severity=low)
    new_advisory(fleet, "NEW-2026-8", package="otherwheel")
    result = chain.rescan()
    assert result.ok and result.facts["changed"] == 2 and told(kept) == []
    assert {row["tag"]: row["promoted"] for row in result.rows} == {"v1.0.0": False, "v1.1.0": False}
    assert chain.statuses(["app"])[0].ruling == "allow"


def test_an_alias_more_is_nothing_new(fleet: Fleet) -> None:
    new_advisory(fleet)
    fleet.reload(("signing:", "policies: {default: {limits: {critical: 1}}}\nsigning:"))
    chain, kept = keeping(fleet)
    shipped(chain, fleet.release("v1.0.0"))
    new_advisory(fleet, aliases=["CVE-2026-7777"])
    result = chain.rescan()
    assert result.ok and result.facts["changed"] == 1 and told(kept) == []
    assert [row["new_findings"] for row in result.rows] == [0]
    assert chain.statuses(["app"])[0].vulnerable == ()


def test_an_unsigned_report_beside_signed_ones_does_not_make_news_look_old(fleet: Fleet) -> None:
    chain, kept = keeping(fleet)
    live = shipped(chain, fleet.release("v1.0.0"))
    place = chain.place("app")
    new_advisory(fleet)
    assert not fleet.judged(fleet.release("v0.9.0"))  # somebody else saw it and made a report of it
    forged = read_report(place, chain.find_release("app:v0.9.0").digest)[1].encode()
    forged = forged.replace(chain.find_release("app:v0.9.0").digest.encode(), live.digest.encode())
    subject = place.registry.resolve(place.repository, live.digest)
    attach(place, subject=subject, artifact_type=REPORT_MEDIA_TYPE, content=forged, media_type=REPORT_MEDIA_TYPE)
    assert not chain.rescan().ok
    assert [event["release"] for event in told(kept)] == [live.key]


def test_a_release_without_an_sbom_and_a_registry_that_is_down_are_said(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    result = fleet.chain.rescan()
    assert result.ok and result.facts["no_sbom"] == 1 and "without an SBOM" in result.notes[0]
    with FaultRegistry(fleet.chain.registry("us").name) as down:
        for _ in range(4):
            down.play("GET", ".*/tags/list.*", Answer(403))
        chain = fleet.reload((ports(fleet, "us"), f"us: {{kind: distribution, host: '{down.address}'}}"))
        result = chain.rescan(["app"])
        assert (result.ok, result.exit_code) == (False, 7) and "cannot be listed" in result.notes[0]
        asked(fleet, "rescan", "app", code=7)


def test_buckets_are_static_and_cover_every_image(fleet: Fleet) -> None:
    images = fleet.config.images
    assert len(BUCKETS) == 256 and {bucket_of(each) for each in images.values()} <= set(BUCKETS)
    shipped(fleet.chain, fleet.release("v1.0.0"))
    seen = [fleet.chain.rescan(bucket=bucket).facts["releases"] for bucket in filled_buckets(fleet.config)]
    assert sum(int(each) for each in seen) == 1
    other = next(bucket for bucket in BUCKETS if bucket not in filled_buckets(fleet.config))
    assert fleet.chain.rescan(bucket=other).action == "no releases"
    found = CliRunner().invoke(main, ["rescan", "--bucket", "g0", "--config", str(fleet.path)])
    assert found.exit_code == 2 and "00 to ff" in found.output


def test_a_cap_leaves_the_rest_for_the_next_run(fleet: Fleet, tmp_path: Path) -> None:
    from registry_pipelines.chain.rescan import rescan

    for number in range(3):
        fleet.chain.sbom(fleet.release(f"v1.{number}.0"))
    looked = [rescan(fleet.chain._session, ["app"], most=2) for _ in range(3)]
    assert [(each.facts["rescanned"], each.facts["left"]) for each in looked] == [(2, 1), (1, 0), (0, 0)]
    assert "1 release left for the next run" in looked[0].notes[0]


def test_one_process_sweeps_a_bucket(fleet: Fleet) -> None:
    bucket = bucket_of(fleet.config.images["app"])
    with held(fleet.chain._session, "rescan", bucket), pytest.raises(StateLocked, match=bucket):
        fleet.chain.rescan(["app"])


def test_advisories_are_derived_for_the_debian_packages_that_releases_hold(fleet: Fleet) -> None:
    status = "Package: openssl\nStatus: install ok installed\nVersion: 3.0.11-1\nMaintainer: D <d@debian.org>\n"
    files = {"var/lib/dpkg/status": status, "etc/os-release": 'ID=debian\nVERSION_ID="12"\n'}
    made = push_image(fleet.chain.place("app"), [files], tag="v1.0.0")
    release = Release("app", "v1.0.0", made.digest)
    fleet.chain.sbom(release)
    with DebianArchive() as archive:
        text = changelog("openssl", ("3.0.12-1", "CVE-2026-1234"))
        archive.add("openssl", "3.0.12-1", make_deb(documented("openssl", text)))
        chain = fleet.reload(
            ("advisories: {source: advisories}", f"advisories: {{feed: null, debian_security: '{archive.url}'}}")
        )
        [row] = chain.update_advisories().rows
    assert row["ecosystem"] == "Debian derived" and row["fetched"] == "1 changelog"
    result = chain.rescan()
    assert result.facts["changed"] == 1
    report = read_report(chain.place("app"), release.digest)[1]
    assert {each.ids[0] for each in report.findings} == {"CVE-2026-1234", "DERIVED-UPDATE-openssl"}
    assert [each.reason for each in report.uncertain] == ["only advisories derived from changelogs speak of Debian:12"]
    assert any("uncovered" in reason and "derived" in reason for reason in chain.vulnerabilities(release).reasons)
