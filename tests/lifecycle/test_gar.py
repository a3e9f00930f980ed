"""Artifact Registry's cleanup policies: what is kept and deleted, and any set against a slow evaluator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import LifecycleInvalid
from registry_pipelines.lifecycle.evaluation import QUESTIONS, Outcome
from registry_pipelines.lifecycle.gar_evaluate import evaluate_gar
from registry_pipelines.lifecycle.gar_policy import read_gar_policies
from registry_pipelines.lifecycle.words import rule_text, why
from tests.lifecycle.images import NOW, Image, digest_of, inventory_of

WEB, API = "p/repo/web", "p/repo/api"


def delete(name: str = "d", **condition: Any) -> dict[str, Any]:
    return {"name": name, "action": {"type": "Delete"}, "condition": condition}


def keep(name: str = "k", **condition: Any) -> dict[str, Any]:
    return {"name": name, "action": {"type": "Keep"}, "condition": condition}


def newest(count: int, *packages: str, name: str = "n") -> dict[str, Any]:
    about = {"keepCount": count, **({"packageNamePrefixes": list(packages)} if packages else {})}
    return {"name": name, "action": {"type": "Keep"}, "mostRecentVersions": about}


def version(name: str, tags: str = "", pushed: float | None = 50, package: str = WEB, **more: Any) -> Image:
    return Image(name, tuple(tags.split(",")) if tags else (), pushed, repository=package, **more)


def evaluated(
    policies: Sequence[dict[str, Any]], images: Sequence[Image], *, immutable: bool = False
) -> dict[str, str]:
    """By name ``delete d``, ``keep k`` where a policy that keeps decided, or ``undecided QUESTION``."""
    read = read_gar_policies(json.dumps(list(policies)))
    found = evaluate_gar(read, inventory_of(images, "gar"), now=NOW, immutable_tags=immutable)
    said = {}
    for at, image in enumerate(images):
        assert why(read, found, at)
        name = rule_text(found, at).removeprefix("policy ")
        if found.questions[at]:
            assert found.outcome[at] == Outcome.KEEP
            bits = int(found.questions[at])
            said[image.name] = "undecided " + " ".join(str(each.name) for each in QUESTIONS if bits & each)
        elif found.outcome[at] == Outcome.EXPIRE:
            said[image.name] = f"delete {name}"
        elif "counts more than any that deletes" in why(read, found, at):
            said[image.name] = f"keep {name}"
    return said


CASES: dict[str, tuple[list[dict[str, Any]], list[Image], dict[str, str]]] = {
    "keep alone deletes nothing": ([keep(tagState="any")], [version("a")], {}),
    "delete by age": ([delete(olderThan="30d")], [version("a", pushed=40), version("b", pushed=20)], {"a": "delete d"}),
    "exactly the age": ([delete(olderThan="30d")], [version("a", pushed=30)], {"a": "undecided BOUNDARY"}),
    "no time": ([delete(olderThan="30d")], [version("a", pushed=None)], {"a": "undecided UNKNOWN_TIME"}),
    "untagged alone": ([delete(tagState="untagged")], [version("a"), version("b", "x")], {"a": "delete d"}),
    "tagged by prefix": (
        [delete(tagState="tagged", tagPrefixes=["alpha", "v0"])],
        [version("a", "alpha-1"), version("b", "v0.1,x"), version("c", "x")],
        {"a": "delete d", "b": "delete d"},
    ),
    "fields are anded": (
        [delete(tagState="tagged", tagPrefixes=["a"], olderThan="30d")],
        [version("a", "a1", 40), version("b", "a1", 20), version("c", "b", 40)],
        {"a": "delete d"},
    ),
    "newer than": ([delete(newerThan="10d")], [version("a", pushed=5), version("b", pushed=15)], {"a": "delete d"}),
    "between two ages": (
        [delete(olderThan="10d", newerThan="864000.5s")],
        [version("a", pushed=10.000_002)],
        {"a": "delete d"},
    ),
    "a package": (
        [delete(packageNamePrefixes=["we"])],
        [version("a"), version("b", package=API)],
        {"a": "delete d"},
    ),
    "a version": ([delete(versionNamePrefixes=[digest_of("a")[:70]])], [version("a")], {"a": "delete d"}),
    "keep beats delete, after it": (
        [delete(), keep(tagState="tagged", tagPrefixes=["release"])],
        [version("a", "release-1"), version("b", "dev")],
        {"a": "keep k", "b": "delete d"},
    ),
    "keep beats delete, before it": (
        [keep(tagState="tagged", tagPrefixes=["release"]), delete()],
        [version("a", "release-1"), version("b", "dev")],
        {"a": "keep k", "b": "delete d"},
    ),
    "the newest of one package": (
        [delete(), newest(1)],
        [version("a", pushed=3), version("b", pushed=2)],
        {"a": "delete d", "b": "keep n"},
    ),
    "the newest of each package": (
        [delete(), newest(1)],
        [version("a", pushed=9), version("b", pushed=8), version("c", pushed=3, package=API)],
        {"a": "delete d", "b": "undecided PACKAGES", "c": "keep n"},
    ),
    "the newest of some packages": (
        [delete(), newest(1, "web")],
        [version("a", pushed=9), version("c", pushed=3, package=API)],
        {"a": "keep n", "c": "delete d"},
    ),
    "another repository does not count": (
        [delete(), newest(1)],
        [version("a", pushed=9), version("b", pushed=3, package="p/other/web")],
        {"a": "keep n", "b": "keep n"},
    ),
    "a tie": (
        [delete(), newest(1)],
        [version("a", pushed=9), version("b", pushed=9)],
        {"a": "undecided TIES", "b": "undecided TIES"},
    ),
    "manifests of an index take places or not": (
        [delete(tagState="tagged"), newest(2)],
        [version("a", "x", 9), version("i", "y", 3, children=("c",)), version("c", pushed=2)],
        {"a": "undecided PLACES", "i": "keep n"},
    ),
    "a manifest that an index lists": (
        [delete(tagState="untagged")],
        [version("i", "y", 3, children=("c",)), version("c", pushed=3)],
        {"c": "undecided CHILD_DELETED"},
    ),
    "a keep of unknown age keeps": (
        [delete(), keep(newerThan="10d")],
        [version("a", pushed=None)],
        {"a": "undecided UNKNOWN_TIME"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    policies, images, expected = CASES[name]
    assert evaluated(policies, images) == expected


def test_immutable_tags_keep_what_has_one() -> None:
    images = [version("a", "x"), version("b")]
    assert evaluated([delete()], images) == {"a": "delete d", "b": "delete d"}
    assert evaluated([delete()], images, immutable=True) == {"b": "delete d"}


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ([], "holds no policy"),
    "text": ("x", "must be a list of policies"),
    "eleven": ([delete(f"d{at}") for at in range(11)], "11 policies; at most 10"),
    "a name twice": ([delete(), keep("d")], "a second policy of the name d"),
    "no name": ([{"action": "DELETE", "condition": {}}], "name: must be text"),
    "long name": ([delete("x" * 128)], "1 to 127"),
    "action": ([{**delete(), "action": {"type": "Remove"}}], "write DELETE or KEEP"),
    "neither": ([{"name": "x", "action": "KEEP"}], "needs either condition or mostRecentVersions"),
    "both": ([{**keep(), "mostRecentVersions": {"keepCount": 1}}], "and not both"),
    "delete the newest": ([{**newest(3), "action": "DELETE"}], "only keeps"),
    "keep none": ([newest(0)], "at least 1"),
    "prefixes without state": ([delete(tagPrefixes=["a"])], "needs tagState TAGGED"),
    "prefixes of untagged": ([delete(tagState="untagged", tagPrefixes=["a"])], "needs tagState TAGGED"),
    "state": ([delete(tagState="all")], "write TAGGED or UNTAGGED or ANY"),
    "time": ([delete(olderThan="30 days")], "is no length of time"),
    "time as number": ([delete(olderThan=30)], "is no length of time"),
    "field": ([delete(olderthan="30d")], "did you mean `olderThan`?"),
    "under another name": ({"a": {"id": "b", "action": "DELETE", "condition": {}}}, "b stands under a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    document, said = REFUSED[name]
    with pytest.raises(LifecycleInvalid) as caught:
        read_gar_policies(json.dumps(document))
    assert said in "\n".join(caught.value.problems)


def test_the_apis_form_is_the_same() -> None:
    api = {
        "name": "projects/p/locations/l/repositories/r",
        "cleanupPolicies": {
            "d": {"id": "d", "action": "DELETE", "condition": {"tagState": "TAGGED", "olderThan": "2592000s"}},
            "n": {"id": "n", "action": "KEEP", "mostRecentVersions": {"keepCount": 5}},
        },
    }
    ours = [delete(tagState="tagged", olderThan="30d"), newest(5)]
    assert read_gar_policies(json.dumps(api)) == read_gar_policies(json.dumps(ours))
    assert read_gar_policies(json.dumps(ours)).policies[0].older_than == timedelta(days=30)


def test_a_policy_that_deletes_everything_is_a_warning() -> None:
    assert "every version" in read_gar_policies(json.dumps([delete()])).warnings[0]
    assert "no policy deletes" in read_gar_policies(json.dumps([newest(1)])).warnings[0]


CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.sampled_from([("untagged", None), ("tagged", None), ("tagged", ["re"]), ("tagged", ["dev", "v"])]),
        "olderThan": st.sampled_from(["5d", "20d", "864001s"]),
        "newerThan": st.sampled_from(["8d", "30d"]),
        "packageNamePrefixes": st.sampled_from([["web"], ["a"], ["web", "api"]]),
    },
)


def _condition(told: dict[str, Any]) -> dict[str, Any]:
    state, prefixes = told.pop("tags", (None, None))
    return {**told, **({"tagState": state} if state else {}), **({"tagPrefixes": prefixes} if prefixes else {})}


@st.composite
def policy_sets(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for at in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["delete", "keep", "newest"]))
        if kind == "newest":
            made.append(newest(draw(st.integers(1, 3)), "web", name=f"p{at}"))
        else:
            condition = _condition(draw(CONDITIONS))
            made.append((delete if kind == "delete" else keep)(f"p{at}", **condition))
    return made


SPANS = {"5d": 5, "20d": 20, "864001s": 10 + 1 / 86400, "8d": 8, "30d": 30}


def _named(policy: dict[str, Any], image: Image, images: Sequence[Image]) -> bool:
    if "mostRecentVersions" in policy:
        about = policy["mostRecentVersions"]
        mine = [one for one in images if one.repository.rpartition("/")[2].startswith("web")]
        return image in sorted(mine, key=lambda one: one.pushed or 0)[: about["keepCount"]]
    told = policy["condition"]
    tags = told.get("tagState")
    age = image.pushed or 0
    return (
        (tags is None or (tags == "tagged") == bool(image.tags))
        and ("tagPrefixes" not in told or any(tag.startswith(tuple(told["tagPrefixes"])) for tag in image.tags))
        and image.repository.rpartition("/")[2].startswith(tuple(told.get("packageNamePrefixes", [""])))
        and ("olderThan" not in told or age > SPANS[told["olderThan"]])
        and ("newerThan" not in told or age < SPANS[told["newerThan"]])
    )


@given(policy_sets(), st.lists(st.sampled_from(["release-1", "dev", "v1", ""]), max_size=8), st.data())
@settings(max_examples=120, deadline=None)
def test_any_policies_are_what_the_slow_evaluator_says(
    policies: list[dict[str, Any]], tags: list[str], data: st.DataObject
) -> None:
    """One package begins with ``web``, so that nothing is open: times apart, none at an edge."""
    days = data.draw(st.permutations(range(1, 40)))
    packages = [data.draw(st.sampled_from([WEB, API])) for _ in tags]
    images = [version(f"i{at}", tag, days[at] + 0.5, packages[at]) for at, tag in enumerate(tags)]
    gone = {
        image.name
        for image in images
        if any(each["action"]["type"] == "Delete" and _named(each, image, images) for each in policies)
        and not any(each["action"]["type"] == "Keep" and _named(each, image, images) for each in policies)
    }
    said = evaluated(policies, images)
    assert {name for name, text in said.items() if text.startswith("delete")} == gone
    assert not any(text.startswith("undecided") for text in said.values())
