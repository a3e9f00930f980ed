"""Channels move only behind the gate, by digest, with a signed record; everything else leaves them where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry_pipelines.errors import NotFound, PromotionDenied, ReferenceInvalid, TagImmutable, Unavailable
from registry_pipelines.evidence.attestations import attest
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, VERDICT_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes, encode_json
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.promote.channels import promote
from registry_pipelines.promote.documents import DEFAULT_POLICY, Policy, Promotion
from registry_pipelines.promote.intervening import revoke
from registry_pipelines.promote.judge import judge, require_promoted
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.standing import latest_record, records
from registry_pipelines.promote.verdicts import publish, read, to_predicate
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release, check_channel
from registry_pipelines.scan.predicates import vulnerability_predicate
from registry_pipelines.settings import Duration
from registry_pipelines.sign.release import sign_release
from tests.evidence.parts import Cosign, Counted, Key
from tests.promote.parts import CRITICAL, NOW, Candidate, candidate

JANE = Person("jane@example.com", "proxy")


def ship(item: Candidate, policy: Policy = DEFAULT_POLICY, *, channel: str = "prod", now: datetime = NOW) -> Promotion:
    return promote(
        item.place, item.release, policy, item.key.verifier, item.key.signer, channel=channel, now=now, by=JANE
    )


def channel(place: Place, name: str = "prod") -> str:
    try:
        return place.registry.resolve(place.repository, name).digest
    except NotFound:
        return ""


def passing(place: Place, key: Key, name: str) -> Candidate:
    made = candidate(place, key, name)
    made.attach_everything()
    made.sign()
    made.publish(made.judge())
    return made


def denied(item: Candidate, **options: Any) -> str:
    """The reasons of a refusal; the channel did not move and no record was written."""
    before = channel(item.place)
    with pytest.raises(PromotionDenied) as caught:
        ship(item, **options)
    assert channel(item.place) == before
    assert records(item.place, item.top.digest, item.key.verifier) == []
    assert caught.value.exit_code == 3
    return "\n".join(caught.value.reasons)


@pytest.mark.peer("docker-registry")
def test_a_release_that_passed_gets_the_channel_and_a_record(any_place: Place, key: Key) -> None:
    release = passing(any_place, key, "one")
    done = ship(release)
    assert done.changed
    assert channel(any_place) == release.top.digest
    verdict = read(any_place, release.top.digest, key.verifier).latest()
    assert verdict is not None
    record = done.record
    assert (record.image, record.channel, record.version) == ("app", "prod", "v1-one")
    assert (record.promoted_by, record.identity) == ("jane@example.com", "proxy")
    assert (record.from_digest, record.to_digest) == ("", release.top.digest)
    assert (record.verdict, record.policy_digest) == (verdict.digest, DEFAULT_POLICY.digest)
    assert (record.repository, record.time) == (str(any_place), "2026-11-23T12:00:00Z")
    assert records(any_place, release.top.digest, key.verifier) == [(record, done.digest)]


def test_promoting_again_writes_nothing(counted: Counted, key: Key) -> None:
    release = passing(counted.place, key, "one")
    first = ship(release)
    before = counted.files()
    again = ship(release, now=NOW + timedelta(hours=1))
    assert (again.changed, again.record, again.digest) == (False, first.record, first.digest)
    assert counted.files() == before


def test_a_rollback_is_the_promotion_of_an_earlier_release(place: Place, key: Key) -> None:
    one, two = passing(place, key, "one"), passing(place, key, "two")
    ship(one)
    assert ship(two, now=NOW + timedelta(minutes=1)).record.from_digest == one.top.digest
    back = ship(one, now=NOW + timedelta(minutes=2))
    assert (back.changed, back.record.from_digest) == (True, two.top.digest)
    assert channel(place) == one.top.digest
    assert [item.from_digest for item, _ in records(place, one.top.digest, key.verifier)] == ["", two.top.digest]


def test_two_images_of_one_digest_are_promoted_each_for_itself(place: Place, key: Key) -> None:
    release = passing(place, key, "one")
    ship(release)
    verdict = judge(place, release.top, DEFAULT_POLICY, key.verifier, image="tool", now=NOW)
    release.publish(verdict)
    tool = Release("tool", release.release.tag, release.top.digest)
    options: dict[str, Any] = {"channel": "prod", "now": NOW}
    with pytest.raises(PromotionDenied, match="no signed record puts prod on it"):
        require_promoted(place, tool, DEFAULT_POLICY, key.verifier, **options)
    assert promote(place, tool, DEFAULT_POLICY, key.verifier, key.signer, **options).changed
    require_promoted(place, tool, DEFAULT_POLICY, key.verifier, **options)


def test_channels_are_independent(place: Place, key: Key) -> None:
    one, two = passing(place, key, "one"), passing(place, key, "two")
    ship(one)
    ship(two, channel="staging")
    assert (channel(place), channel(place, "staging")) == (one.top.digest, two.top.digest)
    assert latest_record(place, one.top.digest, key.verifier, channel="staging") is None


def test_a_moved_channel_without_record_gets_one(place: Place, key: Key) -> None:
    release = passing(place, key, "one")
    stored = place.registry.get_manifest(place.repository, release.top.digest)
    place.registry.put_manifest(place.repository, stored, tag="prod")
    done = ship(release)
    assert (done.changed, done.record.from_digest) == (True, release.top.digest)


def test_who_promotes_is_the_key_unless_told(place: Place, key: Key) -> None:
    release = passing(place, key, "one")
    place.registry.get_manifest(place.repository, release.top.digest)
    policy = msgspec.structs.replace(DEFAULT_POLICY, max_advisory_age=Duration(days=100_000))
    release.publish(release.judge(policy, now=datetime.now(UTC)))  # what is accepted tells of the advisories' age
    done = promote(place, release.release, policy, key.verifier, key.signer, channel="prod")
    assert (done.record.promoted_by, done.record.identity) == (key.signer.key_id, "")
    assert done.record.time > "2026"


def test_evidence_is_required_again_at_the_gate(place: Place, key: Key) -> None:
    shipped = passing(place, key, "shipped")
    ship(shipped)
    assert "signature: the image is not signed" in denied(candidate(place, key, "bare"))
    vulnerable = candidate(place, key, "vulnerable")
    vulnerable.attach_everything(CRITICAL)
    vulnerable.sign()
    vulnerable.publish(vulnerable.judge())
    assert "CVE-2026-1" in denied(vulnerable)
    assert channel(place) == shipped.top.digest


def test_a_denied_release_stays_denied_when_another_passes(place: Place, key: Key) -> None:
    bad = candidate(place, key, "bad")
    bad.attach_everything(CRITICAL)
    bad.sign()
    bad.publish(bad.judge())
    assert "CVE-2026-1" in denied(bad)
    ship(passing(place, key, "good"))
    assert "CVE-2026-1" in denied(bad)


def test_a_verdict_must_be_published(good: Candidate) -> None:
    assert denied(good) == "verdict: none by policy default is signed by a trusted key"


def test_a_verdict_of_an_untrusted_key_counts_for_nothing(good: Candidate, other_key: Key) -> None:
    publish(good.place, good.top, good.judge(), other_key.signer, other_key.verifier)
    reasons = denied(good)
    assert "verdict: none by policy default is signed by a trusted key" in reasons
    assert "none of its 1 signature was made by a trusted key" in reasons


def test_a_tampered_verdict_counts_for_nothing(place: Place, key: Key) -> None:
    """Somebody turns FAILED into PASSED inside the signed envelope, and attaches the result."""
    bad = candidate(place, key, "bad")
    bad.attach_everything()
    published = bad.publish(bad.judge())
    stored = place.registry.get_manifest(place.repository, published.digest)
    layer = json.loads(stored.raw)["layers"][0]["digest"]
    with place.registry.open_blob(place.repository, Digest.parse(layer)) as reader:
        buffer = bytearray(reader.size)
        count = reader.readinto(memoryview(buffer))
    assert count == len(buffer)
    bundle = json.loads(buffer)
    statement = json.loads(msgspec.convert(bundle["dsseEnvelope"]["payload"], bytes))
    statement["predicate"]["verificationResult"] = "PASSED"
    statement["predicate"]["RegistryPipelines_verdict"].update(allow=True, reasons=[])
    bundle["dsseEnvelope"]["payload"] = msgspec.to_builtins(json.dumps(statement).encode())
    place.registry.delete_manifest(place.repository, published.digest)
    bad.attach(SIGSTORE_BUNDLE, json.dumps(bundle).encode())
    bad.sign()
    assert bad.judge().allow
    assert "none of its 1 signature was made by a trusted key" in denied(bad)


def test_the_latest_verdict_counts(good: Candidate) -> None:
    good.publish(good.judge())
    later = msgspec.structs.replace(
        good.judge(now=NOW + timedelta(minutes=1)), allow=False, reasons=("broken in production",)
    )
    attest(good.place, good.top, VERDICT_TYPE, to_predicate(good.place, later), good.key.signer)
    reasons = denied(good, now=NOW + timedelta(minutes=2))
    assert reasons == "verdict: the latest signed one is deny\nbroken in production"


def test_a_verdict_by_an_earlier_form_of_the_policy_is_not_enough(good: Candidate) -> None:
    good.publish(good.judge())
    stricter = msgspec.structs.replace(DEFAULT_POLICY, max_advisory_age=Duration(days=6))
    assert f"policy default was changed since it was made (from {DEFAULT_POLICY.digest.short} to" in denied(
        good, policy=stricter
    )


def test_a_verdict_from_other_evidence_is_not_enough(good: Candidate) -> None:
    good.publish(good.judge())
    good.attach_report(scanned_at="2026-11-23T11:00:00Z", newest="2026-11-23T09:00:00Z")
    good.sign()
    assert denied(good) == "verdict: the evidence changed since it was made"
    good.publish(good.judge(now=NOW + timedelta(minutes=1)))
    assert ship(good, now=NOW + timedelta(minutes=2)).changed


def test_advisories_that_grew_old_since_stop_it(good: Candidate) -> None:
    good.publish(good.judge())
    assert "more than 7 days old" in denied(good, now=NOW + timedelta(days=30))


def test_a_version_tag_that_was_moved_stops_it(good: Candidate) -> None:
    good.publish(good.judge())
    other = candidate(good.place, good.key, "other")
    stored = good.place.registry.get_manifest(good.place.repository, other.top.digest)
    good.place.registry.put_manifest(good.place.repository, stored, tag=good.release.tag)
    assert denied(good) == f"version: the tag v1-good names {other.top.digest} now; a version tag never moves"
    good.place.registry.delete_tag(good.place.repository, good.release.tag)
    assert denied(good) == "version: the tag v1-good does not exist, and it was never promoted as that"
    own = good.place.registry.get_manifest(good.place.repository, good.release.digest)
    good.place.registry.put_manifest(good.place.repository, own, tag=good.release.tag)
    assert ship(good).changed


@pytest.mark.parametrize(
    "name", ["v2", "1.4", "v1.4.2-rc1", "2024.10", "v1-one", "sha256-0123.sig", "1", "1.x", "release-1.2"]
)
def test_a_version_tag_is_never_moved(place: Place, key: Key, name: str) -> None:
    release = passing(place, key, "one")
    before = channel(place, name)
    with pytest.raises(TagImmutable, match="never move"):
        ship(release, channel=name)
    assert channel(place, name) == before


def test_the_releases_own_tag_is_never_a_channel() -> None:
    release = Release("app", "nightly", Digest.of(b"x"))
    with pytest.raises(TagImmutable):
        check_channel("nightly", release)
    assert check_channel("prod", release) == check_channel("prod") == "prod"
    with pytest.raises(ReferenceInvalid):
        check_channel("not a tag")


def test_a_record_that_cannot_be_read_is_passed_over(good: Candidate) -> None:
    good.publish(good.judge())
    attest(good.place, good.top, PROMOTION_TYPE, {"channel": "prod"}, good.key.signer)
    done = ship(good)
    other = msgspec.structs.replace(done.record, to_digest=Digest.of(b"other"))
    attest(good.place, good.top, PROMOTION_TYPE, json.loads(encode_json(other)), good.key.signer)
    assert records(good.place, good.top.digest, good.key.verifier) == [(done.record, done.digest)]


def test_only_what_was_promoted_may_leave(good: Candidate) -> None:
    """Read from the registry, at this moment; a rescan that finds something counts although nobody signed it."""
    policy = msgspec.structs.replace(DEFAULT_POLICY, max_advisory_age=Duration(days=100_000))

    def leave(**options: Any) -> list[str]:
        return require_promoted(good.place, good.release, policy, good.key.verifier, channel="prod", **options)

    with pytest.raises(PromotionDenied) as caught:
        leave()
    assert caught.value.reasons == [
        "verdict: none by policy default is signed by a trusted key",
        "promotion: no signed record puts prod on it",
    ]
    later = NOW + timedelta(days=100)
    good.publish(good.judge(policy, now=later))
    ship(good, policy, now=later)
    accepted = ["advisories-age: the newest is of 2026-11-22T00:00:00Z; up to 100000 days pass"]
    assert leave() == leave(now=NOW) == accepted
    good.attach_report(CRITICAL, scanned_at="2026-11-23T09:00:00Z")
    assert leave() == accepted
    worse = vulnerability_predicate(good.report([CRITICAL], scanned_at="2026-11-23T12:00:00Z"))
    attest(good.place, good.top, VULNERABILITIES_TYPE, worse, good.key.signer)
    with pytest.raises(PromotionDenied, match=r"of 2026-11-23T12:00:00Z, after the verdict: CRITICAL .*CVE-2026-1"):
        leave()
    good.attach_report(CRITICAL, scanned_at="2026-11-23T11:00:00Z")
    with pytest.raises(PromotionDenied, match=r"of 2026-11-23T11:00:00Z, after the verdict: CRITICAL .*CVE-2026-1"):
        leave()


def test_what_rests_on_a_revoked_key_leaves_no_more(bare: Candidate, key: Key, other_key: Key, tmp_path: Path) -> None:
    """The promoter's key is as good as before; the builder's was lost after the promotion."""
    roles = {"builder": [other_key.public]}
    trusted, item = load_verifier([key.public], roles), bare
    item.attach_everything()
    signers = {**key.signers, "builder": other_key.signer}
    sign_release(item.place, item.top, signers, trusted, report_passes=lambda *_, **__: [], now=NOW)
    verdict = judge(item.place, item.top, DEFAULT_POLICY, trusted, image="app", now=NOW)
    publish(item.place, item.top, verdict, key.signer, trusted)
    promote(item.place, item.release, DEFAULT_POLICY, trusted, key.signer, channel="prod", now=NOW, by=JANE)

    def leave(**terms: Any) -> list[str]:
        verifier = load_verifier([key.public], roles, **terms)
        return require_promoted(item.place, item.release, DEFAULT_POLICY, verifier, channel="prod", now=NOW)

    assert leave() == leave(until={other_key.public: date(2999, 1, 1)}) == []
    (tmp_path / "revoked.txt").write_text(f"{other_key.signer.key_id} a runner was taken over\n")
    who = other_key.signer.key_id[:19]
    what = f"key: the verdict rests on https://slsa.dev/provenance/v1, signed by {who}, which is"
    for terms, why in (
        ({"revoked": tmp_path / "revoked.txt"}, f"{what} revoked (a runner was taken over)"),
        ({"until": {other_key.public: date(2020, 1, 1)}}, f"{what} retired and was believed until 2020-01-01"),
    ):
        with pytest.raises(PromotionDenied) as caught:
            leave(**terms)
        assert caught.value.reasons == [why]


def test_what_rests_on_a_key_that_is_trusted_no_more_leaves_no_more(bare: Candidate, key: Key, other_key: Key) -> None:
    """Nobody revoked it: whoever takes a key out of the configuration waits for no new verdict. A key more is none."""
    item, old = bare, load_verifier([key.public], {"builder": [other_key.public]})
    item.attach_everything()
    signers = {**key.signers, "builder": other_key.signer}
    sign_release(item.place, item.top, signers, old, report_passes=lambda *_, **__: [], now=NOW)
    verdict = judge(item.place, item.top, DEFAULT_POLICY, old, image="app", now=NOW)
    publish(item.place, item.top, verdict, key.signer, old)
    promote(item.place, item.release, DEFAULT_POLICY, old, key.signer, channel="prod", now=NOW, by=JANE)

    def leave(*builders: Key) -> list[str]:
        verifier = load_verifier([key.public], {"builder": [each.public for each in builders]})
        return require_promoted(item.place, item.release, DEFAULT_POLICY, verifier, channel="prod", now=NOW)

    assert leave(other_key, key) == []
    with pytest.raises(PromotionDenied) as caught:
        leave(key)
    [reason] = caught.value.reasons
    assert reason.startswith("key: the verdict rests on https://slsa.dev/provenance/v1, signed by ")
    assert reason.endswith(", which is not trusted for that any more")


class Contested:
    """A registry on which another program moves the channel right after we did."""

    def __init__(self, place: Place, rival: ManifestBytes) -> None:
        self._registry, self._rival, self.name = place.registry, rival, place.registry.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        self._registry.put_manifest(repository, manifest, tag=tag)
        if tag == "prod":
            self._registry.put_manifest(repository, self._rival, tag=tag)


def test_a_channel_that_another_program_moves_is_said(good: Candidate) -> None:
    good.publish(good.judge())
    rival = candidate(good.place, good.key, "rival")
    stored = good.place.registry.get_manifest(good.place.repository, rival.top.digest)
    good.place = Place(Contested(good.place, stored), good.place.repository)
    with pytest.raises(Unavailable, match="another program moves it too"):
        ship(good)


class Dying(Contested):
    """A registry before which the process dies when the channel would move."""

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        if tag == "prod":
            raise KeyboardInterrupt
        self._registry.put_manifest(repository, manifest, tag=tag)


def test_the_next_call_finishes_what_a_kill_interrupted(good: Candidate) -> None:
    good.publish(good.judge())
    place = good.place
    good.place = Place(Dying(place, place.registry.get_manifest(place.repository, good.top.digest)), place.repository)
    with pytest.raises(KeyboardInterrupt):
        ship(good)
    good.place = place
    assert channel(place) == ""
    assert ship(good).changed
    assert channel(place) == good.top.digest
    assert not ship(good).changed
    assert len(records(place, good.top.digest, good.key.verifier)) == 1


@pytest.mark.peer("cosign")
def test_cosign_verifies_a_promotion_record(good: Candidate, cosign: Cosign) -> None:
    good.publish(good.judge())
    ship(good)
    verified = cosign.verify_attestation(good.key.public, PROMOTION_TYPE, f"{good.place}:prod")
    assert verified.returncode == 0, verified.stderr


class Moving:
    """A registry in which somebody does something at a moment of the promotion: once, before the channel is read for
    the second time, or right after it has moved."""

    def __init__(self, place: Place, act: Callable[[], object], *, late: bool) -> None:
        self._registry, self._act, self._late, self.name = place.registry, act, late, place.registry.name
        self._looks, self._done = 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def resolve(self, repository: str, reference: str) -> Any:
        self._looks += str(reference) == "prod"
        if not self._late and self._looks == 2:
            self._once()
        return self._registry.resolve(repository, reference)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        self._registry.put_manifest(repository, manifest, tag=tag)
        if self._late and tag == "prod":
            self._once()

    def _once(self) -> None:
        if not self._done:
            self._done = True
            self._act()


@pytest.mark.parametrize("late", [False, True], ids=["before the tag moves", "while it moves"])
def test_a_revocation_or_a_report_that_comes_meanwhile_counts(place: Place, key: Key, late: bool) -> None:
    shipped, one, two = (passing(place, key, name) for name in ("shipped", "one", "two"))
    ship(shipped)

    def revoke_it() -> None:
        revoke(place, one.release, key.verifier, key.signer, by=JANE, reason="bad", now=NOW)

    one.place = Place(Moving(place, revoke_it, late=late), place.repository)
    with pytest.raises(PromotionDenied, match="revoked by jane"):
        ship(one, now=NOW + timedelta(minutes=1))
    assert channel(place) == shipped.top.digest, "it is where it was, or there again"

    def scan_it() -> None:
        two.attach_report(CRITICAL, scanned_at="2026-11-23T12:00:01Z")

    two.place = Place(Moving(place, scan_it, late=late), place.repository)
    with pytest.raises(PromotionDenied, match="CVE-2026-1"):
        ship(two, now=NOW + timedelta(minutes=2))
    assert channel(place) == shipped.top.digest


@pytest.mark.parametrize("late", [False, True], ids=["before the tag moves", "while it moves"])
def test_a_version_tag_that_is_pushed_again_meanwhile_stops_it(place: Place, key: Key, late: bool) -> None:
    ship(passing(place, key, "shipped"))
    before = channel(place)
    one, other = passing(place, key, "one"), candidate(place, key, "other")
    stored = place.registry.get_manifest(place.repository, other.top.digest)

    def push_again() -> None:
        place.registry.put_manifest(place.repository, stored, tag=one.release.tag)

    one.place = Place(Moving(place, push_again, late=late), place.repository)
    with pytest.raises(PromotionDenied, match="a version tag never moves"):
        ship(one, now=NOW + timedelta(minutes=1))
    assert channel(place) == before


def test_a_channel_that_moves_meanwhile_is_read_again_for_the_record(place: Place, key: Key) -> None:
    one, two = passing(place, key, "one"), passing(place, key, "two")
    stored = place.registry.get_manifest(place.repository, two.top.digest)

    def move_it() -> None:
        place.registry.put_manifest(place.repository, stored, tag="prod")

    one.place = Place(Moving(place, move_it, late=False), place.repository)
    done = ship(one, now=NOW + timedelta(minutes=1))
    assert (done.record.from_digest, channel(place)) == (two.top.digest, one.top.digest)
