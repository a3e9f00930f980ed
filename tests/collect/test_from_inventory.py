"""A plan from a stored inventory is the plan from the registry itself, and is applied only after another look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.collect.again import look_again
from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.from_inventory import plan_inventory
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.plan import RetentionPlan
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.collect.weigh import KEPT, Held, weigh
from registry_pipelines.collect.weigh_columns import Needs
from registry_pipelines.errors import InputError, Unavailable
from registry_pipelines.inventory.from_survey import SurveyReader
from registry_pipelines.inventory.parts import beside
from registry_pipelines.inventory.reader import EVERYTHING, read_registry
from registry_pipelines.inventory.stored import StoredInventory
from registry_pipelines.inventory.value import Inventory, Unread
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place, Registry
from tests.collect.test_retention import NOW, note, push, push_index, rule
from tests.collect.test_rules import expire, replace_rule

SHARED = tuple(b"%d" % at * 100 for at in range(4))


def stored(registry: Registry, folder: Path) -> Path:
    inventory = read_registry("here", SurveyReader("here", "layout", registry))
    inventory.write(folder / "images.parquet")
    return folder / "images.parquet"


def from_file(
    registry: Registry, path: Path, *rules: RetentionRule, in_use: Live | None = None, known_as: str = "here"
) -> RetentionPlan:
    return plan_inventory(
        path,
        rules,
        registry=registry.name,
        known_as=known_as,
        now=NOW,
        in_use=in_use or Live(),
        output=path.with_name("plan.json"),
    )


def assert_equal(found: RetentionPlan, wanted: RetentionPlan) -> None:
    assert tuple(found.repositories) == tuple(wanted.repositories)
    assert found.totals == wanted.totals
    assert (found.rules, found.stopped, found.registry) == (wanted.rules, wanted.stopped, wanted.registry)


WORDS = st.sampled_from(["v1", "v2", "main-1", "prod", "old"])
IMAGES = st.lists(
    st.tuples(
        WORDS,
        st.sampled_from([None, 1, 20, 100, 400]),
        st.sets(st.sampled_from(SHARED), max_size=2),
        st.sampled_from(["plain", "index", "note", "signed", "orphan", "lost"]),
    ),
    min_size=1,
    max_size=4,
)
RULES = st.lists(
    st.builds(
        RetentionRule,
        registry=st.just("here"),
        repositories=st.sampled_from([("*",), ("team/app",), ("other/*",)]),
        keep_newest=st.sampled_from([0, 1]),
        keep_days=st.sampled_from([0, 30]),
        protect=st.sampled_from([(), ("prod",)]),
        untagged_days=st.sampled_from([None, 0, 30]),
        orphans_days=st.sampled_from([None, 0]),
        keep_signed=st.booleans(),
    ),
    min_size=1,
    max_size=2,
)


@given(st.dictionaries(st.sampled_from(["team/app", "team/b", "other/app"]), IMAGES, min_size=1), RULES, st.data())
@settings(max_examples=8, deadline=None)
def test_it_is_the_plan_of_a_survey(
    tmp_path_factory: pytest.TempPathFactory,
    content: dict[str, list[tuple[str, int | None, set[bytes], str]]],
    rules: list[RetentionRule],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("layout")
    registry = LayoutRegistry(folder / "registry")
    pushed = [fill(Place(registry, name), images) for name, images in content.items()]
    digests = [digest for each in pushed for digest in each]
    live = Live.of(dict.fromkeys(data.draw(st.lists(st.sampled_from(digests), max_size=2)), "runs"))
    wanted = plan_retention(registry, rules, now=NOW, in_use=live)
    assert_equal(from_file(registry, stored(registry, folder), *rules, in_use=live), wanted)
    assert sum(each.freed for each in wanted.totals if each.of == "rule") == wanted.freed_bytes
    shutil.rmtree(folder)


def fill(place: Place, images: list[tuple[str, int | None, set[bytes], str]]) -> list[Digest]:
    digests = []
    for number, (tag, age, layers, kind) in enumerate(images):
        own = (*sorted(layers), b"%d" % number)
        image = push(place, tag, days_ago=age, layers=own, architecture="arm64" if kind == "lost" else "amd64")
        digests.append(image.digest)
        if kind == "index":
            digests.append(push_index(place, f"{tag}-all", image).digest)
        elif kind == "note":
            note(place, image, "about")
        elif kind in ("signed", "lost"):
            push(place, f"{image.digest.fallback_tag}.sig", days_ago=None)
        elif kind == "orphan":
            push(place, f"sha256-{number:064x}.att", days_ago=age)
    return digests


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3) | st.just(KEPT)), max_size=10), min_size=1, max_size=4
    )
)
@settings(max_examples=30, deadline=None)
def test_columns_weigh_as_values_do(fleet: list[list[tuple[int, int]]]) -> None:
    """Entries that go are numbered over all repositories there, and by repository here."""
    sizes = [1, 2, 3, 50, 1 << 40, 1_000_003]
    needs, helds, first = Needs(), [], 0
    for found in fleet:
        held = Held(4)
        for blob, entry in found:
            held.add(str(blob), sizes[blob], entry)
        helds.append(held)
        blobs = np.array([blob for blob, _ in found], dtype=np.int64)
        entries = np.array([KEPT if entry == KEPT else first + entry for _, entry in found], dtype=np.int64)
        needs.add(blobs, np.array(sizes, dtype=np.int64)[blobs], entries)
        first += 4
    wanted, columns = weigh(helds), needs.weigh(first)
    assert columns.freed.tolist() == [size for freed in wanted.freed for size in freed]
    assert (columns.held.tolist(), columns.gone.tolist()) == (list(wanted.held), list(wanted.gone))


@pytest.fixture
def layout(tmp_path: Path) -> LayoutRegistry:
    registry = LayoutRegistry(tmp_path / "registry")
    for name in ("team/app", "team/b"):
        for number in range(4):
            push(Place(registry, name), f"dev-{number}", days_ago=100 + number, layers=(SHARED[number],))
    return registry


def test_a_policy_over_an_inventory(layout: LayoutRegistry, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps({"rules": [expire(1, "dev-*", "imageCountMoreThan", 2)]}))
    ours = RetentionRule(registry="here", policy=tmp_path / "policy.json")
    path = stored(layout, tmp_path)
    inventory = read_registry("here", SurveyReader("here", "layout", layout))
    dated = replace(inventory, frame=inventory.frame.assign(pushed=inventory.frame["created"]))
    dated.write(path)
    wanted = plan_retention(layout, [ours], now=NOW, in_use=(), listed=dated)
    assert len(list(wanted.deletions)) == 4
    assert_equal(from_file(layout, path, ours), wanted)


def test_it_says_what_it_was_made_from(layout: LayoutRegistry, tmp_path: Path) -> None:
    path = stored(layout, tmp_path)
    found = from_file(layout, path, rule(("team/app",), 1, 0), rule(("nothing",), 1, 0))
    assert (found.source, found.made_at) == ("inventory", "2026-06-01T00:00:00Z")
    assert found.read_at and any(found.read_at in one and "looked at again" in one for one in found.notes)
    assert any("about nothing: no repository matches nothing" in one for one in found.notes)
    assert [each.repository for each in found.repositories] == ["team/app"]


def test_what_was_not_read_is_refused(layout: LayoutRegistry, tmp_path: Path) -> None:
    path = stored(layout, tmp_path)
    inventory = read_registry("here", SurveyReader("here", "layout", layout))
    source = replace_source(inventory, Unread("team/b", "it broke off"), Unread("team/c", "no answer"))
    source.write(path)
    found = from_file(layout, path, rule(("*",), 1, 0))
    assert [(each.repository, each.refused, len(each.entries)) for each in found.repositories] == [
        ("team/app", "", 4),
        ("team/b", "it broke off", 0),
        ("team/c", "no answer", 0),
    ]
    replace_source(inventory, Unread(EVERYTHING, "no answer")).write(path)
    with pytest.raises(Unavailable):
        from_file(layout, path, rule(("*",), 1, 0))


def replace_source(inventory: Inventory, *unread: Unread) -> Inventory:
    [source] = inventory.sources
    fields = {name: getattr(source, name) for name in source.__struct_fields__}
    return replace(inventory, sources=(type(source)(**{**fields, "unread": unread, "complete": False}),))


def test_archived_images_stay_and_may_list_what_has_no_tag(layout: LayoutRegistry, tmp_path: Path) -> None:
    path = stored(layout, tmp_path)
    bare = push(Place(layout, "team/app"), "", days_ago=300, architecture="arm64")
    push(Place(layout, "team/app"), f"{bare.digest.fallback_tag}.sig", days_ago=None)
    inventory = read_registry("here", SurveyReader("here", "layout", layout))
    ours = replace_rule(rule(("team/app",), 0, 0), untagged_days=0)
    inventory.write(path)
    assert bare.digest in {entry.digest for _, entry in from_file(layout, path, ours).deletions}
    frame = inventory.frame
    at = frame.index[frame["tags"].list.len() == 1][0]
    index = "application/vnd.oci.image.index.v1+json"
    frame["status"] = ["ARCHIVED" if row == at else "ACTIVE" for row in frame.index]
    frame["media_type"] = [
        index if row == at else each for row, each in zip(frame.index, frame["media_type"], strict=True)
    ]
    frame["children"] = [None if row == at else each for row, each in zip(frame.index, frame["children"], strict=True)]
    replace(inventory, frame=frame).write(path)
    found = from_file(layout, path, ours)
    [repository] = found.repositories
    reasons = {entry.digest: entry.reasons for entry in repository.entries}
    assert "the registry says it is archived; only what is active goes" in reasons[Digest(frame["digest"][at])]
    assert "an index of the repository cannot be read (archived), and may list it" in reasons[bare.digest]


def without_second(path: Path) -> None:
    beside(path).unlink()


def other_second(path: Path) -> None:
    table = pq.read_table(beside(path))
    pq.write_table(table.slice(1), beside(path))


def swapped(path: Path) -> None:
    table = pq.read_table(beside(path))
    pq.write_table(table.take(pa.array(range(table.num_rows))[::-1]), beside(path))


def no_metadata(path: Path) -> None:
    pq.write_table(pq.read_table(beside(path)).replace_schema_metadata(None), beside(path))


def no_digest(path: Path) -> None:
    for each in (path, beside(path)):
        table = pq.read_table(each)
        column = pa.array(["sha256:x"] * table.num_rows)
        pq.write_table(table.set_column(table.schema.get_field_index("digest"), "digest", column), each)


def twice(path: Path) -> None:
    for each in (path, beside(path)):
        table = pq.read_table(each)
        pq.write_table(pa.concat_tables([table, table]), each)


def text(path: Path) -> None:
    path.write_text("no Parquet")


@pytest.mark.parametrize("damage", [without_second, other_second, swapped, no_metadata, no_digest, twice, text])
def test_files_that_are_none_are_refused(
    layout: LayoutRegistry, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = stored(layout, tmp_path)
    damage(path)
    with pytest.raises(InputError):
        from_file(layout, path, rule(("*",), 1, 0))
    assert not path.with_name("plan.json").exists()


def test_an_inventory_of_another_registry_is_refused(layout: LayoutRegistry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of here, not of there"):
        from_file(layout, stored(layout, tmp_path), rule(("*",), 1, 0), known_as="there")


def test_blobs_of_any_algorithm_have_a_number_each(layout: LayoutRegistry, tmp_path: Path) -> None:
    path = stored(layout, tmp_path)
    found = list(StoredInventory(path).repositories("here"))
    assert [each.survey.repository for each in found] == ["team/app", "team/b"]
    for each in found:
        digests = list(each.survey.nodes)
        own = {folded(bytes.fromhex(one.hex)): one for one in digests}
        mine = {int(blob): digests[row] for blob, row in zip(each.blob, each.row, strict=True) if int(blob) in own}
        assert mine == own


def folded(raw: bytes) -> int:
    number = 0
    for at in range(0, 32, 8):
        number ^= int.from_bytes(raw[at : at + 8], "big", signed=True)
    return number


def test_times_are_exact(layout: LayoutRegistry, tmp_path: Path) -> None:
    push(Place(layout, "team/app"), "odd", days_ago=(timedelta(microseconds=86_400_000_001) / timedelta(days=1)))
    found = next(StoredInventory(stored(layout, tmp_path)).repositories("here")).survey
    assert found.nodes[found.tags["odd"]].created == NOW - timedelta(microseconds=86_400_000_001)


def test_another_look_keeps_what_is_needed_by_now(layout: LayoutRegistry, tmp_path: Path) -> None:
    """Between the inventory and the deletion: one image is used, one is signed, one has another tag, one is new."""
    place, ours = Place(layout, "team/app"), rule(("*",), 0, 0)
    found = from_file(layout, stored(layout, tmp_path), ours)
    assert len(list(found.deletions)) == 8
    images = {tag: layout.get_manifest("team/app", tag) for tag in layout.tags("team/app")}
    note(place, images["dev-1"], "signed by now")
    push(place, "dev-2", days_ago=500, layers=(b"moved",))
    push(place, "late", days_ago=400, layers=(SHARED[3],))
    live = Live.of({images["dev-0"].digest: "it runs"})
    again, changed = look_again(layout, found, [ours], now=NOW, in_use=live)
    app, other = again.repositories
    assert {",".join(entry.tags): entry.reasons for entry in app.entries} == {
        "dev-0": ("it runs",),
        "dev-1": ("it is not in the approved plan",),
        "dev-2": ("it is not in the approved plan",),
        "dev-3": (),
        "late": ("it is not in the approved plan",),
    }
    assert [entry.reasons for entry in other.entries] == [("it runs",), (), (), ()]
    assert changed == [
        f"team/app: {images['dev-1'].digest.short} stays: more belongs to it than when the plan was made",
        "team/app: dev-0 stays after another look: it runs",
        "team/b: dev-0 stays after another look: it runs",
    ]
    done = apply_plan(layout, again, in_use=live, now=NOW)
    assert done.ok and len(done.deleted) == 4
    assert sorted(layout.tags("team/app")) == ["dev-0", "dev-1", "dev-2", "late"]


def test_another_look_that_is_refused_refuses_the_repository(layout: LayoutRegistry, tmp_path: Path) -> None:
    ours = rule(("*",), 0, 0)
    found = from_file(layout, stored(layout, tmp_path), ours)
    shutil.rmtree(tmp_path / "registry" / "team" / "app")
    again, _ = look_again(layout, found, [ours], now=NOW, in_use=Live())
    assert [(each.repository, bool(each.refused), len(each.entries)) for each in again.repositories][1:] == [
        ("team/b", False, 4)
    ]
