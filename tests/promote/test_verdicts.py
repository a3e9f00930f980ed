"""Verdicts as signed evidence: written once for each judgement, believed only when whole and trusted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from registry_pipelines.errors import ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import REPORT_TYPE, SIGNATURE_TYPE, VERDICT_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import DEFAULT_POLICY, PublishedVerdict, Verdict
from registry_pipelines.promote.verdicts import EXTENSION, for_consumer, from_predicate, publish, read, to_predicate
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration
from tests.evidence.parts import Cosign, Counted, Key
from tests.promote.parts import CRITICAL, NOW, Candidate, candidate


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner) | st.dictionaries(st.sampled_from([*Verdict.__struct_fields__, "x"]), inner)


def test_a_verdict_is_read_back_as_it_was_made(good: Candidate) -> None:
    verdict = good.judge()
    published = good.publish(verdict)
    found = read(good.place, good.top.digest, good.key.verifier)
    assert published.changed
    assert [(item.verdict, item.digest, item.key_id) for item in found.published] == [
        (verdict, published.digest, good.key.signer.key_id)
    ]
    assert found.rejected == ()


def test_the_standard_fields_say_the_same(good: Candidate) -> None:
    predicate = to_predicate(good.place, good.judge())
    assert predicate["verifier"] == {"id": "urn:registry-pipelines:promote:v1"}
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_1"]
    assert predicate["policy"] == {
        "uri": "urn:registry-pipelines:policy:default",
        "digest": {"sha256": DEFAULT_POLICY.digest.hex},
    }
    assert predicate["timeVerified"] == "2026-11-23T12:00:00Z"
    policy = msgspec.structs.replace(DEFAULT_POLICY, required=("signature",))
    levels = to_predicate(good.place, good.judge(policy))["verifiedLevels"]
    assert levels == ["SLSA_BUILD_LEVEL_UNEVALUATED"]


def test_a_summary_names_no_place_but_for_a_consumer(good: Candidate) -> None:
    """By the official reader of package URLs. A copy elsewhere is the same resource."""
    verdict = good.judge()
    there = PackageURL.from_string(to_predicate(good.place, verdict)["resourceUri"])
    name = good.place.repository.rpartition("/")[2]
    assert (there.type, there.namespace, there.name, there.version) == ("oci", None, name, good.top.digest)
    assert there.qualifiers == {}
    elsewhere = Place(good.place.registry, f"replicas/{good.place.repository}")
    assert to_predicate(elsewhere, verdict) == to_predicate(good.place, verdict)
    consumer = for_consumer(good.place, good.publish(verdict), "eu.example:5000/replicas/app")
    theirs = PackageURL.from_string(consumer["resourceUri"])
    assert theirs.qualifiers == {"repository_url": "eu.example:5000/replicas/app"}
    assert (theirs.name, theirs.version) == ("app", good.top.digest)
    assert theirs.to_string() == consumer["resourceUri"]


def test_the_inputs_are_all_that_was_used_or_none_are_named(good: Candidate, bare: Candidate) -> None:
    inputs = to_predicate(good.place, good.judge())["inputAttestations"]
    used = {f"sha256:{each['digest']['sha256']}": each["name"] for each in inputs}
    for each in inputs:  # each can be read, at any copy
        uri = PackageURL.from_string(each["uri"])
        assert good.place.registry.get_manifest(good.place.repository, Digest.parse(str(uri.version)))
        assert uri.version in used and not uri.qualifiers
    known = read_attestations(good.place, good.top.digest, good.key.verifier).verified
    kinds = {*DEFAULT_POLICY.predicate_types, SIGNATURE_TYPE} - {VULNERABILITIES_TYPE}
    wanted = {each.descriptor.digest for each in known if each.predicate_type in kinds}
    assert wanted <= used.keys()
    reports = [each for each in known if each.descriptor.digest in used.keys() - wanted]
    assert len(reports) == 1 and reports[0].predicate_type in (REPORT_TYPE, VULNERABILITIES_TYPE)
    other = candidate(good.place, good.key, "other")
    other.attach_everything(CRITICAL)
    other.sign()
    assert "inputAttestations" not in to_predicate(other.place, other.judge())


def test_a_verdict_is_repeated_for_each_consumer_once(counted: Counted, key: Key) -> None:
    release = candidate(counted.place, key)
    release.attach_everything()
    release.sign()
    eu, us = "eu.example/app", "us.example/team/app"

    def publish_for(*consumers: str, later: int = 0) -> PublishedVerdict:
        verdict = release.judge(now=NOW + timedelta(hours=later))
        return publish(release.place, release.top, verdict, key.signer, key.verifier, consumers=consumers)

    def resources() -> list[str]:
        known = read_attestations(release.place, release.top.digest, key.verifier)
        summaries = [each.predicate for each in known.of_type(VERDICT_TYPE)]
        assert {each["verificationResult"] for each in summaries} == {"PASSED"}
        assert len({each["timeVerified"] for each in summaries}) == 1
        return sorted(each["resourceUri"].partition("?repository_url=")[2] for each in summaries)

    first = publish_for(eu)
    assert (first.changed, resources()) == (True, ["", eu])
    before = counted.files()
    assert publish_for(eu, later=1).digest == first.digest
    assert counted.files() == before
    assert publish_for(eu, us, later=2).digest == first.digest
    assert resources() == ["", eu, us]
    found = read(release.place, release.top.digest, key.verifier)
    assert [each.digest for each in found.published] == [first.digest]
    assert found.rejected == ()


def test_a_denial_is_published_with_its_reasons(bare: Candidate) -> None:
    bare.attach_everything(CRITICAL)
    verdict = bare.judge()
    bare.publish(verdict)
    predicate = read_attestations(bare.place, bare.top.digest, bare.key.verifier).of_type(VERDICT_TYPE)[0].predicate
    assert (predicate["verificationResult"], predicate["verifiedLevels"]) == ("FAILED", ["FAILED"])
    assert predicate[EXTENSION]["reasons"] == list(verdict.reasons)


def test_judging_again_writes_nothing_until_something_changes(counted: Counted, key: Key) -> None:
    release = candidate(counted.place, key)
    release.attach_everything()
    release.sign()
    first = release.publish(release.judge())
    before = counted.files()
    again = release.publish(release.judge(now=NOW + timedelta(hours=1)))
    assert (again.digest, again.changed, again.verdict.time) == (first.digest, False, first.verdict.time)
    assert counted.files() == before
    release.attach_report(CRITICAL, scanned_at="2026-11-23T11:00:00Z")
    assert release.publish(release.judge(now=NOW + timedelta(hours=2))).changed
    latest = read(counted.place, release.top.digest, key.verifier).latest()
    assert latest is not None
    assert not latest.verdict.allow


def test_noise_of_others_does_not_make_a_new_verdict(good: Candidate, other_key: Key) -> None:
    first = good.publish(good.judge())
    attest(good.place, good.top, VERDICT_TYPE, {}, other_key.signer)
    assert good.judge().notes
    assert good.publish(good.judge(now=NOW + timedelta(hours=1))).digest == first.digest


def test_a_verdict_about_another_digest_is_not_published(good: Candidate, bare: Candidate) -> None:
    other = candidate(good.place, good.key, "other")
    with pytest.raises(SignatureInvalid, match="the verdict is about"):
        publish(good.place, other.top, good.judge(), good.key.signer, good.key.verifier)


def test_a_verdict_by_an_untrusted_key_is_not_believed(good: Candidate, other_key: Key) -> None:
    publish(good.place, good.top, good.judge(), other_key.signer, other_key.verifier)
    found = read(good.place, good.top.digest, good.key.verifier)
    assert found.latest() is None
    assert "made by a trusted key" in found.rejected[0].reason


def test_each_policy_has_its_own_latest_verdict(good: Candidate) -> None:
    strict = msgspec.structs.replace(DEFAULT_POLICY, name="strict", max_advisory_age=Duration(days=0))
    first = good.publish(good.judge())
    second = good.publish(good.judge(strict, now=NOW + timedelta(hours=1)))
    third = good.publish(good.judge(now=NOW + timedelta(hours=2)))
    found = read(good.place, good.top.digest, good.key.verifier)
    assert (first.changed, second.changed, third.changed) == (True, True, False)
    assert [item.verdict.policy for item in found.published] == ["strict", "default"]
    assert found.latest(policy="default") == found.published[1]
    assert found.latest(image="another") is None


def test_of_equal_times_the_denial_counts(good: Candidate) -> None:
    allowed = good.judge()
    denied = msgspec.structs.replace(allowed, allow=False, reasons=("no",))
    for verdict in (denied, allowed):
        predicate = to_predicate(good.place, verdict)
        attest(good.place, good.top, VERDICT_TYPE, predicate, good.key.signer)
    latest = read(good.place, good.top.digest, good.key.verifier).latest()
    assert latest is not None
    assert not latest.verdict.allow


def test_a_new_verdict_is_dated_after_the_latest(good: Candidate) -> None:
    """Two in one second, and one by a machine whose clock is behind: the last one made counts."""
    good.publish(good.judge(now=NOW + timedelta(hours=1)))
    stricter = msgspec.structs.replace(DEFAULT_POLICY, max_advisory_age=Duration(days=0))
    second = good.publish(good.judge(stricter, now=NOW))
    assert second.verdict.time == "2026-11-23T13:00:01Z"
    third = good.publish(good.judge(now=NOW))
    assert read(good.place, good.top.digest, good.key.verifier).latest() == as_read(third)


def as_read(published: PublishedVerdict) -> PublishedVerdict:
    return msgspec.structs.replace(published, changed=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({EXTENSION: None}, "verdict is not valid"),
        ({"verificationResult": "PASSED"}, "contradicts"),
        ({"verificationResult": None}, "contradicts"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_not_believed(bare: Candidate, change: Any, reason: str) -> None:
    predicate = {**to_predicate(bare.place, bare.judge()), **change}
    attest(bare.place, bare.top, VERDICT_TYPE, predicate, bare.key.signer)
    found = read(bare.place, bare.top.digest, bare.key.verifier)
    assert found.published == ()
    assert reason in found.rejected[0].reason


def test_an_allow_with_reasons_is_not_believed(good: Candidate) -> None:
    lie = msgspec.structs.replace(good.judge(), reasons=("but",))
    with pytest.raises(SignatureInvalid, match="contradicts"):
        from_predicate(to_predicate(good.place, lie))


def test_a_verdict_without_a_date_is_not_believed(good: Candidate) -> None:
    undated = msgspec.structs.replace(good.judge(), time="soon")
    with pytest.raises(SignatureInvalid, match="'soon' of the verdict is not a time"):
        from_predicate(to_predicate(good.place, undated))


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), _containers, max_leaves=8))
@settings(max_examples=60, deadline=None)
def test_arbitrary_content_is_our_error(content: Any) -> None:
    with pytest.raises((SignatureInvalid, ManifestInvalid)):
        from_predicate({EXTENSION: content, "verificationResult": "PASSED"})


def test_a_summary_by_another_program_is_not_ours(good: Candidate) -> None:
    predicate = {name: value for name, value in to_predicate(good.place, good.judge()).items() if name != EXTENSION}
    with pytest.raises(SignatureInvalid, match="another program made it"):
        from_predicate(predicate)


def test_a_field_of_the_wrong_type_is_named(good: Candidate) -> None:
    predicate = to_predicate(good.place, good.judge())
    predicate[EXTENSION]["release"] = "latest"
    with pytest.raises(ManifestInvalid, match="release"):
        from_predicate(predicate)


def test_a_verdict_signed_for_this_digest_must_be_about_it(good: Candidate) -> None:
    lie: Verdict = msgspec.structs.replace(good.judge(), release=Digest.of(b"other"))
    attest(good.place, good.top, VERDICT_TYPE, to_predicate(good.place, lie), good.key.signer)
    found = read(good.place, good.top.digest, good.key.verifier)
    assert "the verdict is about" in found.rejected[0].reason


@pytest.mark.peer("cosign")
def test_cosign_verifies_a_verdict(good: Candidate, other_key: Key, cosign: Cosign) -> None:
    good.publish(good.judge())
    image = f"{good.place}@{good.top.digest}"
    assert cosign.verify_attestation(good.key.public, VERDICT_TYPE, image).returncode == 0
    assert cosign.verify_attestation(other_key.public, VERDICT_TYPE, image).returncode != 0
    assert load_verifier([good.key.public]).key_ids == (good.key.signer.key_id,)
