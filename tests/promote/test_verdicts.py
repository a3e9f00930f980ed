"""Verdicts as signed evidence: written once for each judgement, believed only when whole and trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import attest, read_attestations
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import VERDICT_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import DEFAULT_POLICY, PublishedVerdict, Verdict
from registry_pipelines.promote.verdicts import EXTENSION, from_predicate, publish, read, to_predicate
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
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_1"]
    assert predicate["resourceUri"] == f"oci://{good.place}@{good.top.digest}"
    assert predicate["policy"] == {
        "uri": "urn:registry-pipelines:policy:default",
        "digest": {"sha256": DEFAULT_POLICY.digest.hex},
    }
    assert predicate["timeVerified"] == "2026-11-23T12:00:00Z"
    assert len(predicate["inputAttestations"]) == 5
    policy = msgspec.structs.replace(DEFAULT_POLICY, required=("signature",))
    assert to_predicate(good.place, good.judge(policy))["verifiedLevels"] == ["SLSA_BUILD_LEVEL_0"]


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
    return replace(published, changed=False)


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
