"""``report custody``: the whole life of a digest from the registry's evidence, also of what was denied or deleted."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_pipelines.deploying.record import DeploymentRecord, attest_deployment
from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.promote.person import Person
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.report.audit.model import Event
from registry_pipelines.report.audit.store import AuditStore
from registry_pipelines.report.custody import Chapter, Custody
from registry_pipelines.shared.documents import FolderDocuments
from tests.chain.fleet import Fleet, attach_provenance
from tests.cli.on_fleet import answer, run


def told(found: Custody, chapter: Chapter) -> list[str]:
    return [f"{each.state}: {each.says}" for each in found.chapter(chapter)]


def test_a_release_that_was_replaced_tells_its_channels_places_and_people(fleet: Fleet) -> None:
    first, second = fleet.release("v1.0.0"), fleet.release("v1.1.0")
    assert fleet.judged(first) and fleet.judged(second)
    fleet.chain.approve(first, "qa", note="tried it")
    fleet.chain.promote(first)
    fleet.chain.replicate_to(first, ["eu"])
    fleet.chain.promote(second)
    ran = DeploymentRecord(
        deployment="shop", image="app", version="v1.0.0", digest=first.digest, channel="prod", where="cluster a",
        written=f"us/team/app@{first.digest}", outcome="running", instances=3, time="2026-11-29T12:00:00Z",
    )  # fmt: skip
    source = fleet.chain.place("app")
    subject = source.registry.resolve(source.repository, first.digest)
    attest_deployment(source, subject, ran, fleet.chain._session.keys.signer("promoter"))
    found = fleet.chain.custody("app:v1.0.0")
    assert told(found, "deployments") == ["verified: runs as shop (cluster a), by 3 instances"]
    assert found.sentence == "allowed as app by policy default; on no channel now; at 2 of 5 places"
    assert [each.split(" by ")[0] for each in told(found, "channels")] == [
        "verified: put on prod of app",
        "verified: prod left it when v1.1.0 came, put there",
    ]
    assert [each.time for each in found.chapter("channels")] == sorted(each.time for each in found.chapter("channels"))
    [copied] = [each for each in found.chapter("places") if each.state == "verified"]
    assert copied.says.startswith("copied to target eu") and copied.evidence.startswith("sha256:") and copied.signer
    assert [each.split(" as ")[1] for each in told(found, "people")] == ["qa, for app"]
    assert found.missing["access"].startswith("not collected") and found.missing["revocations"]
    assert {each.state for each in found.statements} == {"verified", "seen"}
    assert all(each.evidence and each.signer for each in found.statements if each.state == "verified")
    assert [row["name"] for row in found.packages] == ["goodwheel"] and found.findings == ()
    fleet.chain.revoke(second, reason="it eats data")
    bad = fleet.chain.custody("app:v1.1.0")
    assert bad.sentence.startswith("REVOKED") and "REVOKED" in bad.alerts[0]
    assert [each.says.endswith("it eats data") for each in bad.chapter("revocations")] == [True]


def test_a_denied_release_tells_why_by_the_command_line(fleet: Fleet, tmp_path: Path) -> None:
    bad = fleet.release("v2.0.0", package="badwheel")
    assert not fleet.judged(bad)
    page = tmp_path / "pages" / "bad.html"
    told = answer(fleet, "report", "custody", "app:v2.0.0", "--html", str(page))
    assert told["sentence"].startswith("denied as app by policy default; on no channel now; at 1 of 5")
    [verdict] = [each for each in told["statements"] if each["chapter"] == "verdicts"]
    assert verdict["state"] == "verified" and any("TEST-2026-1" in each for each in verdict["details"])
    [finding] = told["findings"]
    assert (finding["id"], finding["severity"], finding["now"]) == ("TEST-2026-1", "CRITICAL", "open")
    assert "TEST-2026-1" in page.read_text() and "<script" not in page.read_text()
    shown = run(fleet, "report", "custody", "app:v2.0.0").stdout
    assert "denied as app by policy default" in shown and "it was on no channel" in shown


def test_who_let_a_denied_release_go_and_who_took_it_back_is_told_for_ever(fleet: Fleet) -> None:
    good, bad = fleet.release("v1.0.0"), fleet.release("v2.0.0", package="badwheel")
    assert fleet.judged(good) and not fleet.judged(bad)
    fleet.chain.promote(good)
    jane, joe = Person("jane", "claimed"), Person("joe", "proxy")
    fleet.chain.break_glass(bad, jane, reason="the shop is down", lasts=timedelta(hours=4))
    fleet.chain.promote(bad)
    found = fleet.chain.custody("app:v2.0.0")
    [glass] = found.chapter("people")
    assert glass.state == "verified" and glass.says.startswith("jane (name claimed) broke the glass for prod until")
    assert any("TEST-2026-1" in each for each in glass.details)
    [put, _] = found.chapter("channels")
    assert f"against its policy, by break-glass {glass.evidence}" in put.details
    assert found.sentence.startswith("denied") and "on prod" in found.sentence and "BREAK-GLASS" in found.alerts[0]
    fleet.chain.revoke(bad, joe, reason="it eats data", back_to=good)
    fleet.chain.close_revocation(bad, joe, reason="a mistake", lift=True)
    fleet.chain.close_break_glass(bad, jane, reason="repaired")
    found = fleet.chain.custody("app:v2.0.0")
    said = [each.says.partition(":")[0].partition(" the revocation ")[0] for each in found.chapter("revocations")]
    assert said == ["revoked by joe (name proxy)", "joe lifted"] and "REVOKED" not in found.sentence
    assert [each.says.split(" ")[1] for each in found.chapter("people")] == ["(name", "closed"]
    assert "on no channel now" in found.sentence and found.alerts == ()


def test_what_nobody_whom_we_believe_signed_is_a_claim_or_not_believed(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    found = fleet.chain.custody("app:v1.0.0")
    assert told(found, "builder") == ["unsigned: built by urn:test:builder"]
    assert "no trusted key is here" in found.alerts[0] and found.missing["verdicts"] == "nobody judged it"
    assert fleet.judged(release)
    place = fleet.chain.place("app")
    subject = place.registry.resolve(place.repository, release.digest)
    attach_provenance(place, subject, package="forged")  # the same builder, another input
    payload = base64.b64encode(b'{"_type":"https://in-toto.io/Statement/v1"}').decode()
    forged = {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "me"}},
        "dsseEnvelope": {
            "payloadType": "application/vnd.in-toto+json",
            "payload": payload,
            "signatures": [{"sig": base64.b64encode(b"x" * 70).decode()}],
        },
    }
    made = attach(
        place, subject=subject, artifact_type=SIGSTORE_BUNDLE, content=json.dumps(forged).encode(),
        media_type=SIGSTORE_BUNDLE,
    )  # fmt: skip
    found = fleet.chain.custody("app:v1.0.0")
    assert sorted(told(found, "builder")) == [
        "unsigned: built by urn:test:builder",
        "verified: built by urn:test:builder",
    ]
    [refused] = [each for each in found.statements if each.state == "rejected"]
    assert refused.evidence == made.digest and refused.says.startswith("not believed: ")


def test_a_channel_that_somebody_moved_by_hand_is_an_alert(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    place = fleet.chain.place("app")
    place.registry.put_manifest(
        place.repository, place.registry.get_manifest(place.repository, release.digest), tag="prod"
    )
    found = fleet.chain.custody("app:v1.0.0")
    assert found.alerts == ("prod names it, and no promotion record says who put it there",)


def test_what_was_deleted_is_told_by_its_copies_and_then_by_the_logs(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    fleet.chain.replicate_to(release, ["eu"])
    source, copy = fleet.chain.place("app"), fleet.chain.target_place("app", "eu")
    source.registry.delete_manifest(source.repository, release.digest)
    event = Event(
        time=datetime(2026, 11, 1, 12, tzinfo=UTC), who="mallory", action="delete", registry="us",
        repository="team/app", digest=release.digest, source="log", id="1", operation="DELETE",
    )  # fmt: skip
    AuditStore(FolderDocuments(fleet.config.state / "report" / "audit")).add([event])
    name = f"app:v1.0.0@{release.digest}"
    found = fleet.chain.custody(name)
    assert f"read from the copy at {copy}" in found.notes[0]
    assert told(found, "verdicts") == ["verified: allowed as app by policy default"]
    assert told(found, "access") == ["logged: mallory deleted it at us/team/app"]
    copy.registry.delete_manifest(copy.repository, release.digest)
    found = fleet.chain.custody(name)
    assert "its evidence went with it" in found.notes[0] and found.missing["verdicts"]
    assert told(found, "access") == ["logged: mallory deleted it at us/team/app"]
    with pytest.raises(NotFound):
        fleet.chain.custody("app:v1.0.0")


def test_an_image_of_no_configuration_tells_what_is_attached(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    found = fleet.chain.custody(f"us/team/app@{release.digest}")
    assert found.sentence == "allowed as app by policy default"
    assert "none of the configuration" in found.missing["channels"]


def test_what_a_plan_set_aside_is_read_in_the_quarantine_and_names_the_plan(fleet: Fleet) -> None:
    old, new = fleet.release("v1.0.0"), fleet.release("v1.1.0")
    assert fleet.judged(old) and fleet.judged(new)
    rule = "{registry: us, name: old, repositories: [team/app], keep_newest: 1, keep_days: 0}"
    chain = fleet.reload(("signing:", f"retention: [{rule}]\nsigning:"))
    plan = chain.plan_retention("us")
    assert chain.collect("us", plan).changed
    gone = old if digest_at(chain.place("app"), old.digest) is None else new
    found = chain.custody(f"app:{gone.tag}@{gone.digest}")
    [aside] = found.chapter("access")
    assert aside.state == "verified" and aside.says.startswith(f"set aside by plan {plan.digest}") and aside.evidence
    assert "rp-quarantine/team/app" in found.notes[0] and told(found, "verdicts")[0].startswith("verified: allowed")


def test_a_bundle_that_holds_it_is_named_and_what_confirms_it(fleet: Fleet, tmp_path: Path) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    chain = fleet.reload(("    via: dmz\n    to: private\n", "    to: private\n    across: bundle\n"))
    chain.create_bundle("airgap", [tmp_path / "disk"])
    [packed] = [each for each in chain.custody("app:v1.0.0").chapter("places") if "bundle" in each.says]
    assert packed.says == "packed into bundle airgap-0001" and packed.state == "verified" and packed.signer
    assert packed.details == ("no receipt of a far side confirms it",)
