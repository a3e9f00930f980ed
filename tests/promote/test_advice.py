"""What a policy says of the inside of images: signed advice counts, and what nobody knows does not pass."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry_pipelines.evidence.predicates import IMAGE_ADVICE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.documents import AdviceLimits, Policy, Verdict
from registry_pipelines.scan.advice.document import RULES, Advice, ImageAdvice, PlatformAdvice, attest_advice
from registry_pipelines.scan.advice.kinds import ADVICE_KINDS
from registry_pipelines.settings import Size
from tests.evidence.parts import Key
from tests.promote.parts import Candidate, copied_evidence

SECRET = Advice(kind="secrets", severity="error", files=1, why="w", do="d", examples=("app/.env:1 env-file #0123ab",))
CACHE = Advice(kind="pip-cache", files=3, size=3_000_000, compressed=2_000_000, why="w", do="d")


def document(candidate: Candidate, *rows: Advice, **changes: Any) -> ImageAdvice:
    platforms = tuple(
        PlatformAdvice(
            image=child.digest,
            platform=str(child.platform),
            compressed=50_000_000,
            unpacked=90_000_000,
            wasted=sum(row.compressed for row in rows),
            wasted_unpacked=0,
            advice=rows,
        )
        for child in candidate.children
    )
    made = ImageAdvice(subject=candidate.top.digest, rules=RULES, looked_for=ADVICE_KINDS, platforms=platforms)
    return msgspec.structs.replace(made, **changes)


def sign(candidate: Candidate, made: ImageAdvice, key: Key | None = None) -> None:
    attest_advice(candidate.place, candidate.top, made, (key or candidate.key).signer)


def verdict(candidate: Candidate, **limits: Any) -> Verdict:
    policy = Policy(required=(), image_advice=AdviceLimits(**limits))
    return candidate.judge(policy)


def test_a_policy_that_says_nothing_asks_nothing_and_keeps_its_digest(bare: Candidate) -> None:
    sign(bare, document(bare, SECRET))
    found = verdict(bare)
    assert found.allow and IMAGE_ADVICE_TYPE not in {each.predicate_type for each in found.evidence}
    assert Policy(required=(), image_advice=AdviceLimits()).digest == Policy(required=()).digest
    assert Policy(image_advice=AdviceLimits(deny=("git",))).digest != Policy().digest


def test_without_signed_advice_a_release_is_denied(bare: Candidate, other_key: Key) -> None:
    for key in (None, other_key):
        found = verdict(bare, deny=("secrets",))
        assert found.reasons == ("image advice: none about this digest is signed by a trusted key",), key
        assert [step.kind for step in found.steps] == ["advice", "judge"]
        sign(bare, document(bare), other_key)


def test_kinds_that_are_denied_deny_and_others_pass(bare: Candidate) -> None:
    sign(bare, document(bare, SECRET, CACHE))
    assert verdict(bare, deny=("git", "compilers")).allow
    found = verdict(bare, deny=("pip-cache", "secrets"))
    assert len(found.reasons) == 4 and "has secrets, 1 file: app/.env:1 env-file #0123ab" in found.reasons[0]
    assert "has pip-cache, 3 files, 1.9 MiB" in found.reasons[1]
    assert {each.predicate_type for each in found.evidence} >= {IMAGE_ADVICE_TYPE}
    assert found.steps[0].kind == "image" and found.steps[0].about == ("pip-cache: d", "secrets: d")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_wasted": Size(1_999_999)}, "has 1.9 MiB wasted, at most 1999999 bytes pass"),
        ({"max_size": Size(40_000_000)}, "has 47.7 MiB in its layers, at most 40MB pass"),
        ({"max_wasted": Size(2_000_000), "max_size": Size(50_000_000)}, ""),
    ],
)
def test_bytes_are_held_against_the_limits(bare: Candidate, limits: Any, reason: str) -> None:
    sign(bare, document(bare, CACHE))
    found = verdict(bare, **limits)
    assert found.allow is not bool(reason)
    assert all(reason in each for each in found.reasons)


def test_what_nobody_looked_at_is_unknown(bare: Candidate) -> None:
    whole = document(bare)
    unread = msgspec.structs.replace(whole.platforms[0], unread=("layer 2: it is encrypted",))
    for made, reason in (
        (msgspec.structs.replace(whole, platforms=whole.platforms[1:]), "it does not cover"),
        (msgspec.structs.replace(whole, platforms=(unread, *whole.platforms[1:])), "layer 2: it is encrypted"),
        (msgspec.structs.replace(whole, looked_for=("hidden",)), "nobody looked for secrets"),
    ):
        sign(bare, made)
        found = verdict(bare, deny=("secrets",))
        assert not found.allow and any(reason in each for each in found.reasons), found.reasons
        assert [step.kind for step in found.steps] == ["advice", "judge"]


def test_of_several_the_latest_rules_count_and_equal_ones_all(bare: Candidate) -> None:
    sign(bare, document(bare, SECRET, rules=RULES - 1))
    sign(bare, document(bare))
    assert verdict(bare, deny=("secrets",)).allow
    sign(bare, document(bare, SECRET))
    assert not verdict(bare, deny=("secrets",)).allow


def test_advice_about_another_release_or_in_another_form_counts_for_nothing(bare: Candidate) -> None:
    sign(bare, document(bare, subject=Digest.of(b"other")))
    from registry_pipelines.evidence.attestations import attest

    attest(bare.place, bare.top, IMAGE_ADVICE_TYPE, {"advice": "fine"}, bare.key.signer)
    found = verdict(bare, deny=("secrets",))
    assert found.reasons == ("image advice: none about this digest is signed by a trusted key",)
    assert len([note for note in found.notes if note.startswith("image advice: ")]) == 2


def test_advice_by_older_rules_alone_is_unknown(bare: Candidate) -> None:
    """What newer rules found can be deleted from a registry without a key."""
    sign(bare, document(bare, rules=RULES - 1))
    found = verdict(bare, deny=("secrets",))
    assert found.reasons == (f"image advice: it was made by rules {RULES - 1}, and {RULES} are known by now",)
    assert [step.kind for step in found.steps] == ["advice", "judge"]


def test_each_row_about_an_image_counts(bare: Candidate) -> None:
    bad, good = document(bare, SECRET), document(bare)
    for platforms in (bad.platforms + good.platforms, good.platforms + bad.platforms):
        sign(bare, msgspec.structs.replace(good, platforms=platforms))
        assert any("has secrets" in reason for reason in verdict(bare, deny=("secrets",)).reasons)


def test_advice_that_was_copied_to_another_image_counts_for_nothing(bare: Candidate) -> None:
    """Its blobs and its signature, with another subject in the manifest."""
    sign(bare, document(bare))
    other = copied_evidence(bare)
    assert verdict(bare, deny=("secrets",)).allow
    assert verdict(other, deny=("secrets",)).reasons == (
        "image advice: none about this digest is signed by a trusted key",
    )
