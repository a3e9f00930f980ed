"""The page of a release: what ships, where it is, what changed; also where something is missing."""

from __future__ import annotations

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet

NO_KEY = "no trusted key is here, so nothing is believed"


@pytest.fixture
def shipped(fleet: Fleet) -> Release:
    """The first release, on its channel and everywhere."""
    first = fleet.release("v1.0.0")
    assert fleet.judged(first)
    fleet.chain.promote(first)
    fleet.chain.replicate_to(first, ["eu", "gcp"])
    fleet.chain.mirror_release(first, "airgap")
    return first


def test_a_release_that_ships_says_where_it_is(fleet: Fleet, shipped: Release) -> None:
    page = fleet.chain.page(shipped)
    assert page.ok and not page.changed and page.action == "prod names it, at 3 of 3 places"
    assert {row["place"]: row["state"] for row in page.tables["places"]} == {
        "us (team/app)": "here: its source",
        "channel prod": "names it",
        "eu": "here",
        "gcp": "here",
        "airgap": "here",
    }
    assert "no release was on the channel before" in page.notes[0]
    assert (page.facts["verdict"], page.facts["findings_critical"]) == ("allow", 0)


def test_a_denied_release_says_why_and_what_is_new_in_it(fleet: Fleet, shipped: Release) -> None:
    bad = fleet.release("v2.0.0", package="badwheel")
    assert not fleet.judged(bad)
    page = fleet.chain.page(bad)
    assert (page.ok, page.action, page.facts["before"]) == (False, "denied", "v1.0.0")
    assert "badwheel" in page.reasons[0] and page.next_steps
    assert {row["place"]: row["state"] for row in page.tables["places"]}["eu"] == "not there"
    assert {(row["package"], row["change"]) for row in page.tables["packages"]} == {
        ("badwheel", "added"),
        ("goodwheel", "removed"),
    }
    assert [(row["release"], row["critical"]) for row in page.tables["findings_by_severity"]] == [
        ("v1.0.0", 0),
        ("v2.0.0", 1),
    ]
    assert (page.facts["findings_new"], page.facts["findings_gone"]) == (1, 0)


def test_what_replaced_a_release_does_not_change_what_came_before_it(fleet: Fleet, shipped: Release) -> None:
    second = fleet.release("v1.1.0")
    assert fleet.judged(second)
    fleet.chain.promote(second)
    assert fleet.chain.page(second).facts["before"] == "v1.0.0"
    old = fleet.chain.page(shipped)
    assert old.action == "promoted before, not on its channel now, at 3 of 3 places"
    assert "before" not in old.facts


def test_a_place_that_has_another_digest_or_none_is_named(fleet: Fleet, shipped: Release) -> None:
    place = fleet.chain.target_place("app", "gcp")
    place.registry.delete_tag(place.repository, "v1.0.0")
    page = fleet.chain.page(shipped)
    assert not page.ok and page.action == "prod names it, at 2 of 3 places"
    assert {"place": "gcp", "state": "not there"} in page.tables["places"]


def test_what_nobody_judged_has_a_page_too(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    page = fleet.chain.page(release)
    assert (page.ok, page.action, page.reasons) == (False, "not judged", [NO_KEY])
    assert not (fleet.config.state / "keys").exists()
    fleet.chain.sbom(release)
    assert "nobody judged it by policy default" in fleet.chain.page(release).reasons
    assert "findings_critical" not in page.facts


def test_the_one_before_may_be_gone(fleet: Fleet, shipped: Release) -> None:
    second = fleet.release("v1.1.0")
    assert fleet.judged(second)
    fleet.chain.promote(second)
    place = fleet.chain.place("app")
    place.registry.delete_manifest(place.repository, shipped.digest)
    page = fleet.chain.page(second)
    assert page.action == "prod names it, at 0 of 3 places"
    assert any(note.startswith("not compared with") for note in page.notes)
    with pytest.raises(NotFound):
        fleet.chain.page(shipped)
