"""Rules that say what may go: a cloud's policy over any registry, images without a tag, evidence without its image,
indexes of which something is gone; and rules that are about nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.decide import decide
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.rules import RetentionRule, rules_digest
from registry_pipelines.collect.unmatched import nearest, unmatched
from registry_pipelines.errors import InputError, LifecycleInvalid, NotFound
from registry_pipelines.inventory.from_survey import survey_rows
from registry_pipelines.inventory.rows import Rows
from registry_pipelines.inventory.survey import survey
from registry_pipelines.inventory.value import Inventory, Source
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place, Registry
from tests.collect.test_retention import NOW, judged, note, push, push_index, rule

ALL = ("*",)


@pytest.fixture(params=["embedded", "layout"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "layout":
        yield LayoutRegistry(tmp_path / "layout")
        return
    with EmbeddedServer(tmp_path / "embedded") as server:
        yield DistributionRegistry(server.address)


def plan(registry: Registry, *rules: RetentionRule, listed: Inventory | None = None) -> RetentionPlan:
    return plan_retention(registry, rules, now=NOW, in_use=(), listed=listed)


def policy(folder: Path, *rules: dict[str, object], name: str = "policy.json") -> RetentionRule:
    (folder / name).write_text(json.dumps({"rules": rules}))
    return RetentionRule(registry="here", policy=folder / name, protect=("prod",), name="lifecycle")


def expire(priority: int, pattern: str, count_type: str, number: int) -> dict[str, object]:
    unit = {} if count_type == "imageCountMoreThan" else {"countUnit": "days"}
    selection = {"tagStatus": "tagged", "tagPatternList": [pattern], "countType": count_type, "countNumber": number}
    return {"rulePriority": priority, "selection": {**selection, **unit}, "action": {"type": "expire"}}


def why(found: RetentionPlan) -> dict[str, tuple[str, str]]:
    return {",".join(entry.tags): (entry.rule, entry.why) for _, entry in found.deletions}


def listing(registry: Registry, repository: str, *untagged: Digest) -> Inventory:
    """What a cloud would list: also what nothing leads to."""
    rows = Rows()
    found = survey(Place(registry, repository), roots=untagged)
    for row in survey_rows("here", found, NOW):
        rows.add(row._replace(pushed=row.created))
    return rows.inventory([Source(registry="here", kind="ecr", answered=NOW)], ordered=False)


def test_ecr_policy_says_what_may_go_from_any_registry(registry: Registry, tmp_path: Path) -> None:
    place = Place(registry, "team/app")
    for number in range(4):
        push(place, f"dev-{number}", days_ago=10 + number)
    push(place, "v1", days_ago=500)
    registry.put_manifest("team/app", registry.get_manifest("team/app", "dev-3"), tag="prod")
    found = plan(registry, policy(tmp_path, expire(1, "dev-*", "imageCountMoreThan", 2)))
    assert judged(found) == {
        "dev-0": "rule 1 (tagged dev-*; keeps the newest 2): 0 that match are younger; no later rule may act on it",
        "dev-1": "rule 1 (tagged dev-*; keeps the newest 2): 1 that match are younger; no later rule may act on it",
        "dev-2": "",
        "dev-3,prod": "tag prod is protected",
        "v1": "no rule is about it",
    }
    assert why(found) == {"dev-2": ("lifecycle", "rule 1 (tagged dev-*; keeps the newest 2): 2 that match are younger")}
    assert any("own times" in one for one in found.notes)
    assert apply_plan(registry, found, now=NOW).ok


def test_artifact_registry_policies_say_what_may_go(registry: Registry, tmp_path: Path) -> None:
    place = Place(registry, "project/models/app")
    for number in range(3):
        push(place, f"dev-{number}", days_ago=20 + number)
    push(place, "prod-1", days_ago=400)
    policies = [
        {"name": "old", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "14d"}},
        {"name": "prod", "action": "KEEP", "condition": {"tagState": "TAGGED", "tagPrefixes": ["prod"]}},
        {"name": "newest", "action": "KEEP", "mostRecentVersions": {"keepCount": 1}},
    ]
    (tmp_path / "gar.json").write_text(json.dumps(policies))
    gar = RetentionRule(registry="here", policy=tmp_path / "gar.json", semantics="gar")
    found = plan(registry, gar)
    assert {tags: bool(reasons) for tags, reasons in judged(found, "project/models/app").items()} == {
        "dev-0": True,
        "dev-1": False,
        "dev-2": False,
        "prod-1": True,
    }
    assert why(found)["dev-2"] == ("rule 1", "policy old deletes it: uploaded 22.0 days ago")


def test_a_policy_and_a_rule_of_ours_add_up(registry: Registry, tmp_path: Path) -> None:
    place = Place(registry, "team/app")
    for number in range(4):
        push(place, f"dev-{number}", days_ago=100 + number)
    both = (policy(tmp_path, expire(1, "dev-*", "sinceImagePushed", 7)), rule(ALL, keep_newest=2, keep_days=0))
    assert {tags for tags, reasons in judged(plan(registry, *both)).items() if not reasons} == {"dev-2", "dev-3"}
    alone = replace_rule(both[0], keep_newest=3)
    assert set(why(plan(registry, alone))) == {"dev-3"}


def replace_rule(old: RetentionRule, **fields: object) -> RetentionRule:
    return RetentionRule(**{**{name: getattr(old, name) for name in old.__struct_fields__}, **fields})


def test_what_a_policy_leaves_open_stays(registry: Registry, tmp_path: Path) -> None:
    place = Place(registry, "team/app")
    for number in range(3):
        push(place, f"dev-{number}", days_ago=20)
    push(place, "dev-without", days_ago=None)
    reasons = judged(plan(registry, policy(tmp_path, expire(1, "dev-*", "imageCountMoreThan", 1))))
    assert all(reasons.values())
    assert any("exactly as old" in one for one in reasons.values())


@pytest.mark.parametrize(
    ("text", "semantics"), [("{", None), ('{"rules": []}', "gar"), ("[]", "ecr"), ('{"rules": [{}]}', None)]
)
def test_a_policy_that_its_cloud_refuses_is_refused(tmp_path: Path, text: str, semantics: str | None) -> None:
    (tmp_path / "policy").write_text(text)
    with pytest.raises(LifecycleInvalid):
        plan(
            LayoutRegistry(tmp_path / "layout"),
            RetentionRule(registry="here", policy=tmp_path / "policy", semantics=semantics),
        )


def test_a_policy_that_is_not_there_or_not_named_is_told(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        plan(registry, RetentionRule(registry="here", policy=tmp_path / "nothing"))
    with pytest.raises(InputError, match="`semantics` and no `policy`"):
        plan(registry, RetentionRule(registry="here", semantics="ecr"))


def test_what_has_no_tag_goes_by_a_rule_that_says_so(registry: Registry) -> None:
    """Signed and without a tag: harbor#18014. The signature goes with it, or keeps it, as the rule says."""
    place = Place(registry, "team/app")
    bare, signed, young = (
        push(place, "", days_ago=age, architecture="arm64", layers=(b"%d" % age,)) for age in (90, 80, 3)
    )
    push(place, f"{signed.digest.fallback_tag}.sig", days_ago=None)
    child = push(place, "", days_ago=300, architecture="arm64", layers=(b"child",))
    push_index(place, "v1", child)
    listed = listing(registry, "team/app", bare.digest, signed.digest, young.digest)

    def gone(**fields: object) -> set[Digest]:
        ours = replace_rule(rule(ALL, keep_newest=5, keep_days=0), **fields)
        return {entry.digest for _, entry in plan(registry, ours, listed=listed).deletions}

    assert gone() == set()
    assert gone(untagged_days=7) == {bare.digest, signed.digest}
    assert gone(untagged_days=7, keep_signed=True) == {bare.digest}
    assert gone(untagged_days=85) == {bare.digest}
    ours = replace_rule(rule(ALL, keep_newest=5, keep_days=0), untagged_days=7)
    found = plan(registry, ours, listed=listed)
    assert {entry.why for _, entry in found.deletions} == {"without a tag, 90 days old", "without a tag, 80 days old"}
    assert apply_plan(registry, found, now=NOW).ok
    assert set(registry.tags("team/app")) == {"v1"}
    registry.get_manifest("team/app", child.digest)
    with pytest.raises(NotFound):
        registry.get_manifest("team/app", signed.digest)


def test_a_signed_image_that_lost_its_tag_is_found_by_its_signature(registry: Registry) -> None:
    """A registry that lists tags alone knows it by cosign's tag; without a rule it stays, and so does the signature."""
    place = Place(registry, "team/app")
    image = push(place, "", days_ago=200, architecture="arm64")
    push(place, f"{image.digest.fallback_tag}.sig", days_ago=None)
    push(place, "v1", days_ago=1)
    silent = rule(ALL, keep_newest=1, keep_days=0)
    assert "no tag, and no rule says `untagged_days`" in judged(plan(registry, silent))[""]
    found = plan(registry, replace_rule(silent, untagged_days=30))
    [(_, entry)] = found.deletions
    assert entry.digest == image.digest and len(entry.delete) == 2


def test_evidence_of_what_is_gone(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, "v1", days_ago=1)
    gone = f"sha256-{'0' * 64}"
    signature = push(place, f"{gone}.sig", days_ago=None)
    report = push(place, f"{gone}.att", days_ago=40)
    silent = rule(ALL, keep_newest=1, keep_days=0)
    assert set(judged(plan(registry, silent)).values()) == {
        "number 1 of the newest 1",
        "it is evidence of something that is gone, and no rule says `orphans_days`",
    }
    found = judged(plan(registry, replace_rule(silent, orphans_days=30)))
    assert found[f"{gone}.sig"] == "its age is unknown" and found[f"{gone}.att"] == ""
    assert judged(plan(registry, replace_rule(silent, orphans_days=60)))[f"{gone}.att"] == "younger than 60 days"
    found = plan(registry, replace_rule(silent, orphans_days=0))
    assert {entry.digest for _, entry in found.deletions} == {signature.digest, report.digest}
    assert plan(registry, replace_rule(silent, orphans_days=0, protect=("sha256-*",))).freed_bytes == 0


def test_evidence_that_a_cloud_lists_without_its_image(registry: Registry) -> None:
    """By its own word about something that is not there: only a list of everything knows."""
    place = Place(registry, "team/app")
    image = push(place, "", days_ago=100, architecture="arm64")
    described = note(place, image, "about it")
    push(place, "v1", days_ago=1)
    listed = listing(registry, "team/app", image.digest)
    surveyed = survey(place, roots=[image.digest])
    nodes = {digest: node for digest, node in surveyed.nodes.items() if digest != image.digest}
    orphaned = replace(surveyed, nodes={one: replace(node, pushed=NOW - timedelta(50)) for one, node in nodes.items()})
    silent = rule(ALL, keep_newest=1, keep_days=0)
    for days, steps in ((None, {}), (60, {}), (30, {described.digest: (described.digest,)})):
        ours = replace_rule(silent, orphans_days=days)
        assert decide(orphaned, [ours], now=NOW, in_use=Live()).steps == steps
    assert plan(registry, replace_rule(silent, orphans_days=0), listed=listed).freed_bytes == 0


def test_an_index_of_which_an_image_is_gone(registry: Registry) -> None:
    place = Place(registry, "team/app")
    children = [push(place, "", days_ago=age, architecture="arm64", layers=(b"%d" % age,)) for age in (200, 100)]
    push_index(place, "v1", *children)
    push(place, "v2", days_ago=1)
    surveyed = survey(place)
    gone = children[0].digest
    index = surveyed.nodes[surveyed.tags["v1"]]
    nodes = {digest: node for digest, node in surveyed.nodes.items() if digest != gone}
    left = replace(index, children=(children[1].digest,), images=(children[1].digest,), missing=(gone,))
    sparse = replace(surveyed, nodes={**nodes, index.digest: left})
    judge = rule(ALL, keep_newest=1, keep_days=0)
    going = decide(sparse, [judge], now=NOW, in_use=Live()).units[-1]
    assert not going.reasons and going.why == "number 2, 100 days old; 1 image of 2 in it not there"
    kept = decide(sparse, [replace_rule(judge, incomplete="keep")], now=NOW, in_use=Live()).units[-1]
    assert kept.reasons == ["1 image of 2 in it not there, and the rule keeps such"]


def test_an_index_without_any_of_its_images_is_of_unknown_age_and_stays(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path)
    place = Place(registry, "team/app")
    child = push(place, "", days_ago=200, architecture="arm64")
    push_index(place, "v1", child)
    registry.delete_manifest("team/app", child.digest)
    found = plan(registry, rule(ALL, keep_newest=0, keep_days=0))
    assert judged(found) == {"v1": "its age is unknown"}
    assert survey(place).nodes[registry.resolve("team/app", "v1").digest].missing == (child.digest,)


def test_a_plan_says_which_rule_and_why(registry: Registry) -> None:
    place = Place(registry, "team/app")
    for number in range(3):
        push(place, f"v{number}", days_ago=40 + number)
    named = replace_rule(rule(ALL, keep_newest=1, keep_days=0), name="team")
    found = plan(registry, rule(("other/*",), 0, 0), named)
    [repository] = found.repositories
    assert [(entry.rule, entry.why) for entry in repository.entries] == [
        ("team", ""),
        ("team", "number 2, 41 days old"),
        ("team", "number 3, 42 days old"),
    ]
    [by_rule] = [each for each in found.totals if each.of == "rule"]
    assert (by_rule.name, by_rule.going, by_rule.freed) == ("team", 2, found.freed_bytes)
    [whole] = [each for each in found.totals if each.of == "registry"]
    assert whole.before - whole.freed == whole.after and whole.freed == found.freed_bytes


def test_a_rule_about_nothing_is_said_with_the_nearest(registry: Registry) -> None:
    """A path that was stripped twice (`app` for `team/app`), or not at all (with the registry's host)."""
    push(Place(registry, "team/app"), "v1", days_ago=400)
    push(Place(registry, "team/other"), "v1", days_ago=400)
    rules = [rule((name,), 0, 0) for name in ("app", "registry.example/team/app", "teem/*", "team/*")]
    notes = [one for one in plan(registry, *rules).notes if "about nothing" in one]
    assert notes == [
        "rule 1 is about nothing: no repository matches app; nearest is team/app",
        "rule 2 is about nothing: no repository matches registry.example/team/app; nearest is team/app",
        "rule 3 is about nothing: no repository matches teem/*; none is like it",
    ]
    tags = replace_rule(rule(ALL, 0, 0), tags=("v*", "main-*"), protect=("prod",))
    assert [one for one in plan(registry, tags).notes if "no tag matches" in one] == [
        "rule 1: no tag matches main-* where the rule is for",
        "rule 1: no tag matches prod where the rule is for",
    ]


def test_nearest_names() -> None:
    names = ["project/models/ml/app", "ml/apps", "ml/app/sub"]
    assert nearest("ml/app", names) == ["project/models/ml/app", "ml/app/sub", "ml/apps"]
    assert nearest("*", names) == []
    assert list(unmatched([rule(("x",), 0, 0)], [])) == [
        "rule 1 is about nothing: no repository matches x; the registry has no repository"
    ]


def test_the_digest_of_rules_knows_what_their_policies_say(tmp_path: Path) -> None:
    ours = policy(tmp_path, expire(1, "dev-*", "imageCountMoreThan", 2))
    before = rules_digest([ours])
    assert rules_digest([ours]) == before != rules_digest([ours, ours])
    policy(tmp_path, expire(1, "dev-*", "imageCountMoreThan", 3))
    assert rules_digest([ours]) != before
    assert rules_digest([RetentionRule(registry="a")]) != rules_digest([RetentionRule(registry="b")])


def test_an_old_image_that_was_pushed_yesterday_is_new_here(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, "v1", days_ago=400)
    listed = listing(registry, "team/app")
    ours = rule(ALL, keep_newest=0, keep_days=30)
    assert judged(plan(registry, ours, listed=listed)) == {"v1": ""}
    frame = listed.frame.assign(pushed=listed.frame["pushed"] + timedelta(399))
    assert judged(plan(registry, ours, listed=Inventory(frame, listed.sources))) == {"v1": "younger than 30 days"}


def test_media_types_of_signatures_are_known(registry: Registry) -> None:
    place = Place(registry, "team/app")
    image = push(place, "", days_ago=90, architecture="arm64")
    from registry_pipelines.evidence.artifacts import attach

    attach(
        place,
        subject=image.descriptor,
        artifact_type=media_types.NOTATION_SIGNATURE,
        content=b"{}",
        media_type="application/jose+json",
    )
    push(place, "v1", days_ago=1)
    ours = replace_rule(rule(ALL, 1, 0), untagged_days=0, keep_signed=True)
    found = plan(registry, ours, listed=listing(registry, "team/app", image.digest))
    assert judged(found)[""] == "it has no tag, and is signed"


def test_a_policy_that_nobody_asked_keeps_all(registry: Registry, tmp_path: Path) -> None:
    place = Place(registry, "team/app")
    push(place, "dev-0", days_ago=900)
    ours = policy(tmp_path, expire(1, "dev-*", "sinceImagePushed", 7))
    found = decide(survey(place), [ours], now=NOW, in_use=Live())
    assert found.steps == {} and "the policy was not asked" in found.units[0].reasons[0]
    assert set(why(plan(registry, ours))) == {"dev-0"}


def test_an_image_of_the_future_takes_no_place_among_the_newest(registry: Registry) -> None:
    place = Place(registry, "team/app")
    push(place, "wrong-clock", days_ago=-26_000)
    push(place, "ahead", days_ago=-0.5)
    push(place, "old", days_ago=100)
    found = judged(plan(registry, rule(ALL, 1, 0)))
    assert (found["wrong-clock"], found["old"]) == ("its time lies in the future", "")
    assert found["ahead"].startswith("number 1 of the newest 1")
