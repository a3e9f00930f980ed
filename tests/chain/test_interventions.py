"""Break-glass and revoke through the chain and the command line, as a person uses them on a bad day."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.places import Places
from registry_pipelines.chain.revoke import revoke
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config
from registry_pipelines.errors import InputError, PromotionDenied
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.progress import Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, write_advisory
from tests.chain.test_channels import ONE, at
from tests.cli.on_fleet import answer, run

TOLD = "notify: {command: [tee, -a, told.json], events: [break-glass, revoked]}\nsigning:"
REASON = ("--reason", "checkout is down, the fix cannot wait", "--by", "jane")


def promoted(fleet: Fleet, tag: str) -> Release:
    release = fleet.release(tag)
    assert fleet.judged(release)
    fleet.chain.promote(release)
    return release


def shipped(fleet: Fleet, tag: str) -> Release:
    release = promoted(fleet, tag)
    fleet.chain.replicate_to(release, ["eu", "gcp"])
    fleet.chain.mirror_release(release, "airgap")
    return release


def named(chain: Chain, tag: str = "prod") -> dict[str, str]:
    """What a tag names everywhere."""
    places = {target: chain.target_place("app", target) for target in chain.targets("app")}
    stops = dict(zip(("dmz", "private"), chain.mirror_places("app", "airgap"), strict=True))
    return {name: at(place, tag) for name, place in {"us": chain.place("app"), **places, **stops}.items()}


def told(fleet: Fleet) -> list[tuple[str, str]]:
    text = (fleet.folder / "told.json").read_text().replace("}{", "}\n{")
    return [(each["event"], each["what"]) for each in map(json.loads, text.splitlines())]


def test_a_glass_is_broken_for_one_release_and_is_loud_until_it_is_closed(fleet: Fleet) -> None:
    chain = fleet.chain = fleet.reload(("signing:", TOLD))
    bad = fleet.release("v1.0.0", package="badwheel")
    assert not fleet.judged(bad)
    run(fleet, "promote", "app:v1.0.0", code=3)
    opened = run(fleet, "break-glass", "open", "app:v1.0.0", *REASON, "--lasts", "4h").stdout.replace("\n", " ")
    assert "BREAK-GLASS app:v1.0.0: break-glass by jane for prod until" in opened
    assert "TEST-2026-1" in opened and "promote app:v1.0.0" in opened
    [(event, what)] = told(fleet)
    assert event == "break-glass" and "checkout is down" in what
    promoted = run(fleet, "promote", "app:v1.0.0").stdout
    assert "BREAK-GLASS" in promoted
    assert at(chain.place("app"), "prod") == bad.digest
    copied = chain.replicate(bad, "eu")
    assert copied.ok and copied.alerts[0].startswith("BREAK-GLASS: break-glass by jane for prod until")
    assert chain.mirror_release(bad, "airgap").alerts == copied.alerts
    again = run(fleet, "break-glass", "open", "app:v1.0.0", *REASON, "--lasts", "5h", code=8).stderr
    assert "has one already: break-glass by jane" in again and "break-glass close app:v1.0.0" in again
    assert at(chain.target_place("app", "eu"), "prod") == bad.digest

    [image] = answer(fleet, "status", "app", code=3)["images"]
    assert image["verdict"] == "break-glass" and image["alerts"][0].startswith("BREAK-GLASS app:v1.0.0")
    shown = run(fleet, "status", "app", code=3).stdout
    assert shown.startswith("BREAK-GLASS app:v1.0.0") and " BREAK-GLASS " in shown.partition("\n")[2]
    page = chain.page(bad)
    assert page.alerts and page.action.startswith("BREAK-GLASS") and not page.ok
    [row] = answer(fleet, "break-glass", "list", code=3)["rows"]
    assert (row["release"], row["channel"], row["by"], row["state"]) == ("app:v1.0.0", "prod", "jane", "open")

    closed = run(fleet, "break-glass", "close", "app:v1.0.0", "--reason", "v1.0.1 is out").stdout
    assert "prod still names it" in closed and "no release was on prod before it" in closed
    assert answer(fleet, "break-glass", "list")["rows"] == []
    [image] = answer(fleet, "status", "app", code=3)["images"]
    assert (image["verdict"], image["alerts"]) == ("deny", [])
    with pytest.raises(PromotionDenied):
        chain.replicate(bad, "gcp")
    with pytest.raises(PromotionDenied):
        chain.promote(bad)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lasts", "8d", *REASON], "at most 7 days"),
        (["--lasts", "1h", "--reason", "  "], "a reason is wanted"),
        (["--lasts", "1h", "--channel", "staging", *REASON], "unknown channel of app"),
    ],
)
def test_a_glass_that_makes_no_sense_is_not_broken(fleet: Fleet, words: list[str], said: str) -> None:
    fleet.release("v1.0.0", package="badwheel")
    assert said in run(fleet, "break-glass", "open", "app:v1.0.0", *words, code=8).stderr
    assert "no break-glass of app:v1.0.0 is open" in run(fleet, "break-glass", "close", "app:v1.0.0", code=8).stderr


def test_a_glass_that_excused_a_wait_is_the_reason_in_every_list_and_its_end_is_seen(fleet: Fleet) -> None:
    """The policy allows the release: nothing but the glass lets it be under the channel."""
    channels = "channels: [{name: staging}, {name: prod, after: 24h, targets: [eu]}]}"
    chain = fleet.chain = fleet.reload((ONE, channels))
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    chain.promote(release, channel="staging")
    run(fleet, "break-glass", "open", "app:v1.0.0", *REASON, "--lasts", "4h")
    chain.promote(release, channel="prod")
    again = chain.promote_automatically(release)
    assert not again.changed and again.alerts[0].startswith("BREAK-GLASS: break-glass by jane for prod until")
    assert not any(each.startswith("the next channel is") for each in again.notes), "it is there"
    assert chain.replicate(release, "eu").alerts[0].startswith("BREAK-GLASS: break-glass by jane for prod until")
    page = chain.page(release)
    assert page.action.startswith("BREAK-GLASS") and "policy denies" not in page.action
    for found in (answer(fleet, "status", code=3)["images"][1], answer(fleet, "releases")[0]):
        assert found["verdict"] == "break-glass"
        assert found["reasons"][0].startswith("break-glass by jane for prod until")
    said = run(fleet, "break-glass", "close", "app:v1.0.0").stdout
    assert "prod still names it" in said and "policy denies" not in said
    for found in (answer(fleet, "status", code=3)["images"][1], answer(fleet, "releases")[0]):
        assert found["verdict"] == "outdated"
        assert found["reasons"][0].startswith("promotion: only a break-glass put prod on it")


def test_what_nothing_is_against_needs_no_broken_glass(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    said = run(fleet, "break-glass", "open", "app:v1.0.0", *REASON, "--lasts", "4h", code=8).stderr
    assert "nothing is against app:v1.0.0" in said and "promote app:v1.0.0" in said


def test_revoke_denies_goes_back_and_tells_every_place(fleet: Fleet) -> None:
    chain = fleet.chain = fleet.reload(("signing:", TOLD))
    one, two = shipped(fleet, "v1.0.0"), shipped(fleet, "v2.0.0")
    assert set(named(chain).values()) == {two.digest}
    done = run(fleet, "revoke", "app:v2.0.0", "--reason", "it loses orders", "--by", "joe").stdout
    assert "REVOKED app:v2.0.0: revoked by joe" in done.replace("\n", " ")
    assert set(named(chain).values()) == {one.digest}, "everywhere"
    assert set(named(chain, "v2.0.0").values()) == {two.digest}, "the version tag stays where it is"
    for target in ("eu", "gcp"):  # who reads there alone knows it, too
        place = chain.target_place("app", target)
        types = [
            (each.annotations or {}).get("dev.sigstore.bundle.predicateType")
            for each in place.registry.referrers(place.repository, two.digest)
        ]
        assert "urn:registry-pipelines:revocation:v1" in types
    assert [event for event, _ in told(fleet)] == ["revoked"]
    verdict = chain.judge(two)
    assert not verdict.ok and verdict.reasons[0].startswith("revoked by joe")
    assert any("put right: what it was revoked for (" in each for each in verdict.next_steps)
    for act in (chain.promote, chain.require_promoted, lambda each: chain.replicate(each, "eu")):
        with pytest.raises(PromotionDenied, match="revoked by joe"):
            act(two)
    with pytest.raises(InputError, match="is revoked by joe"):
        chain.break_glass(two, reason="please", lasts=chain.config.notify.timeout)
    [image] = answer(fleet, "status", "app")["images"]
    assert image["tag"] == "v1.0.0" and image["alerts"][0].startswith("REVOKED app:v2.0.0")
    [row] = answer(fleet, "revoke", "--list", code=3)["rows"]
    assert (row["release"], row["by"], row["reason"]) == ("app:v2.0.0", "joe", "it loses orders")
    assert [each["release"] for each in answer(fleet, "revoke", "--list", "app", code=3)["rows"]] == ["app:v2.0.0"]
    assert answer(fleet, "revoke", "--list", "tool")["rows"] == []
    assert "one release is wanted" in run(fleet, "revoke", "app:v1.0.0", "app:v2.0.0", "--reason", "x", code=8).stderr
    page = chain.page(two)
    assert page.action.startswith("REVOKED")
    assert [word for step in page.next_steps for word in ("--close", "--lift") if word in step] == ["--close", "--lift"]

    assert "was revoked" in run(fleet, "revoke", "app:v2.0.0", "--reason", "again").stdout
    run(fleet, "revoke", "app:v2.0.0", "--close", "--reason", "v2.0.1 is out")
    assert answer(fleet, "revoke", "--list")["rows"] == []
    with pytest.raises(PromotionDenied, match="revoked by joe"):
        chain.promote(two)
    run(fleet, "revoke", "app:v2.0.0", "--lift", "--reason", "it was the database")
    assert chain.judge(two).ok
    assert chain.promote(two).changed


class Meanwhile:
    """A source in which somebody puts a tag on a release right before the next manifest is written."""

    def __init__(self, place: Place, release: Release, tag: str) -> None:
        self._place, self._moves, self.name = place, [(release.digest, tag)], place.registry.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place.registry, name)

    def put_manifest(self, repository: str, manifest: ManifestBytes, *, tag: str = "") -> None:
        registry = self._place.registry
        while self._moves:
            digest, moving = self._moves.pop()
            registry.put_manifest(repository, registry.get_manifest(repository, digest), tag=moving)
        registry.put_manifest(repository, manifest, tag=tag)


class Changed(Places):
    """Places, of which one is that source."""

    def __init__(self, config: Config, name: str, source: Meanwhile) -> None:
        super().__init__(config)
        self._name, self._source = name, source

    def registry(self, name: str) -> Any:
        return self._source if name == self._name else super().registry(name)


def test_a_channel_that_comes_to_a_release_while_it_is_revoked_goes_back(fleet: Fleet) -> None:
    bad, good = promoted(fleet, "v1.0.0"), promoted(fleet, "v2.0.0")
    place = fleet.chain.place("app")
    session = Session(fleet.chain.config, Silent())
    session.places = Changed(session.config, "us", Meanwhile(place, bad, "prod"))
    result = revoke(session, bad, reason="bad", back_to=good)
    assert result.ok and at(place, "prod") == good.digest


def test_revoke_says_what_is_left_and_the_same_command_does_it(fleet: Fleet) -> None:
    one = promoted(fleet, "v1.0.0")
    chain = fleet.chain
    done = answer(fleet, "revoke", "app:v1.0.0", "--reason", "bad", code=6)
    assert any("no earlier release may come back" in each for each in done["reasons"])
    assert any("promote app:ANOTHER" in each for each in done["next_steps"])
    assert at(chain.place("app"), "prod") == one.digest
    [image] = answer(fleet, "status", "app", code=3)["images"]
    assert image["verdict"] == "revoked"
    assert "still names" in run(fleet, "revoke", "app:v1.0.0", "--close", code=8).stderr
    two = fleet.release("v2.0.0")
    assert fleet.judged(two)
    run(fleet, "revoke", "app:v1.0.0", "--reason", "bad", "--to", "app:v2.0.0")
    assert set(named(chain).values()) == {two.digest}


@pytest.mark.long
def test_revoke_passes_over_what_may_not_come_back(fleet: Fleet) -> None:
    chain = fleet.chain
    one, two, three = (promoted(fleet, f"v{each}.0.0") for each in (1, 2, 3))
    chain.revoke(two, reason="bad")
    assert at(chain.place("app"), "prod") == three.digest, "it was on no channel any more"
    write_advisory(fleet.folder / "advisories", package="goodwheel")
    assert not fleet.judged(one)
    result = chain.revoke(three, reason="bad, too")
    assert not result.ok and any("v1.0.0: " in each for each in result.reasons)
    (fleet.folder / "advisories" / "TEST-2026-1.json").unlink()
    write_advisory(fleet.folder / "advisories")
    assert chain.revoke(three, reason="bad, too").ok
    assert at(chain.place("app"), "prod") == one.digest


def test_of_two_channels_each_goes_back_to_its_own(fleet: Fleet) -> None:
    stages = "channels: [{name: staging, targets: [eu]}, {name: prod, targets: [gcp]}]}"
    chain = fleet.chain = fleet.reload(("targets: [eu, gcp]}", stages))
    for number in (1, 2, 3):
        release = fleet.release(f"v{number}.0.0")
        assert fleet.judged(release)
        chain.promote(release, channel="staging")
        if number != 2:
            chain.promote(release, channel="prod")
        for target in chain.targets_of(release):
            chain.replicate(release, target)
    assert chain.revoke(release, reason="bad").ok
    tags: dict[str, Any] = {tag: at(chain.place("app"), tag) for tag in ("staging", "prod", "v1.0.0", "v2.0.0")}
    assert (tags["staging"], tags["prod"]) == (tags["v2.0.0"], tags["v1.0.0"])
    assert at(chain.target_place("app", "gcp"), "prod") == tags["v1.0.0"]
    assert at(chain.target_place("app", "eu"), "staging") == tags["v2.0.0"]


@pytest.mark.long
def test_an_unreachable_place_is_told_later(fleet: Fleet) -> None:
    for tag in ("v1.0.0", "v2.0.0"):
        fleet.chain.replicate(promoted(fleet, tag), "gcp")
    gone = fleet.reload(
        *(
            (
                f"  {name}: {{kind: embedded, port: {fleet.chain.registry(name).name.rpartition(':')[2]}}}\n",
                f'  {name}: {{kind: distribution, host: "127.0.0.1:1"}}\n',
            )
            for name in ("eu", "private")
        )
    )
    result = gone.revoke(gone.find_release("app:v2.0.0"), reason="bad")
    assert not result.ok and result.exit_code == 6
    assert any(each.startswith("eu: is not told") for each in result.reasons)
    asked = [each for each in result.reasons if each.startswith("airgap (127.0.0.1:1): ")]
    assert len(asked) == 1 and "is not told" in asked[0], "nor is it asked once more what its channels name"
