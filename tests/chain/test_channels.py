"""An image with two channels through the chain: each has its policy and targets, and the person says which."""

from __future__ import annotations

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.errors import InputError, NotFound, PromotionDenied, TagImmutable
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, push
from tests.cli.on_fleet import answer, run

ONE = "targets: [eu, gcp]}"
STAGES = "channels: [{name: staging, targets: [eu]}, {name: prod, policy: strict, targets: [gcp], approvals: [qa]}]}"
STRICT = "policies: {strict: {deny_warnings: []}}\nsigning:"


@pytest.fixture
def chain(fleet: Fleet) -> Chain:
    return fleet.reload((ONE, STAGES), ("signing:", STRICT))


def at(place: Place, tag: str) -> str:
    try:
        return place.registry.resolve(place.repository, tag).digest
    except NotFound:
        return ""


def tags(chain: Chain, target: str, release: Release) -> tuple[bool, bool, bool]:
    """Whether version, staging and prod name a release at a target."""
    place = chain.target_place("app", target)
    version, staging, prod = (at(place, tag) == release.digest for tag in (release.tag, "staging", "prod"))
    return version, staging, prod


def test_a_release_goes_from_channel_to_channel_and_to_the_targets_of_each(fleet: Fleet, chain: Chain) -> None:
    made = push(chain.place("app"), "v1.0.0")
    release = Release("app", "v1.0.0", made.digest)
    shipment = chain.ship("app")
    steps = {step.result.stage: (step.status, step.result.action) for step in shipment.steps}
    assert (shipment.channel, shipment.exit_code) == ("staging", 0)
    assert steps["replicate:gcp"] == ("skipped", "not run: for prod")
    assert steps["mirror:airgap"] == ("skipped", "not run: for prod")
    assert tags(chain, "eu", release) == (True, True, False)
    assert tags(chain, "gcp", release) == (False, False, False)
    assert "staging names it, and it is at eu" in shipment.sentence
    [promoted] = [step.result for step in shipment.steps if step.result.stage == "promote"]
    assert "promote app:v1.0.0 --channel prod" in promoted.notes[-1]
    with pytest.raises(PromotionDenied, match="no signed record puts prod on it"):
        chain.replicate(release, "gcp")
    with pytest.raises(PromotionDenied, match="no signed record puts prod on it"):
        chain.mirror_release(release, "airgap")
    assert chain.ship("app").exit_code == 0
    assert at(chain.place("app"), "prod") == "", "the same command goes no further"

    with pytest.raises(InputError, match="has several channels: staging, prod"):
        chain.promote(release)
    with pytest.raises(InputError, match="unknown channel of app `pord`; did you mean `prod`"):
        chain.promote(release, channel="pord")
    said = run(fleet, "promote", "app:v1.0.0", "--channel", "prod", code=3).stderr
    assert "approval: prod wants one as qa: nobody approved it as qa" in said
    assert "registry-pipelines approve app:v1.0.0 --as qa" in said
    assert "promote app:v1.0.0 --channel prod" in said
    run(fleet, "approve", "app:v1.0.0", "--as", "qa", "--note", "clicked through")
    done = run(fleet, "promote", "app:v1.0.0", "--channel", "prod")
    assert "prod names it now" in done.stdout
    again = chain.ship("app")
    assert again.exit_code == 0 and all(step.status == "ok" for step in again.steps)
    assert tags(chain, "gcp", release) == (True, False, True)
    assert tags(chain, "eu", release) == (True, True, False), "each target has the channels that have it"
    [staging, prod] = chain.statuses(["app"])
    assert (staging.channel, staging.tag, staging.ruling, staging.places) == (
        "staging",
        "v1.0.0",
        "allow",
        {"eu": "same"},
    )
    assert (prod.channel, prod.tag, prod.places) == ("prod", "v1.0.0", {"gcp": "same", "airgap": "same"})
    [listed] = answer(fleet, "releases", "app")
    assert listed["channel"] == "staging, prod"
    with pytest.raises(TagImmutable, match="is a channel of app"):
        chain.tag(chain.locate("app:v1.0.0"), "staging", move=True)


def test_why_a_release_is_not_on_the_next_channel_is_told_in_plain_words(fleet: Fleet, chain: Chain) -> None:
    push(chain.place("app"), "v1.0.0")
    release = chain.ship("app").release
    assert release is not None
    page = chain.page(release)
    states = {row["place"]: row["state"] for row in page.tables["places"]}
    assert states["channel staging"] == "names it"
    wanted = "held: approval: approval: prod wants one as qa: nobody approved it as qa"
    assert states["channel prod"] == wanted
    [_, prod] = chain.statuses(["app"])
    assert [(each.tag, each.why) for each in prod.newer] == [("v1.0.0", "held: approval")]
    shown = run(fleet, "status", "app", code=3).stdout
    assert "staging" in shown and "held: approval" in shown


def test_each_channel_has_a_verdict_by_its_own_policy(fleet: Fleet) -> None:
    strict = "policies: {strict: {required: [provenance, sbom, vulnerabilities, signature, hot-pack], "
    chain = fleet.reload((ONE, STAGES), ("signing:", strict + "platforms: [linux/s390x]}}\nsigning:"))
    release = fleet.release("v1.0.0")
    fleet.chain = chain
    assert fleet.judged(release), "what counts is the channel it comes to next"
    result = chain.judge(release)
    assert (result.facts["verdict_default"], result.facts["verdict_strict"]) == ("allow", "deny")
    assert any(note.startswith("for prod: deny by policy strict") for note in result.notes)
    chain.promote(release, channel="staging")
    assert not chain.judge(release).ok, "now prod is the next"
    with pytest.raises(PromotionDenied, match="linux/s390x is required"):
        chain.promote(release, channel="prod")


def test_what_is_promoted_automatically_goes_as_far_as_it_may(fleet: Fleet) -> None:
    stages = "promote: auto, channels: [staging, {name: canary, approvals: [qa]}, {name: prod, promote: manual}]}"
    chain = fleet.reload((ONE, stages))
    fleet.chain = chain
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    first = chain.promote_automatically(release)
    assert (first.facts["channel"], first.facts["next_channel"], first.facts["next"]) == (
        "staging",
        "canary",
        "held: approval",
    )
    assert any("approve app:v1.0.0 --as qa" in step for step in first.next_steps)
    run(fleet, "approve", "app:v1.0.0", "--as", "qa")
    second = chain.promote_automatically(release)
    assert (second.changed, second.facts["channel"], second.facts["next"]) == (
        True,
        "canary",
        "allowed, waits for a person",
    )
    assert chain.channels_reached(release) == ["staging", "canary"]
    assert not chain.promote_automatically(release).changed


def test_a_version_tag_that_names_something_else_at_a_target_is_drift(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    place = fleet.chain.target_place("app", "eu")
    other = push(place, "v1.0.0", package="otherwheel")
    found = fleet.chain.replicate_to(release, ["eu", "gcp"])
    assert isinstance(found["eu"], TagImmutable) and "it never moves" in str(found["eu"])
    assert not isinstance(found["gcp"], Exception)
    assert at(place, "v1.0.0") == other.digest
