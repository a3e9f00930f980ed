"""Answers that are kept: their age, what they could veto, and what they say that is not so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.chain.live import live_digests
from registry_pipelines.config import load
from registry_pipelines.errors import InputError
from registry_pipelines.inventory.usage.files import read_bytes
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.inventory.usage.test_usage import invoke, run
from tests.ports import free_ports

GONE = f"sha256:{'e' * 64}"


def put(place: Place, tag: str, *, config: dict[str, Any] | None = None) -> ManifestBytes:
    """An image of long ago."""
    content = json.dumps({"created": "2026-01-01T00:00:00Z", "n": tag, **(config or {})}).encode()
    image = push_blob(place, content, media_type=media_types.OCI_CONFIG)
    made = manifest_bytes(Manifest(schema_version=2, config=image, layers=()))
    place.registry.put_manifest(place.repository, made, tag=tag)
    return made


class World:
    """A registry with images in two teams' repositories, whose rule keeps none of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self.host = f"127.0.0.1:{self.port}"
        content = LayoutRegistry(folder / "content")
        self.place, self.other = Place(content, "team/app"), Place(content, "web/site")
        self.images = [put(self.place, f"v{number}") for number in range(3)]
        self.site = put(self.other, "v0")
        self.answer = folder / "uses.json"
        self.config = folder / "registry-pipelines.yaml"
        self.configure(f"{{kind: file, path: {self.answer.name}}}")

    def configure(self, *sources: str, more: str = "") -> None:
        usage = "".join(f"  {name}: {source}\n" for name, source in zip("abc", sources, strict=False))
        self.config.write_text(
            f"registries:\n  here: {{kind: embedded, port: {self.port}, root: content}}\n"
            f"retention: [{{registry: here, keep_newest: 0, keep_days: 0}}]\n{more}usage:\n{usage}"
        )

    def say(self, *uses: dict[str, Any], ago: timedelta = timedelta(0), **more: Any) -> None:
        at = datetime.now(UTC) - ago
        self.answer.write_text(json.dumps({"schema": 1, "at": at.isoformat(), "uses": uses, **more}))

    def actions(self, code: int = 0) -> dict[str, str]:
        """Repository and tag to what the plan does."""
        rows = run(self.config, "collect", "plan", "here", code=code)["rows"]
        return {f"{row['repository']}:{row['tags']}": row["action"] for row in rows}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_people_see_what_each_source_could_stop(world: World) -> None:
    world.configure(f"{{kind: file, path: {world.answer.name}, repositories: ['team/*']}}")
    world.say({"image": f"{world.host}/team/app:v1"}, ago=timedelta(hours=5))
    shown = invoke(world.config, "usage").stdout
    assert "what each could stop" in shown and "team/*" in shown and "5 h ago" in shown


def test_what_a_file_names_stays(world: World) -> None:
    digest = world.images[0].digest
    world.say({"image": f"{world.host}/team/app@{digest}", "where": "node 7"}, {"image": f"{world.host}/team/app:v1"})
    rows = {
        row["tags"]: row
        for row in run(world.config, "collect", "plan", "here")["rows"]
        if row["repository"] == "team/app"
    }
    assert {tag: row["action"] for tag, row in rows.items()} == {"v0": "keep", "v1": "keep", "v2": "delete"}
    assert rows["v0"]["why"] == "in use: a: node 7"


def test_lines_with_a_time_are_an_answer(world: World) -> None:
    world.answer.write_text(
        f"# at {datetime.now(UTC).isoformat()}\n# of the build farm\n\n{world.host}/team/app:v2  runner 3, nightly\n"
    )
    found = run(world.config, "usage")
    assert (found["rows"][0]["where"], found["rows"][0]["how"]) == ("runner 3, nightly", "runs")
    assert world.actions()["team/app:v2"] == "keep"
    world.answer.write_text(f"{world.host}/team/app:v2\n")
    assert "does not say when it was written" in run(world.config, "usage", code=7)["reasons"][0]


def test_a_stale_answer_stops_what_it_could_speak_of_and_nothing_else(world: World) -> None:
    world.configure(f"{{kind: file, path: {world.answer.name}, max_age: 2h, repositories: ['team/*']}}")
    world.say({"image": f"{world.host}/web/site:v0"}, ago=timedelta(hours=3))
    found = run(world.config, "collect", "plan", "here", code=3)
    assert any("the answer is 3 h old, and may be 2 h" in reason for reason in found["reasons"])
    assert {(row["repository"], row["action"]) for row in found["rows"]} == {("team/app", "keep"), ("web/site", "keep")}
    world.say(ago=timedelta(hours=3))
    actions = world.actions(code=3)
    assert actions == {"team/app:v0": "keep", "team/app:v1": "keep", "team/app:v2": "keep", "web/site:v0": "delete"}
    invoke(world.config, "delete", "here/team/app:v0", "--yes", code=7)
    invoke(world.config, "delete", "here/web/site:v0", "--yes")
    world.say(ago=timedelta(hours=1))
    assert set(world.actions().values()) == {"delete"}


def test_a_source_of_another_registry_stops_nothing_here(world: World) -> None:
    elsewhere = "registries:\n  there: {kind: layout, root: there}\n"
    world.configure(f"{{kind: file, path: {world.answer.name}, registries: [there]}}")
    world.config.write_text(world.config.read_text().replace("registries:\n", elsewhere, 1))
    world.say(ago=timedelta(days=9))
    assert set(world.actions().values()) == {"delete"}


def test_a_time_in_the_future_is_said_and_one_far_ahead_not_believed(world: World) -> None:
    world.say(ago=-timedelta(hours=2))
    found = run(world.config, "usage")
    assert "its time is 1 h in the future" in found["notes"][0] or "2 h in the future" in found["notes"][0]
    assert set(world.actions().values()) == {"delete"}
    world.say(ago=-timedelta(days=400))
    assert "its age is not known" in run(world.config, "usage", code=7)["reasons"][0]
    assert set(world.actions(code=3).values()) == {"keep"}


def test_digests_that_are_not_there_are_said_and_hide_nothing(world: World) -> None:
    keep = world.images[1].digest
    world.say(
        {"image": f"{world.host}/team/app@{GONE}", "where": "liar"},
        {"image": f"{world.host}/team/app:v0@{GONE}", "where": "another arch"},
        {"image": f"other.example/team/app@{world.images[2].digest}"},
        {"image": f"{world.host}/team/app@{keep}"},
    )
    found = run(world.config, "collect", "plan", "here")
    [said] = [reason for reason in found["reasons"] if "digests that are not there" in reason]
    assert said.startswith("2 uses of") and "a names team/app@sha256:eeeeeeeeeeee (in use: a: liar)" in said
    assert [row["tags"] for row in found["rows"] if row["action"] == "keep"] == ["v0", "v1"]


def test_the_id_of_an_image_keeps_it_where_a_runtime_tells_no_digest(world: World) -> None:
    config = json.loads(world.images[1].raw)["config"]["digest"]
    world.say({"config": config, "where": "node 1"})
    assert [key for key, action in world.actions().items() if action == "keep"] == ["team/app:v1"]


def test_a_child_that_runs_keeps_its_index(world: World) -> None:
    child = world.images[0]
    descriptor = Descriptor(media_type=child.media_type, digest=child.digest, size=len(child.raw))
    index = manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=(descriptor,)))
    world.place.registry.put_manifest("team/app", index, tag="all")
    world.say({"image": f"{world.host}/team/app@{child.digest}"})
    actions = world.actions()
    assert (actions["team/app:all"], actions["team/app:v0"], actions["team/app:v1"]) == ("keep", "keep", "delete")


def test_what_runs_by_an_upstreams_name_is_live_where_a_mirror_brings_it(world: World) -> None:
    library = Place(world.place.registry, "library/python")
    image, by_tag = put(library, "3.12"), put(library, "3.13")
    put(library, "3.11")
    mirror = "mirrors:\n  public: {to: here, upstreams: [{image: docker.io/library/python}]}\n"
    world.configure(f"{{kind: file, path: {world.answer.name}}}", more=mirror)
    world.say({"image": f"python@{image.digest}"}, {"image": "docker.io/library/python:3.13"})
    actions = world.actions()
    assert by_tag.digest != image.digest
    assert [actions[f"library/python:3.{minor}"] for minor in (11, 12, 13)] == ["delete", "keep", "keep"]


def test_a_source_that_says_where_it_pulls_from_is_believed_by_any_name(world: World) -> None:
    world.configure(f"{{kind: file, path: {world.answer.name}, registries: [here]}}")
    world.say({"image": f"behind.example/team/app@{world.images[0].digest}"}, {"image": "behind.example/team/app:v1"})
    actions = world.actions()
    assert [actions[f"team/app:v{number}"] for number in range(3)] == ["keep", "keep", "delete"]


def test_an_answer_is_kept_and_read_where_the_cluster_cannot_be_asked(world: World) -> None:
    world.say({"image": f"{world.host}/team/app:v0", "where": "pod p", "running": False}, ago=timedelta(minutes=30))
    kept = world.folder / "kept.json"
    invoke(world.config, "usage", "--save", str(kept))
    world.configure(f"{{kind: file, path: {kept.name}, max_age: 25m}}")
    found = run(world.config, "usage", code=7)
    assert "the answer is 30 min old" in found["reasons"][0], "a kept answer does not become younger"
    assert found["rows"][0]["where"] == "a: pod p" or found["rows"][0]["where"] == "pod p"
    assert found["rows"][0]["how"] == "may start" and found["rows"][0]["answered"] == "30 min ago"


def test_what_did_not_answer_when_it_was_saved_stops_deletions_later(world: World) -> None:
    world.configure(f"{{kind: file, path: {world.answer.name}}}", "{kind: file, path: nowhere.json}")
    world.say({"image": f"{world.host}/team/app:v0"})
    kept = world.folder / "kept.json"
    invoke(world.config, "usage", "--save", str(kept), code=7)
    world.configure(f"{{kind: file, path: {kept.name}}}")
    found = run(world.config, "usage", code=7)
    assert "saved without what did not answer then: b: " in found["reasons"][0]
    assert "nowhere.json: cannot be read" in found["reasons"][0]
    assert set(world.actions(code=3).values()) == {"keep"}


def test_a_plan_does_not_delete_what_began_to_run_or_is_not_known_any_more(world: World) -> None:
    world.say()
    plan = world.folder / "plan.json"
    run(world.config, "collect", "plan", "here", "--save", str(plan))
    live = live_digests(Chain(load(world.config))._session, "here")
    assert not live.stops and not live.digests
    world.say(ago=timedelta(days=2))
    live = live_digests(Chain(load(world.config))._session, "here")
    assert "2 d old" in live.stopped("team/app")


@given(st.binary(max_size=120) | st.text(max_size=60).map(lambda text: b"# at 2026-11-29T10:00:00Z\n" + text.encode()))
def test_any_bytes_are_an_answer_or_refused(raw: bytes) -> None:
    try:
        saved = read_bytes(raw, where="x")
    except InputError:
        return
    assert saved.at.tzinfo is not None
    assert all(use.reference() is not None or use.config for use in saved.uses)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"schema": 2, "at": "2026-11-29T10:00:00Z"}, "schema 2"),
        ({"schema": 1, "at": "2026-11-29T10:00:00"}, "no zone"),
        ({"schema": 1}, "no saved answer"),
        ({"schema": 1, "at": "2026-11-29T10:00:00Z", "uses": [{"where": "w"}]}, "names no image"),
    ],
)
def test_a_document_that_says_too_little_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_bytes(json.dumps(document).encode(), where="x")
