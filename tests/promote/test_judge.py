"""The gate: what passes, and each way not to pass, with its reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry_pipelines.errors import NotFound, Unavailable
from registry_pipelines.evidence.attestations import attest, attest_statement
from registry_pipelines.evidence.keys import generate_key, load_verifier
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, PROVENANCE_TYPE, REPORT_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.evidence.statements import write_statement
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.documents import DEFAULT_POLICY, AcceptedUnknown, Policy, PolicyException
from registry_pipelines.promote.gate import MAX_NOTES
from registry_pipelines.promote.judge import judge
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.predicates import attest_pass, attest_report, vulnerability_predicate
from registry_pipelines.scan.publish import publish_report, publish_sboms
from registry_pipelines.scan.report import REPORT_MEDIA_TYPE, SBOM_MEDIA_TYPE, FindingLimits, PlatformPackages, Report
from registry_pipelines.settings import Duration
from registry_pipelines.sign.cosign import sign_image
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from tests.evidence.parts import NO_LOG, Cosign, Key, push_image
from tests.promote.parts import ARM64, CRITICAL, NOW, PROVENANCE, UNCOVERED, UNDECLARED, Candidate, candidate, day


def change(policy: Policy = DEFAULT_POLICY, **fields: Any) -> Policy:
    return msgspec.structs.replace(policy, **fields)


def test_complete_evidence_passes(good: Candidate) -> None:
    verdict = good.judge()
    assert (verdict.allow, verdict.reasons, verdict.accepted, verdict.notes) == (True, (), (), ())
    assert verdict.release == good.top.digest
    assert verdict.policy_digest == DEFAULT_POLICY.digest
    assert list(verdict.platforms.values()) == ["linux/amd64", "linux/arm64"]
    assert verdict.advisories.newest == "2026-11-22T00:00:00Z"
    assert verdict.report == Digest.of(good.report().encode())
    assert verdict.counts == {"MALICIOUS": 0, "CRITICAL": 0, "HIGH": 0, "MEDIUM": 0, "LOW": 0, "UNKNOWN": 0}
    assert verdict.time == "2026-11-23T12:00:00Z"
    kinds = [item.predicate_type for item in verdict.evidence]
    assert sorted(kinds) == sorted([CYCLONEDX_TYPE, CYCLONEDX_TYPE, PROVENANCE_TYPE, REPORT_TYPE, "signature:bundle"])


def test_nothing_is_denied_with_every_reason(bare: Candidate) -> None:
    verdict = bare.judge()
    assert not verdict.allow
    assert [reason.partition(":")[0] for reason in verdict.reasons] == [
        "vulnerability report",
        "advisories",
        "signature",
        "SLSA provenance",
        "CycloneDX SBOM",
    ]
    assert verdict.report == "" and verdict.evidence == () and verdict.advisories.newest == ""


def test_unsigned_evidence_is_denied_and_its_findings_are_named(bare: Candidate) -> None:
    bare.attach_everything(CRITICAL)
    verdict = bare.judge()
    reasons = "\n".join(verdict.reasons)
    assert "signature: the image is not signed" in reasons
    for kind in (PROVENANCE_TYPE, CYCLONEDX_TYPE):
        assert f"no attestation of type {kind} is signed by a trusted key" in reasons
    assert "CRITICAL 9.8: pkg:pypi/jinja2@3.1.2: CVE-2026-1 PYSEC-2026-1; fixed in 3.1.6" in reasons
    assert "vulnerability report: no trusted key signed it; scan where the scanner's key is" in reasons
    assert verdict.counts["CRITICAL"] == 1


def test_a_vulnerable_release_gets_no_attestation_and_is_denied_by_name(bare: Candidate) -> None:
    bare.attach_everything(CRITICAL)
    signed = bare.sign()
    assert "CVE-2026-1" in signed.withheld[0]
    assert VULNERABILITIES_TYPE not in {item.predicate_type for item in signed.attestations}
    verdict = bare.judge()
    assert not verdict.allow
    assert "CVE-2026-1" in verdict.reasons[0]
    assert all("signature" not in reason and "provenance" not in reason for reason in verdict.reasons)


def test_evidence_of_another_key_is_not_believed(bare: Candidate, other_key: Key) -> None:
    bare.attach_everything()
    bare.sign(key=other_key)
    verdict = bare.judge()
    assert not verdict.allow
    assert any("signature: no signature is believed" in reason for reason in verdict.reasons)
    assert any(note.startswith("not believed: sha256:") for note in verdict.notes)


def test_evidence_of_another_digest_is_not_believed(good: Candidate) -> None:
    """Everything another release has, attached again to this one."""
    thief = candidate(good.place, good.key, "thief")
    for item in good.place.registry.referrers(good.place.repository, good.top.digest):
        stored = good.place.registry.get_manifest(good.place.repository, item.digest)
        document = json.loads(stored.raw)
        document["subject"]["digest"], document["subject"]["size"] = thief.top.digest, thief.top.size
        raw = json.dumps(document).encode()
        moved = ManifestBytes(raw, stored.media_type, Digest.of(raw))
        good.place.registry.put_manifest(good.place.repository, moved)
    verdict = thief.judge()
    assert not verdict.allow
    assert {reason.partition(":")[0] for reason in verdict.reasons} >= {
        "signature",
        "SLSA provenance",
        "CycloneDX SBOM",
    }
    assert any(f"about {good.top.digest.short}" in note for note in verdict.notes)
    assert good.judge().allow


def test_a_denied_release_stays_denied_when_another_passes(good: Candidate) -> None:
    bad = candidate(good.place, good.key, "bad")
    bad.attach_everything(CRITICAL)
    bad.sign()
    assert [good.judge().allow, bad.judge().allow, good.judge().allow] == [True, False, True]


@pytest.mark.parametrize("what", ["SBOM", "report", "provenance"])
def test_every_platform_must_be_covered(bare: Candidate, what: str) -> None:
    amd64 = bare.children[0]
    bare.attach_provenance(*((bare.top.digest, amd64.digest) if what == "provenance" else ()))
    bare.attach_sbom(amd64)
    if what != "SBOM":
        bare.attach_sbom(bare.children[1])
    bare.attach_report(covers=[amd64] if what == "report" else bare.children)
    bare.sign()
    verdict = bare.judge()
    assert not verdict.allow
    assert all(f"linux/arm64 ({bare.children[1].digest})" in reason for reason in verdict.reasons)
    assert len(verdict.reasons) == 1


def test_provenance_of_the_index_alone_covers_what_its_digest_binds(bare: Candidate) -> None:
    bare.attach_everything()
    attest(bare.place, bare.top, PROVENANCE_TYPE, {}, bare.key.signer)
    bare.sign()
    assert bare.judge().allow


def test_provenance_of_several_images_covers_each(bare: Candidate) -> None:
    """As a builder signs it that makes two images at once and names the indexes only."""
    for child in bare.children:
        bare.attach_sbom(child)
    bare.attach_report()
    bare.sign()
    subjects = [bare.top.digest, Digest.of(b"another image of the same build")]
    statement = write_statement(PROVENANCE_TYPE, PROVENANCE, subjects=subjects, name="app")
    attest_statement(bare.place, bare.top, statement, bare.key.signer)
    assert bare.judge().allow


@pytest.mark.peer("cosign")
def test_provenance_that_a_team_attested_with_cosign_counts_when_its_key_is_trusted(
    bare: Candidate, make_key: Callable[[str], Key], cosign: Cosign
) -> None:
    ci = make_key("ci")
    for child in bare.children:
        bare.attach_sbom(child)
    bare.attach_report()
    bare.sign()
    assert [reason.partition(":")[0] for reason in bare.judge().reasons] == ["SLSA provenance"]
    image = f"{bare.place}@{bare.top.digest}"
    files = generate_key(cosign.home / "ci.key", form="cosign")
    made = cosign.attest(files.private, "slsaprovenance1", json.dumps(PROVENANCE), image, *NO_LOG["cosign"])
    assert made.returncode == 0, made.stderr
    assert not bare.judge().allow
    for trusted, allow in (([ci.public], False), ([files.public, bare.key.public], True)):
        verdict = judge(bare.place, bare.top, DEFAULT_POLICY, load_verifier(trusted), image="app", now=NOW)
        assert verdict.allow is allow


def test_evidence_is_judged_behind_the_air_gap_from_a_folder(good: Candidate, tmp_path: Path) -> None:
    """A layout folder is a registry: no server, no network."""
    folder = Place(LayoutRegistry(tmp_path / "folder"), "team/app")
    copy_closure(good.place, "v1-good", [folder], engine=Engine(state=tmp_path / "state"))
    assert judge(folder, good.top, DEFAULT_POLICY, good.key.verifier, image="app", now=NOW).allow


def test_a_registry_that_does_not_answer_gives_no_verdict(tmp_path: Path, key: Key) -> None:
    with EmbeddedServer(tmp_path / "gone") as server:
        registry = DistributionRegistry(server.address, retries=Retries(attempts=1))
        release = candidate(Place(registry, "team/app"), key)
        release.attach_everything()
        release.sign()
    with pytest.raises(Unavailable):
        release.judge()
    registry.close()


def test_an_sbom_of_another_platform_covers_nothing(place: Place, key: Key) -> None:
    """A single-platform release with the signed SBOM of some other manifest."""
    top, elsewhere = push_image(place, "one", tag="v1-one"), push_image(place, "two")
    one = Candidate(place, key, "one", top, [top])
    one.attach_provenance(top.digest)
    one.attach_sbom(elsewhere)
    one.attach_report()
    one.sign()
    verdict = one.judge()
    assert verdict.reasons == (f"CycloneDX SBOM: the signed evidence does not cover linux/amd64 ({top.digest})",)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"metadata": {"component": {}}},
        {"metadata": {"component": {"properties": [{"value": "x"}, 1], "hashes": 1, "bom-ref": "no digest"}}},
    ],
)
def test_an_sbom_that_names_no_image_covers_its_signed_subject(place: Place, key: Key, document: Any) -> None:
    top = push_image(place, "one", tag="v1-one")
    one = Candidate(place, key, "one", top, [top])
    one.attach_provenance(top.digest)
    one.attach_report()
    one.attach(SBOM_MEDIA_TYPE, json.dumps(document).encode())
    one.sign()
    assert one.judge().allow


def test_an_sbom_may_name_its_image_by_hash_or_property(place: Place, key: Key) -> None:
    top = push_image(place, "one", tag="v1-one")
    one = Candidate(place, key, "one", top, [top])
    one.attach_provenance(top.digest)
    one.attach_report()
    other = Digest.of(b"other")
    for component in (
        {"hashes": [{"alg": "SHA-256", "content": other.hex}]},
        {"properties": [{"name": "x", "value": other}]},
        {"bom-ref": f"pkg:oci/app@{other}"},
    ):
        one.attach(SBOM_MEDIA_TYPE, json.dumps({"metadata": {"component": component}}).encode())
    one.sign()
    assert not one.judge().allow
    right = {"metadata": {"component": {"hashes": [{"alg": "SHA-256", "content": top.digest.hex}]}}}
    one.attach(SBOM_MEDIA_TYPE, json.dumps(right).encode())
    one.sign()
    assert one.judge().allow


def test_required_platforms_must_be_there(good: Candidate) -> None:
    s390x = Platform(os="linux", architecture="s390x")
    verdict = good.judge(change(platforms=(ARM64, s390x)))
    assert verdict.reasons == ("platforms: linux/s390x is required, the release has linux/amd64, linux/arm64",)
    assert good.judge(change(platforms=(ARM64,))).allow


def test_an_index_without_images_is_denied(place: Place, key: Key) -> None:
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=()))
    place.registry.put_manifest(place.repository, index)
    verdict = Candidate(place, key, "empty", index.descriptor, []).judge()
    assert "platforms: the release holds no image that could be started" in verdict.reasons


def test_a_release_with_a_missing_child_is_denied(place: Place, key: Key) -> None:
    gone = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"gone"), size=4)
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(gone,)))
    place.registry.put_manifest(place.repository, index)
    verdict = Candidate(place, key, "hole", index.descriptor, []).judge()
    assert verdict.reasons == (f"release: the child manifest {gone.digest} does not exist",)


def test_an_unknown_release_raises(place: Place, key: Key) -> None:
    push_image(place)
    ghost = Descriptor(media_type=media_types.OCI_MANIFEST, digest=Digest.of(b"ghost"), size=5)
    with pytest.raises(NotFound):
        judge(place, ghost, DEFAULT_POLICY, key.verifier, image="app")


def test_the_clock_is_used_when_no_time_is_told(good: Candidate) -> None:
    assert judge(good.place, good.top, DEFAULT_POLICY, good.key.verifier, image="app").time > "2026-01-01"


CONSTANT = (
    "which a reproducible build writes in place of a time, so its age is not known; build it with the time of its "
    "commit (SOURCE_DATE_EPOCH)"
)


@pytest.mark.parametrize(
    ("created", "reason"),
    [
        ("2026-10-24T12:00:00Z", ""),
        ("2026-11-23T14:00:00.123456789+02:00", ""),
        ("2026-11-24T11:00:00Z", ""),
        ("2026-10-24T11:59:59Z", "was made on 2026-10-24T11:59:59Z, more than 30d ago; build it again"),
        ("2026-11-24T12:00:01Z", "was made on 2026-11-24T12:00:01Z, in the future"),
        ("", "has no `created` in its config"),
        ("yesterday", "has no time in `created` of its config, but 'yesterday'"),
        ("2026-11-23T12:00:00", "has no time in `created` of its config, but '2026-11-23T12:00:00'"),
        ("9999-12-31T23:59:59-05:00", "has no time in `created` of its config, but '9999-12-31T23:59:59-05:00'"),
        ("1970-01-01T00:00:00Z", f"is dated 1970-01-01T00:00:00Z, {CONSTANT}"),
        ("1980-01-01T00:00:01Z", f"is dated 1980-01-01T00:00:01Z, {CONSTANT}"),
        ("0001-01-01T00:00:00Z", f"is dated 0001-01-01T00:00:00Z, {CONSTANT}"),
    ],
)
def test_an_image_must_be_as_young_as_the_policy_says(place: Place, key: Key, created: str, reason: str) -> None:
    """Constants: bazel and ko write 1970 or the year 1, buildpacks 1980-01-01T00:00:01Z."""
    top = push_image(place, "one", **({"created": created} if created else {}))
    one = Candidate(place, key, "one", top, [top])
    policy = Policy(required=(), max_image_age=Duration(days=30))
    assert one.judge(policy).reasons == ((f"image age: linux/amd64 ({top.digest}) {reason}",) if reason else ())
    assert one.judge(Policy(required=())).allow


def test_each_platform_of_a_release_has_its_own_age(good: Candidate) -> None:
    reasons = good.judge(change(max_image_age=Duration(days=30))).reasons
    assert reasons == tuple(
        f"image age: {child.platform} ({child.digest}) has no `created` in its config" for child in good.children
    )


def test_old_advisories_are_denied_with_their_date(bare: Candidate) -> None:
    bare.attach_everything(newest="2024-10-10T00:00:00Z")
    bare.sign()
    assert bare.judge().reasons == ("advisories: the newest is of 2024-10-10T00:00:00Z, more than 7 days old",)
    assert bare.judge(change(max_advisory_age=Duration(days=10000))).accepted == (
        "advisories-age: the newest is of 2024-10-10T00:00:00Z; up to 10000 days pass",
    )


def test_advisories_age_while_nothing_changes(good: Candidate) -> None:
    assert good.judge(now=NOW + timedelta(days=5)).allow
    assert not good.judge(now=NOW + timedelta(days=7)).allow


def test_old_advisories_pass_by_name_up_to_an_age(bare: Candidate) -> None:
    bare.attach_everything(newest="2026-10-01T00:00:00Z")
    bare.sign()
    accepted = AcceptedUnknown(kind="advisories-age", reason="feed is archived", until_age=Duration(days=60))
    other = AcceptedUnknown(kind="uncovered", reason="about packages, not about ages")
    verdict = bare.judge(change(accept_unknowns=(other, accepted)))
    assert verdict.allow
    assert verdict.accepted == (
        "advisories-age: the newest is of 2026-10-01T00:00:00Z; up to 60 days pass: feed is archived",
    )
    later = NOW + timedelta(days=30)
    denied = bare.judge(change(accept_unknowns=(accepted,)), now=later)
    assert denied.reasons == (
        "advisories: the newest is of 2026-10-01T00:00:00Z, more than 7 days old",
        "advisories: the newest is of 2026-10-01T00:00:00Z, more than 60 days old",
    )


def test_an_expired_acceptance_of_old_advisories_is_not_applied_and_said(bare: Candidate) -> None:
    bare.attach_everything(newest="2026-10-01T00:00:00Z")
    bare.sign()
    accepted = AcceptedUnknown(
        kind="advisories-age", reason="feed is archived", until_age=Duration(days=60), expires=day("2026-11-22")
    )
    verdict = bare.judge(change(accept_unknowns=(accepted,)))
    assert not verdict.allow
    assert verdict.notes == ("the acceptance of advisories-age expired on 2026-11-22 and was not applied",)
    assert bare.judge(change(accept_unknowns=(msgspec.structs.replace(accepted, expires=day("2026-11-23")),))).allow


@pytest.mark.parametrize(
    ("newest", "reason"),
    [
        ("", "not a time"),
        ("yesterday", "not a time"),
        ("2026-11-25T00:00:00Z", "in the future"),
        ("9999-12-31T23:59:59-05:00", "not a time"),
        ("0001-01-01T00:00:00+05:00", "not a time"),
    ],
)
def test_advisories_of_no_believable_date_are_denied(bare: Candidate, newest: str, reason: str) -> None:
    bare.attach_everything(newest=newest)
    bare.sign()
    assert reason in bare.judge().reasons[0]


def test_a_date_without_zone_is_utc(bare: Candidate) -> None:
    bare.attach_everything(newest="2026-11-22T00:00:00")
    bare.sign()
    assert bare.judge().allow


def test_an_unknown_is_denied_until_it_is_accepted_by_name(bare: Candidate) -> None:
    bare.attach_everything(unknowns=[UNCOVERED])
    accepted = AcceptedUnknown(kind="uncovered", subject="pkg:conda/python@*", reason="the interpreter has no feed")
    policy = change(accept_unknowns=(accepted,))
    assert bare.sign().withheld == ("uncovered: pkg:conda/python@3.11 (pkg:conda/*): no advisory ecosystem covers it",)
    bare.sign(policy)
    verdict = bare.judge(policy)
    assert verdict.allow
    assert verdict.accepted == ("uncovered:pkg:conda/python@3.11: the interpreter has no feed",)
    assert bare.judge().reasons == ("uncovered: pkg:conda/python@3.11 (pkg:conda/*): no advisory ecosystem covers it",)
    for wrong in ({"kind": "unreadable"}, {"subject": "pkg:conda/perl@*"}):
        assert not bare.judge(change(accept_unknowns=(msgspec.structs.replace(accepted, **wrong),))).allow
    expired = bare.judge(change(accept_unknowns=(msgspec.structs.replace(accepted, expires=day("2026-11-22")),)))
    assert not expired.allow
    assert expired.notes == (
        "the acceptance of uncovered:pkg:conda/python@* expired on 2026-11-22 and was not applied",
    )


def test_a_number_of_unknowns_passes_and_is_told(bare: Candidate) -> None:
    policy = change(limits=FindingLimits(unknowns=1))
    bare.attach_everything(unknowns=[UNCOVERED])
    bare.sign(policy)
    verdict = bare.judge(policy)
    assert verdict.allow
    assert verdict.accepted == ("unknowns: 1 that no acceptance names (1 uncovered; up to 1 pass)",)
    assert bare.judge(change(limits=FindingLimits(unknowns=None))).accepted[0].endswith("any number passes)")


def test_the_undeclared_are_one_line_of_a_verdict(bare: Candidate) -> None:
    bare.attach_everything(unknowns=UNDECLARED)
    bare.sign()
    line = "undeclared: 7 libraries and programs that no package list names: from liba.so.1 to libg.so.1"
    assert bare.judge().allow and bare.judge().accepted == (line,)
    policy = change(limits=FindingLimits(unknowns=None), undeclared="deny")
    assert bare.judge(policy).reasons == (line,)
    some = AcceptedUnknown(kind="undeclared", subject="pkg:generic/lib[a-f]*", reason="ours", expires=day("2026-11-23"))
    verdict = bare.judge(change(policy, accept_unknowns=(some,)))
    assert verdict.reasons == ("undeclared: 1 library or program that no package list names: libg.so.1",)
    assert verdict.accepted == (
        "undeclared: 6 libraries and programs that no package list names: from liba.so.1 to libf.so.1: ours",
    )
    rest = msgspec.structs.replace(some, subject="pkg:generic/libg*", expires=None)
    assert bare.judge(change(policy, accept_unknowns=(some, rest))).allow
    late = bare.judge(change(policy, accept_unknowns=(some, rest)), now=NOW + timedelta(days=1))
    assert not late.allow and "expired on 2026-11-23" in late.notes[0]


def test_a_report_of_an_earlier_version_is_not_believed_and_says_why(bare: Candidate) -> None:
    bare.attach_everything()
    old = bare.report(unknowns=[UNCOVERED], scanned_at="2026-11-23T09:00:00Z").encode()
    bare.attach(REPORT_MEDIA_TYPE, old.replace(b'"uncovered"', b'"no-data"'))
    bare.sign()
    verdict = bare.judge()
    assert verdict.allow and any("of an earlier version" in note for note in verdict.notes)


def test_an_exception_excuses_a_finding_by_name_until_its_day(bare: Candidate) -> None:
    excuse = PolicyException(
        advisory="PYSEC-2026-1",
        component="pkg:pypi/jinja2@*",
        owner="sec",
        reason="not reachable",
        expires=day("2026-11-23"),
    )
    policy = change(exceptions=(excuse,))
    bare.attach_everything(CRITICAL)
    bare.sign(policy)
    verdict = bare.judge(policy)
    assert verdict.allow
    assert verdict.accepted == (
        "exception PYSEC-2026-1 for pkg:pypi/jinja2@3.1.2 until 2026-11-23, for which sec answers: not reachable",
    )
    assert verdict.counts["CRITICAL"] == 0
    expired = bare.judge(policy, now=NOW + timedelta(days=1))
    assert not expired.allow
    assert expired.notes == (
        "the exception PYSEC-2026-1 for pkg:pypi/jinja2@3.1.2 expired on 2026-11-23 and was not applied",
    )
    for wrong in ({"advisory": "CVE-1"}, {"component": "pkg:pypi/numpy@*"}, {"image": "another"}):
        assert not bare.judge(change(exceptions=(msgspec.structs.replace(excuse, **wrong),))).allow


def test_fixable_only_accepts_what_nobody_can_fix_by_name(bare: Candidate) -> None:
    policy = change(fixable_only=True)
    bare.attach_everything(msgspec.structs.replace(CRITICAL, fixed_versions=()))
    bare.sign(policy)
    verdict = bare.judge(policy)
    assert verdict.allow
    assert "no fix is known" in verdict.accepted[0]
    assert not bare.judge().allow


def test_fixable_only_denies_what_can_be_fixed(bare: Candidate) -> None:
    bare.attach_everything(CRITICAL)
    assert not bare.judge(change(fixable_only=True)).allow


def test_suppressed_findings_are_mentioned(bare: Candidate) -> None:
    owned = msgspec.structs.replace(CRITICAL, suppressed="os-owned: deb python3-jinja2")
    bare.attach_everything(owned)
    bare.sign()
    verdict = bare.judge()
    assert verdict.allow
    why = "not count: a package of the operating system owns what it is about; the report names it"
    assert verdict.notes == (f"1 finding does {why}",)
    bare.attach_report(owned, owned, scanned_at="2026-11-23T11:00:00Z")
    bare.sign()
    assert bare.judge().notes == (f"2 findings do {why}",)


@pytest.mark.parametrize(
    ("severity", "allowed"), [("HIGH", False), ("UNKNOWN", False), ("MEDIUM", True), ("LOW", True)]
)
def test_the_default_policy_denies_critical_high_and_unknown(bare: Candidate, severity: Any, allowed: bool) -> None:
    bare.attach_everything(msgspec.structs.replace(CRITICAL, severity=severity))
    bare.sign()
    assert bare.judge().allow is allowed


def test_a_later_unsigned_report_stops_a_release_that_passed(good: Candidate) -> None:
    """A rescan that finds something is not signed; the older clean report still is."""
    good.attach_report(CRITICAL, scanned_at="2026-11-23T11:00:00Z")
    assert good.sign().withheld
    verdict = good.judge()
    assert not verdict.allow
    assert "CVE-2026-1" in verdict.reasons[0]
    assert "a later one, of 2026-11-23T11:00:00Z, is not signed" in verdict.reasons[1]
    assert verdict.counts["CRITICAL"] == 0 and verdict.accepted == ()  # those of the report that somebody vouched for


def test_another_unsigned_report_of_the_same_second_stops_it_too(good: Candidate) -> None:
    good.attach_report(CRITICAL)
    assert "CVE-2026-1" in "".join(good.judge().reasons)


def test_a_rescan_in_the_same_second_is_dated_later(good: Candidate) -> None:
    worse = good.report([CRITICAL])
    published = publish_report(good.place, good.top, worse)
    assert Report.decode(published.content).scanned_at == "2026-11-23T10:00:01Z"
    assert not publish_report(good.place, good.top, worse).changed
    assert good.sign().withheld
    assert not good.judge().allow
    assert publish_report(good.place, good.top, good.report()).changed
    good.sign()
    assert good.judge().allow


@pytest.mark.parametrize("scanned_at", ["2026-11-23T11:00:00Z", "soon", "2026-11-23T10:00:00"])
def test_a_report_far_ahead_moves_no_clock(bare: Candidate, scanned_at: str) -> None:
    bare.attach_report(CRITICAL, scanned_at=scanned_at)
    published = publish_report(bare.place, bare.top, bare.report())
    assert Report.decode(published.content) == bare.report()


def test_an_earlier_unsigned_report_changes_nothing(good: Candidate) -> None:
    good.attach_report(CRITICAL, scanned_at="2026-11-20T11:00:00Z")
    assert good.judge().allow


def test_the_latest_of_several_signed_reports_counts(good: Candidate) -> None:
    worse = good.report([CRITICAL], scanned_at="2026-11-23T11:00:00Z")
    attest(good.place, good.top, VULNERABILITIES_TYPE, vulnerability_predicate(worse), good.key.signer)
    assert "CVE-2026-1" in good.judge().reasons[0]


def test_a_report_signed_under_our_own_type_is_judged_by_the_policy_of_today(bare: Candidate) -> None:
    """No record of cosign's was written when it was scanned: its finding did not pass the policy of that day."""
    bare.attach_everything(CRITICAL)
    made = attest_report(bare.place, bare.top, bare.report([CRITICAL]), bare.key.signer)
    bare.sign()
    [reason] = bare.judge().reasons
    assert "CVE-2026-1" in reason
    excuse = PolicyException(advisory="CVE-2026-1", owner="sec", reason="not reached", expires=day("2027-01-31"))
    verdict = bare.judge(change(exceptions=(excuse,)))
    assert verdict.allow
    assert (REPORT_TYPE, made.descriptor.digest) in [(item.predicate_type, item.digest) for item in verdict.evidence]


def test_cosigns_record_comes_after_the_verdict_and_changes_none(good: Candidate) -> None:
    """Of a key that signed the report itself. Alone, as builds before wrote it, it is the report."""
    verdict = good.judge()
    made = attest_pass(good.place, good.top, good.report(), good.key.signer)
    assert made.changed and good.judge().same_judgement(verdict)
    worse = good.report([CRITICAL], scanned_at="2026-11-23T11:00:00Z")
    attest_pass(good.place, good.top, worse, good.key.signer)
    assert "CVE-2026-1" in good.judge().reasons[0]


@pytest.mark.parametrize(
    ("predicate", "note"),
    [
        ({}, "has no `scanner.result`"),
        ({"scanner": {"uri": "pkg:trivy", "result": {}}}, "of another scanner"),
        ({"scanner": {"uri": "urn:registry-pipelines:scanner", "result": {}}}, "vulnerability report is not valid"),
    ],
)
def test_a_signed_report_we_cannot_read_is_no_report(bare: Candidate, predicate: Any, note: str) -> None:
    bare.attach_everything()
    attest(bare.place, bare.top, VULNERABILITIES_TYPE, predicate, bare.key.signer)
    verdict = bare.judge(change(required=("vulnerabilities",)))
    assert not verdict.allow
    assert verdict.reasons == ("vulnerability report: no trusted key signed it; scan where the scanner's key is",)
    assert any(note in item for item in verdict.notes)


def test_a_signed_report_about_another_digest_is_not_used(bare: Candidate) -> None:
    bare.attach_everything()
    lie = bare.report(subject=Digest.of(b"other"))
    attest(bare.place, bare.top, VULNERABILITIES_TYPE, vulnerability_predicate(lie), bare.key.signer)
    verdict = bare.judge()
    assert "vulnerability report: no trusted key signed it; scan where the scanner's key is" in verdict.reasons
    assert any("the signed vulnerability report is about" in note for note in verdict.notes)


def test_unreadable_and_foreign_unsigned_reports_are_noted(good: Candidate) -> None:
    good.attach(REPORT_MEDIA_TYPE, b"{")
    good.attach_report(CRITICAL, subject=Digest.of(b"other"), scanned_at="2026-11-23T11:00:00Z")
    verdict = good.judge()
    assert verdict.allow
    assert any("vulnerability report is not valid" in note for note in verdict.notes)
    assert any("the attached vulnerability report is about" in note for note in verdict.notes)


def test_a_policy_may_do_without_a_report_but_not_overlook_one(bare: Candidate) -> None:
    policy = change(required=())
    assert bare.judge(policy).allow
    bare.attach_report(CRITICAL)
    assert "CVE-2026-1" in bare.judge(policy).reasons[0]


def test_any_other_predicate_type_can_be_required(bare: Candidate) -> None:
    review = "https://example.com/review/v1"
    policy = change(required=(), attestations=(review,))
    assert bare.judge(policy).reasons == (f"{review}: no attestation of type {review} is signed by a trusted key",)
    attest(bare.place, bare.top, review, {"by": "team"}, bare.key.signer)
    assert bare.judge(policy).allow


def test_the_sig_tag_alone_is_a_signature(bare: Candidate) -> None:
    signed = sign_image(bare.place, bare.top, bare.key.signer, identity="app")
    bare.place.registry.delete_manifest(bare.place.repository, signed.bundle.digest)
    verdict = bare.judge(change(required=("signature",)))
    assert verdict.allow
    assert [item.predicate_type for item in verdict.evidence] == ["signature:sig"]


def test_the_list_of_unbelieved_evidence_is_bounded(good: Candidate) -> None:
    for number in range(MAX_NOTES + 3):
        good.attach(media_types.SIGSTORE_BUNDLE, base64.b64encode(str(number).encode()))
    verdict = good.judge()
    assert verdict.allow
    assert len(verdict.notes) == MAX_NOTES + 1
    assert verdict.notes[-1] == "not believed: 3 more"


def test_artifacts_in_an_index_need_no_evidence(place: Place, key: Key) -> None:
    """A SOCI index has no image config; a BuildKit attestation has in-toto layers and is listed for no platform:
    nothing starts them."""
    image = push_image(place, "one")
    layer = push_blob(place, b"statement", media_type=media_types.IN_TOTO)
    config = push_blob(place, b"{}", media_type=media_types.OCI_CONFIG)
    soci = push_blob(place, b"{}", media_type=media_types.SOCI_V2)
    documents = [
        {"config": config, "layers": [layer]},
        {"config": soci, "layers": [layer], "artifactType": media_types.SOCI_V2},
    ]
    nowhere = Platform(os="unknown", architecture="unknown")
    children = [image]
    for document in documents:
        raw = msgspec.json.encode(
            {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, **document}, enc_hook=str.__str__
        )
        stored = ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw))
        place.registry.put_manifest(place.repository, stored)
        children.append(msgspec.structs.replace(stored.descriptor, platform=nowhere))
    blob = Descriptor(media_type="text/plain", digest=layer.digest, size=layer.size)
    index = manifest_bytes(
        Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(*children, image, blob))
    )
    place.registry.put_manifest(place.repository, index)
    verdict = Candidate(place, key, "one", index.descriptor, [image]).judge()
    assert verdict.platforms == {image.digest: "linux/amd64"}


def test_the_scanners_own_documents_cover_their_platforms(bare: Candidate) -> None:
    bare.attach_provenance()
    bare.attach_report()
    packages = [
        PlatformPackages(subject=bare.top.digest, manifest=child, platform=child.platform or ARM64, components=())
        for child in bare.children
    ]
    publish_sboms(bare.place, bare.top, packages)
    bare.sign()
    assert bare.judge().allow
