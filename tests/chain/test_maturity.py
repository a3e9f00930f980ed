"""``report maturity``: four tiers by evidence and settings, and what leads to the next one."""

from __future__ import annotations

from registry_pipelines.chain.maturity_settings import read_settings
from registry_pipelines.report.maturity import CRITERIA, TIERS, Criterion, Maturity, Subject, together
from tests.chain.fleet import Fleet
from tests.cli.on_fleet import answer, run


def answers(found: Maturity, name: str) -> dict[str, str]:
    [subject] = [each for each in found.subjects if each.name == name]
    assert [each.name for each in subject.criteria] == list(CRITERIA)
    return {each.name: each.answer for each in subject.criteria}


def of(name: str, **told: str) -> Subject:
    """An image that says yes to everything but what is told."""
    criteria = [
        Criterion(name=each, answer=told.get(each, "yes"), why="", read_from="", do=f"do {each}")  # type: ignore[arg-type]
        for each in CRITERIA
    ]
    return Subject(kind="image", name=name, criteria=tuple(criteria))


def test_a_tier_needs_all_below_it_and_what_is_unknown_counts_for_none() -> None:
    assert (of("top").tier, of("top").next_step) == (max(TIERS), None)
    assert of("a", lifecycle="unknown").tier == 0
    early = of("b", scanned="no", streams="unknown")
    assert early.tier == 1 and early.next_step is not None and early.next_step.name == "scanned"
    assert of("c", packed="no").tier == 3


def test_a_registry_is_as_good_as_all_of_its_images() -> None:
    good, bad, unknown = of("good"), of("bad", signed="no"), of("new", signed="unknown")
    assert together("signed", [good], "us").answer == "yes"
    assert together("signed", [good, unknown], "us").answer == "unknown"
    worst = together("signed", [unknown, good, bad], "us")
    assert (worst.answer, worst.do) == ("no", "do signed") and "1 of 3 images; not bad, new" in worst.why
    assert together("signed", [], "us").answer == "unknown"


def test_evidence_of_the_latest_release_answers_and_the_next_step_is_a_command(fleet: Fleet) -> None:
    before = answers(fleet.chain.maturity(), "app")
    assert {before[each] for each in ("slim", "scanned", "judged", "signed", "streams")} == {"unknown"}
    old, release = fleet.release("v1.0.0"), fleet.release("v1.10.0")
    assert fleet.judged(release)
    retention = "retention:\n  - {registry: us, name: old, repositories: ['team/*']}\nsigning:"
    chain = fleet.reload(("signing:", retention))
    chain.image_advice(release)
    found = chain.maturity()
    told = answers(found, "app")
    yes = {each for each, one in told.items() if one == "yes"}
    assert yes == {"private", "lifecycle", "slim", "scanned", "judged", "signed", "provenance", "cached"}, told
    [app] = [each for each in found.subjects if each.name == "app"]
    assert (app.release, app.tier) == (release.key, 2) and old.key != app.release
    assert app.next_step is not None and app.next_step.name == "immutable"
    assert all(each.evidence.startswith("sha256:") for each in app.criteria if each.name in ("slim", "signed"))
    registry = answers(found, "us")
    assert registry["lifecycle"] == "yes"
    assert registry["signed"] == "unknown"  # the other image has no release
    assert answers(found, "private")["cached"] == "yes"  # a mirror goes there
    [row] = [each for each in answer(fleet, "report", "maturity", "app")["subjects"] if each["kind"] == "image"]
    assert row["tier"] == 2 and [each["answer"] for each in row["criteria"]].count("yes") == len(yes)
    shown = run(fleet, "report", "maturity", "app").stdout
    assert f"image {release.key}: tier 2" in shown and "registry us" not in shown


def test_without_a_key_that_is_believed_nothing_of_the_evidence_counts(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    [app] = fleet.chain.maturity(["app"]).subjects
    unknown = {each.name: each.why for each in app.criteria if each.answer == "unknown"}
    assert set(unknown.values()) == {"no trusted key is here, so nothing is believed"} and "signed" in unknown


def test_an_embedded_registry_that_everybody_may_read_is_not_private(fleet: Fleet) -> None:
    (fleet.folder / "users").write_text("me:$2y$05$" + "a" * 53 + "\n")
    for setting, value in (
        ("htpasswd: users", True),
        ("htpasswd: users, anonymous_pull: true", False),
        ("host: 0.0.0.0", False),
    ):
        chain = fleet.reload(("us: {kind: embedded,", f"us: {{kind: embedded, {setting},"))
        assert read_settings(chain._session, "us", ["team/app"]).private("team/app").value is value, setting
        fleet.reload((f"us: {{kind: embedded, {setting},", "us: {kind: embedded,"))
