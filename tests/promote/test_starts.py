"""What a policy asks of a start before a channel moves, and no verdict does: hot packs, their size, measurements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry_pipelines.errors import PromotionDenied, PromotionHeld
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.promote.channels import promote, promoted_already
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Step, in_order
from registry_pipelines.promote.starts import read_start, read_starts, starts_within
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration, Size
from registry_pipelines.stream.start_report import StartReport, attach_report, read_reports
from tests.evidence.parts import Key
from tests.packs import FRAMES, attach_pack
from tests.promote.parts import NOW, Candidate

PACKED = msgspec.structs.replace(DEFAULT_POLICY, required=(*DEFAULT_POLICY.required, "hot-pack"))


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., Descriptor]:
    """Attaches a pack to a platform's image; nobody here reads what is in it."""

    def act(item: Candidate, image: Descriptor, key: Key | None = None, *, head: bytes = b"head") -> Descriptor:
        return attach_pack(item.place, image, (key or item.key).signer, tmp_path, head=head)

    return act


def report(platform: Descriptor, **changes: Any) -> StartReport:
    made = StartReport(
        image=platform.digest,
        release=platform.digest,
        started_s=0.4,
        result_s=2.0,
        until="exit",
        starts=3,
        pack="",
        pack_bytes=0,
        fetched_bytes=1,
        machine="x86_64",
        carrier="fuse",
        tool="tests",
        time="2026-11-23T12:00:00Z",
    )
    return msgspec.structs.replace(made, **changes)


def move(item: Candidate, policy: Policy) -> Any:
    signer = item.key.signer
    return promote(item.place, item.release, policy, item.key.verifier, signer, channel="prod", now=NOW)


def digest_of(item: Candidate, image: Descriptor) -> Digest | None:
    found = read_start(item.place, image.digest, item.key.verifier).pack
    return found.descriptor.digest if found else None


def held(item: Candidate, policy: Policy) -> PromotionHeld:
    with pytest.raises(PromotionHeld) as caught:
        move(item, policy)
    assert "prod" not in list(item.place.registry.tags(item.place.repository))
    return caught.value


def test_a_release_without_its_pack_is_judged_allow_and_held_until_each_platform_has_one(
    good: Candidate, publish: Any
) -> None:
    verdict = good.judge(PACKED)
    assert verdict.allow
    assert verdict == good.judge()  # the same policy digest: no verdict is made anew for it
    good.publish(verdict)
    first = held(good, PACKED)
    assert first.state == "recording" and len(first.reasons) == 2
    assert first.reasons[0].startswith(f"hot pack: linux/amd64 ({good.children[0].digest}) has none")
    assert [step.kind for step in first.steps] == ["record", "promote"]
    assert first.steps[0].about == ("linux/amd64", "linux/arm64")
    publish(good, good.children[0])
    second = held(good, PACKED)
    assert [reason.split()[2] for reason in second.reasons] == ["linux/arm64"]
    with pytest.raises(PromotionHeld):
        promoted_already(good.place, good.release, PACKED, good.key.verifier, channel="prod", now=NOW)
    publish(good, good.children[1])
    assert move(good, PACKED).changed


def test_a_release_that_is_denied_is_not_asked_for_its_pack(bare: Candidate) -> None:
    with pytest.raises(PromotionDenied) as caught:
        move(bare, PACKED)
    assert not isinstance(caught.value, PromotionHeld)
    assert not any("hot pack" in reason for reason in caught.value.reasons)


def test_a_pack_of_a_stranger_does_not_count_and_the_reason_says_so(
    good: Candidate, other_key: Key, publish: Any
) -> None:
    good.publish(good.judge())
    for child in good.children:
        publish(good, child, other_key)
    assert all("not believed: " in reason for reason in held(good, PACKED).reasons)


def test_a_pack_whose_frames_are_gone_does_not_count_and_an_older_whole_one_does(good: Candidate, publish: Any) -> None:
    image = good.children[0]
    whole = publish(good, image, head=b"one")
    assert digest_of(good, image) == whole.digest
    publish(good, image, head=b"two")
    good.place.registry.delete_blob(good.place.repository, Digest.of(b"two"))
    found = read_start(good.place, image.digest, good.key.verifier)
    assert digest_of(good, image) == whole.digest and found.pack_bytes == len(FRAMES) + len(b"one")
    good.place.registry.delete_blob(good.place.repository, Digest.of(FRAMES))
    found = read_start(good.place, image.digest, good.key.verifier)
    assert found.pack is None and all("is not here" in each for each in found.refused)


def test_a_pack_over_the_budget_denies_and_no_pack_does_not(good: Candidate, publish: Any) -> None:
    tight = msgspec.structs.replace(DEFAULT_POLICY, max_pack_size=Size(100))
    good.publish(good.judge(tight))
    publish(good, good.children[0])
    with pytest.raises(PromotionDenied) as caught:
        move(good, tight)
    assert not isinstance(caught.value, PromotionHeld)
    (reason,) = caught.value.reasons
    assert reason.startswith("hot pack: that of linux/amd64") and "more than 100 B" in reason
    assert [step.kind for step in caught.value.steps] == ["start", "promote"]
    assert move(good, msgspec.structs.replace(tight, max_pack_size=Size(10_000))).changed


def test_a_start_that_nobody_measured_is_held_one_that_is_too_slow_denied(good: Candidate) -> None:
    policy = msgspec.structs.replace(DEFAULT_POLICY, max_start_time=Duration(seconds=3))
    good.publish(good.judge(policy))
    waiting = held(good, policy)
    assert waiting.state == "measurement" and "nobody measured a start of linux/amd64" in waiting.reasons[0]
    signer = good.key.signer
    for child in good.children:
        assert attach_report(good.place, child, report(child, result_s=9.0), signer)
    with pytest.raises(PromotionDenied) as caught:
        move(good, policy)
    assert "took 9.0 s until exit" in caught.value.reasons[0] and "more than 3s" in caught.value.reasons[0]
    for child in good.children:
        assert attach_report(good.place, child, report(child, time="2026-11-24T12:00:00Z"), signer)
    assert move(good, policy).changed


def test_a_measurement_that_says_the_same_is_not_attached_again(good: Candidate) -> None:
    image, signer = good.children[0], good.key.signer
    assert attach_report(good.place, image, report(image), signer)
    assert attach_report(good.place, image, report(image, result_s=2.4, time="2026-11-24T12:00:00Z"), signer) is None
    assert attach_report(good.place, image, report(image, result_s=2.6, time="2026-11-25T12:00:00Z"), signer)
    assert attach_report(good.place, image, report(image, pack="sha256:1", time="2026-11-26T12:00:00Z"), signer)
    found, rejected = read_reports(good.place, image.digest, good.key.verifier)
    assert [each.report.result_s for each in found] == [2.0, 2.6, 2.0] and rejected == []


def test_a_measurement_on_the_other_side_of_what_the_policy_permits_is_attached_however_near(good: Candidate) -> None:
    image, signer = good.children[0], good.key.signer
    attach_report(good.place, image, report(image, result_s=3.2), signer)
    later = report(image, result_s=2.9, time="2026-11-24T12:00:00Z")
    assert attach_report(good.place, image, later, signer, longest_s=4.0) is None
    assert attach_report(good.place, image, later, signer, longest_s=3.0)
    assert attach_report(good.place, image, later, signer, longest_s=3.0) is None


@pytest.mark.parametrize("changes", [{"result_s": -1.0}, {"image": Digest.of(b"another")}])
def test_a_measurement_that_makes_no_sense_or_is_of_another_image_is_not_believed(
    good: Candidate, changes: dict[str, Any]
) -> None:
    image = good.children[0]
    attach_report(good.place, image, report(image, **changes), good.key.signer)
    found, rejected = read_reports(good.place, image.digest, good.key.verifier)
    assert list(found) == [] and len(rejected) == 1


def test_measurements_of_strangers_are_not_believed(good: Candidate, other_key: Key) -> None:
    image = good.children[0]
    attach_report(good.place, image, report(image), other_key.signer)
    found, rejected = read_reports(good.place, image.digest, good.key.verifier)
    assert list(found) == [] and len(rejected) == 1


def test_a_policy_that_asks_nothing_of_a_start_reads_nothing(place: Place, key: Key) -> None:
    assert read_starts(place, [Digest.of(b"nowhere")], DEFAULT_POLICY, key.verifier) == {}
    assert starts_within({"sha256:1": "linux/amd64"}, {}, DEFAULT_POLICY).passes


def test_what_is_asked_of_a_start_is_no_part_of_what_a_verdict_is_made_by() -> None:
    asks = msgspec.structs.replace(PACKED, max_pack_size=Size(1), max_start_time=Duration(seconds=1))
    assert asks.asks_about_start and not DEFAULT_POLICY.asks_about_start
    assert asks.digest == DEFAULT_POLICY.digest
    assert in_order([Step(kind="promote"), Step(kind="record")]) == (Step(kind="record"), Step(kind="promote"))
