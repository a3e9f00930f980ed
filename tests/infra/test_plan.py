from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.infra.apply import apply_plan
from registry_pipelines.infra.plan import Plan, change_of, difference_of, make_plan
from registry_pipelines.infra.settings import Setting, with_found
from tests.infra.shelf import Shelf, wanted

Things = dict[str, dict[str, Any]]
NOW = datetime(2026, 11, 29, 8, 0, tzinfo=UTC)


def planned(shelf: Shelf, *settings: Setting) -> Plan:
    return make_plan(shelf, shelf.read(settings), now=NOW)


def actions(plan: Plan) -> dict[str, str]:
    return {str(each.key): each.action for each in plan.changes}


def test_each_declared_thing_is_compared_field_by_field_and_others_are_named() -> None:
    shelf = Shelf()
    shelf.things = {("box", "a"): {"size": 1, "colour": "red"}, ("box", "b"): {"size": 2}, ("lid", "x"): {"size": 3}}
    plan = planned(shelf, wanted("box", "a", size=1), wanted("box", "b", size=5), wanted("box", "c", size=7))
    assert actions(plan) == {"box a": "adopt", "box b": "update", "box c": "create"}
    assert [str(each) for change in plan.actions for each in change.differences] == ["size: 2 -> 5", "size: none -> 7"]
    assert plan.changes[0].undeclared == ("colour",)
    assert [str(key) for key in plan.unmanaged] == ["lid x"]
    assert plan.summary() == "1 to update, 1 to create, 1 as declared, 1 unmanaged"
    assert not plan.settled and len(plan.rows()) == 3
    assert plan.lines() == [
        "adopt box a", "create box c size: none -> 7", "unmanaged lid x", "update box b size: 2 -> 5",
    ]  # fmt: skip


def test_what_cannot_be_done_is_refused_before_anything_is() -> None:
    """A fixed field, a thing that is never made here, and one that cannot be read."""
    box = with_found(wanted("box", "a", size=1), {"size": 2})
    assert change_of(msgspec.structs.replace(box, fixed=("size",))).why.startswith("size is fixed when it is made")
    key = msgspec.structs.replace(wanted("box", "key"), must_exist=True)
    assert change_of(key).why == "is not there, and is not made here"
    shelf = Shelf()
    shelf.hidden = {"dark"}
    plan = planned(shelf, wanted("box", "dark", size=1))
    assert actions(plan) == {"box dark": "refuse"} and not plan.settled
    assert not apply_plan(shelf, plan, now=NOW).ok and shelf.log == []


def test_what_cannot_be_read_back_is_named_and_not_compared() -> None:
    setting = Setting(kind="box", place="shelf", name="a", wanted={"size": 1, "secret": 2}, unseen=("secret",))
    shelf = Shelf()
    shelf.things = {("box", "a"): {"size": 1}}
    plan = planned(shelf, setting)
    assert actions(plan) == {"box a": "adopt"} and plan.notes == ("box a: secret cannot be read back",)


def test_applying_makes_what_others_need_first_and_deletes_the_other_way_round() -> None:
    shelf = Shelf()
    shelf.things = {("box", "old"): {}, ("lid", "old"): {}}
    gone = [Setting(kind=kind, place="shelf", name="old", absent=True) for kind in ("box", "lid")]
    plan = planned(shelf, wanted("lid", "a", size=1), wanted("box", "a", size=1), *gone)
    assert apply_plan(shelf, plan, fresh=True, now=NOW).ok
    assert shelf.log == [
        ("create", "box", "a"), ("create", "lid", "a"), ("delete", "lid", "old"), ("delete", "box", "old"),
    ]  # fmt: skip
    assert planned(shelf, wanted("lid", "a", size=1), wanted("box", "a", size=1), *gone).settled


def test_one_failure_stops_only_what_needs_it() -> None:
    shelf = Shelf()
    shelf.broken = {"a"}
    plan = planned(shelf, *(wanted(kind, name, size=1) for kind in ("box", "lid") for name in ("a", "b")))
    applied = apply_plan(shelf, plan, fresh=True, now=NOW)
    assert {(str(each.key), each.state) for each in applied.outcomes} == {
        ("box a", "failed"), ("box b", "done"), ("lid a", "refused"), ("lid b", "done"),
    }  # fmt: skip
    assert not applied.ok and applied.changed
    [needing] = [each for each in applied.outcomes if each.state == "refused"]
    assert needing.why == "box a could not be made"


def test_a_stored_plan_does_what_is_left_and_nothing_that_somebody_changed() -> None:
    shelf = Shelf()
    shelf.things = {("box", "moved"): {"size": 1}, ("box", "done"): {"size": 1}, ("box", "left"): {"size": 1}}
    plan = planned(shelf, *(wanted("box", name, size=2) for name in ("moved", "done", "left")))
    stored = Plan.from_json(plan.to_json())
    assert stored == plan and stored.digest == plan.digest
    shelf.things["box", "moved"]["size"] = 9
    shelf.things["box", "done"]["size"] = 2
    applied = apply_plan(shelf, stored, now=NOW)
    assert {each.key.name: each.state for each in applied.outcomes} == {
        "moved": "refused", "done": "already", "left": "done",
    }  # fmt: skip
    assert shelf.things["box", "moved"]["size"] == 9


def test_plans_are_refused_elsewhere_and_when_they_are_old() -> None:
    shelf = Shelf()
    plan = planned(shelf, wanted("box", "a", size=1))
    for wrong, said in (
        (msgspec.structs.replace(plan, place="other"), "the plan is for other"),
        (msgspec.structs.replace(plan, where="the next room"), "for shelf, the next room"),
        (msgspec.structs.replace(plan, made_at="2026-11-27T08:00:00+00:00"), "within a day"),
        (msgspec.structs.replace(plan, made_at="soon"), "within a day"),
        (msgspec.structs.replace(plan, changes=(msgspec.structs.replace(plan.changes[0], kind="jar"),)), "jar"),
    ):
        with pytest.raises(InputError, match=said):
            apply_plan(shelf, wrong, now=NOW)
    assert apply_plan(shelf, plan, now=NOW + timedelta(hours=23)).ok


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2, "plan": {}}', '{"schema": 1, "plan": {"place": 1}}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Plan.from_json(text)


def test_two_plans_are_compared_by_their_lines() -> None:
    shelf = Shelf()
    before = planned(shelf, wanted("box", "a", size=1), wanted("box", "b", size=1))
    after = planned(shelf, wanted("box", "a", size=2), wanted("box", "b", size=1))
    assert difference_of(before, after) == ["- create box a size: none -> 1", "+ create box a size: none -> 2"]
    assert difference_of(before, before) == []


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.text(min_size=1, max_size=6), PLAIN, max_size=4)


THINGS = st.dictionaries(st.text(max_size=5), FIELDS, max_size=4)


@given(THINGS, THINGS)
def test_after_any_plan_all_is_as_declared_and_the_rest_as_it_was(there: Things, told: Things) -> None:
    shelf = Shelf()
    shelf.things = {("box", name): dict(fields) for name, fields in there.items()}
    settings = [wanted("box", name, **fields) for name, fields in told.items()]
    plan = planned(shelf, *settings)
    assert Plan.from_json(plan.to_json()) == plan
    assert apply_plan(shelf, plan, fresh=True, now=NOW).ok
    after = planned(shelf, *settings)
    assert after.settled and after.unmanaged == plan.unmanaged
    for name, fields in there.items():
        for field in fields.keys() - told.get(name, {}).keys():
            assert shelf.things["box", name][field] == fields[field]
