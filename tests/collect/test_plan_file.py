"""How a plan is stored: read back equal, a line for each image, and what is cut, changed or foreign is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.collect.plan import Entry, RepositoryPlan, RetentionPlan, Total
from registry_pipelines.collect.plan_file import lines, open_plan, write_plan
from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest

names = st.text(st.characters(codec="utf-8", exclude_characters=""), max_size=8)
digests = st.integers(0, 30).map(lambda number: Digest.of(str(number).encode()))
entries = st.builds(
    Entry,
    digest=digests,
    tags=st.just(()),
    created=names,
    reasons=st.lists(names, max_size=2).map(tuple),
    delete=st.lists(digests, max_size=3).map(tuple),
    freed_bytes=st.integers(0, 1 << 50),
    rule=names,
    why=names,
)


@st.composite
def repositories(draw: st.DrawFn) -> RepositoryPlan:
    """Tags lead to entries, and further tags to anything."""
    found = draw(st.lists(entries, max_size=3))
    tags: dict[str, Digest] = {}
    tagged = []
    for at, entry in enumerate(found):
        mine = tuple(sorted(set(draw(st.lists(names.map(lambda name, at=at: f"{at}{name}"), max_size=2)))))
        tags.update(dict.fromkeys(mine, entry.digest))
        tagged.append(Entry(**{**entry.__dict__, "tags": mine}))
    tags.update(draw(st.dictionaries(names.map(lambda name: f"-{name}"), digests, max_size=2)))
    return RepositoryPlan(draw(names), tags, tuple(tagged), draw(names))


plans = st.builds(
    RetentionPlan,
    registry=names,
    made_at=names,
    repositories=st.lists(repositories(), max_size=3).map(tuple),
    notes=st.lists(names, max_size=2).map(tuple),
    stopped=st.lists(names, max_size=2).map(tuple),
    rules=names,
    source=st.sampled_from(["survey", "inventory"]),
    read_at=names,
    totals=st.lists(st.builds(Total), max_size=2).map(tuple) | st.just(()),
)


@given(plans)
@settings(max_examples=30, deadline=None)
def test_what_is_stored_is_read_back(plan: RetentionPlan) -> None:
    again = RetentionPlan.from_json(plan.to_json())
    assert again == plan
    assert again.digest == plan.digest == Digest.of(plan.to_json().encode())


@given(plans, st.data())
@settings(max_examples=30, deadline=None)
def test_what_is_cut_is_refused_or_is_whole_lines(plan: RetentionPlan, data: st.DataObject) -> None:
    raw = plan.to_json().encode()
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    try:
        found = RetentionPlan.from_json(cut.decode(errors="replace"))
    except InputError:
        return
    assert found.digest != plan.digest or cut == raw[:-1]


@given(st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_what_is_no_plan_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        RetentionPlan.from_json(raw.decode(errors="replace"))


def stored(count: int) -> RetentionPlan:
    found = [Entry(Digest.of(b"%d" % at), (f"v{at}",), "", () if at % 2 else ("young",)) for at in range(count)]
    tags = {tag: entry.digest for entry in found for tag in entry.tags}
    return RetentionPlan("reg", "2026-01-01T00:00:00Z", (RepositoryPlan("a", tags, tuple(found)),))


def test_a_stored_plan_is_read_as_often_as_asked(tmp_path: Path) -> None:
    plan = stored(5)
    path = tmp_path / "plan.json"
    assert write_plan(plan, path) == plan.digest
    found = open_plan(path)
    for _ in range(2):
        assert tuple(found.repositories) == plan.repositories
    assert found.digest == plan.digest
    assert [entry.tags for _, entry in found.deletions] == [("v1",), ("v3",)]
    assert found.rows() == plan.rows()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_each_image_is_a_line(tmp_path: Path) -> None:
    header, repository, *images = [json.loads(line) for line in lines(stored(3))]
    assert header["registry"] == "reg" and repository == {"repository": "a", "refused": "", "more_tags": {}}
    assert [image["tags"] for image in images] == [["v0"], ["v1"], ["v2"]]


def test_a_table_of_a_large_plan_has_what_goes_first() -> None:
    plan = stored(10)
    assert [row["action"] for row in plan.rows(7)] == ["delete"] * 5 + ["keep"] * 2
    assert [row["action"] for row in plan.rows(3)] == ["delete"] * 3


@pytest.mark.parametrize("damage", ["another line", "no line of ours", "an image first", "another schema"])
def test_a_damaged_file_is_told_when_it_is_opened(tmp_path: Path, damage: str) -> None:
    header, repository, image, *rest = list(lines(stored(3)))
    broken = {
        "another line": [header, repository, image, b"{}\n"],
        "no line of ours": [header, repository, image[:-20], *rest],
        "an image first": [header, image, repository],
        "another schema": [header.replace(b'"schema":2', b'"schema":3'), repository],
    }
    (tmp_path / "plan").write_bytes(b"".join(broken[damage]))
    with pytest.raises(InputError):
        open_plan(tmp_path / "plan")
    with pytest.raises(InputError):
        open_plan(tmp_path / "nothing")
