"""The gate's two questions, asked about values: no registry, and one wording for both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import (
    DEFAULT_POLICY,
    TIME_FORMAT,
    Policy,
    PolicyException,
    PromotionRecord,
    PublishedVerdict,
    Step,
    Verdict,
    in_order,
)
from registry_pipelines.promote.gate import may_leave, may_promote
from registry_pipelines.promote.standing import Standing
from registry_pipelines.promote.verdicts import Verdicts
from registry_pipelines.release import Release
from registry_pipelines.scan.report import AdvisoryFacts, Report
from registry_pipelines.settings import Duration
from tests.promote.parts import CRITICAL, NOW

OWN = Digest.of(b"own")
OTHER = Digest.of(b"other")
RELEASE = Release("app", "v1", OWN)
STRICTER = msgspec.structs.replace(DEFAULT_POLICY, max_advisory_age=Duration(days=1))
MOVED = f"version: the tag v1 names {OTHER} now; a version tag never moves"
CHANGED = (
    f"verdict: policy default was changed since it was made (from {DEFAULT_POLICY.digest.short} to "
    f"{STRICTER.digest.short})"
)
GONE = "version: the tag v1 does not exist, and it was never promoted as that"


def report(minutes: int, *, bad: bool = False) -> Report:
    return Report(
        subject=OWN,
        covers=(OWN,),
        advisories=AdvisoryFacts(digest=OWN, newest="2026-11-22T00:00:00Z", records=1, source="x"),
        findings=(CRITICAL,) if bad else (),
        unknowns=(),
        components=1,
        scanned_at=(NOW + timedelta(minutes=minutes)).strftime(TIME_FORMAT),
    )


JUDGED = report(0)
ALLOW = Verdict(
    allow=True,
    image="app",
    release=OWN,
    policy="default",
    policy_digest=DEFAULT_POLICY.digest,
    reasons=(),
    accepted=("uncovered:x: ours",),
    report=str(Digest.of(JUDGED.encode())),
    time="2026-11-23T12:00:00Z",
)
DENY = msgspec.structs.replace(ALLOW, allow=False, reasons=("signature: none",), accepted=())
RECORD = PromotionRecord(
    image="app",
    repository="reg/app",
    channel="prod",
    to_digest=OWN,
    from_digest="",
    version="v1",
    promoted_by="ci",
    verdict=OWN,
    policy_digest=DEFAULT_POLICY.digest,
    time="2026-11-23T12:00:00Z",
)


def standing(*verdicts: Verdict, tagged: Digest | None = OWN, records: Sequence[PromotionRecord] = (RECORD,)) -> Any:
    published = tuple(PublishedVerdict(verdict, OWN, "key") for verdict in verdicts)
    return Standing(RELEASE, tagged, Verdicts(published, ()), tuple(records))


def leaving(found: Standing, *reports: Report, policy: Policy = DEFAULT_POLICY, channel: str = "prod") -> list[str]:
    return may_leave(found, reports, policy, channel=channel, now=NOW).reasons


def test_what_is_promoted_and_allowed_may_leave_with_what_was_accepted() -> None:
    found = may_leave(standing(ALLOW), [JUDGED], DEFAULT_POLICY, channel="prod", now=NOW)
    assert (found.passes, found.accepted) == (True, ["uncovered:x: ours"])
    assert may_promote(ALLOW, standing(ALLOW), DEFAULT_POLICY, {}).passes


@pytest.mark.parametrize(
    ("verdicts", "policy", "reasons"),
    [
        ([], DEFAULT_POLICY, ["verdict: none by policy default is signed by a trusted key"]),
        ([DENY], DEFAULT_POLICY, ["verdict: the latest signed one is deny", "signature: none"]),
        ([ALLOW], STRICTER, [CHANGED]),
    ],
)
def test_both_questions_say_the_same_about_the_signed_verdict(
    verdicts: list[Verdict], policy: Policy, reasons: list[str]
) -> None:
    now = msgspec.structs.replace(ALLOW, policy_digest=policy.digest)
    assert may_promote(now, standing(*verdicts), DEFAULT_POLICY, {}).reasons == reasons
    assert leaving(standing(*verdicts), JUDGED, policy=policy) == reasons


@pytest.mark.parametrize(("tagged", "reason"), [(OTHER, MOVED), (None, GONE)])
def test_both_questions_say_the_same_about_the_version_tag(tagged: Digest | None, reason: str) -> None:
    found = standing(ALLOW, tagged=tagged, records=[msgspec.structs.replace(RECORD, version="v0")])
    assert may_promote(ALLOW, found, DEFAULT_POLICY, {}).reasons == leaving(found, JUDGED) == [reason]


def test_the_record_of_another_image_with_this_digest_promotes_nothing() -> None:
    """Copied into the repository of a second image, with all evidence: its verdict is allow, and nobody promoted it."""
    other = standing(ALLOW, records=[msgspec.structs.replace(RECORD, image="other")])
    assert leaving(other, JUDGED) == ["promotion: no signed record puts prod on it"]


def test_a_version_tag_that_was_cleaned_up_is_still_the_releases_own() -> None:
    found = standing(ALLOW, tagged=None)
    assert may_promote(ALLOW, found, DEFAULT_POLICY, {}).passes and leaving(found, JUDGED) == []


def test_every_reason_is_told_at_once() -> None:
    assert may_promote(DENY, standing(tagged=OTHER), DEFAULT_POLICY, {}).reasons == ["signature: none", MOVED]
    assert leaving(standing(tagged=OTHER, records=[])) == [
        "verdict: none by policy default is signed by a trusted key",
        "promotion: no signed record puts prod on it",
        MOVED,
    ]


def test_a_verdict_from_other_evidence_is_none_for_this_one() -> None:
    other = msgspec.structs.replace(ALLOW, report=str(OTHER))
    assert may_promote(ALLOW, standing(other), DEFAULT_POLICY, {}).reasons == [
        "verdict: the evidence changed since it was made"
    ]


def test_a_reworded_reason_of_the_policy_lets_copies_leave() -> None:
    excuse = PolicyException(advisory="CVE-1", owner="sec", reason="ticket 1", expires=date(2027, 1, 31))
    before = msgspec.structs.replace(DEFAULT_POLICY, exceptions=(excuse,))
    after = msgspec.structs.replace(before, exceptions=(msgspec.structs.replace(excuse, reason="ticket 1, closed"),))
    allowed = msgspec.structs.replace(ALLOW, policy_digest=before.digest, accepted=("exception CVE-1: ticket 1",))
    assert leaving(standing(allowed), JUDGED, policy=after) == []
    now = msgspec.structs.replace(allowed, policy_digest=after.digest, accepted=("exception CVE-1: ticket 1, closed",))
    told = may_promote(now, standing(allowed), DEFAULT_POLICY, {})
    assert told.reasons == ["verdict: the policy accepts more, or words it otherwise, since it was made"]
    assert told.steps == [Step(kind="judge")]


def test_what_is_missing_is_named_as_steps() -> None:
    """The verdict's own where it denies; else what was not done yet."""
    want = (Step(kind="scan"), Step(kind="judge"))
    deny = msgspec.structs.replace(DENY, steps=want)
    assert may_promote(deny, standing(), DEFAULT_POLICY, {}).steps == list(want)
    leave = may_leave(standing(deny, records=[]), [], DEFAULT_POLICY, channel="prod", now=NOW)
    assert in_order(leave.steps) == (*want, Step(kind="promote"))
    assert may_leave(standing(ALLOW), [JUDGED], STRICTER, channel="prod", now=NOW).steps == [Step(kind="judge")]
    later = may_leave(standing(ALLOW), [JUDGED, report(1, bad=True)], DEFAULT_POLICY, channel="prod", now=NOW)
    assert in_order(later.steps)[0] == Step(kind="image", about=("pkg:pypi/jinja2@3.1.2: fixed in 3.1.6",))


def test_a_later_report_stops_it_and_none_can_hide_it() -> None:
    [reason] = leaving(standing(ALLOW), report(2), report(1, bad=True), JUDGED, report(-1, bad=True))
    assert reason.startswith("vulnerability report of 2026-11-23T12:01:00Z, after the verdict: CRITICAL 9.8")
    assert leaving(standing(ALLOW), JUDGED, report(1), report(-1, bad=True)) == []
    assert len(leaving(standing(ALLOW), report(-1, bad=True))) == 1  # the judged one is gone, so every one is later


def test_only_the_channel_it_was_promoted_to_counts() -> None:
    assert leaving(standing(ALLOW), JUDGED, channel="staging") == ["promotion: no signed record puts staging on it"]
