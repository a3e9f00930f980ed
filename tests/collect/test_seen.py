"""What came lately stays: by the registry's word, or by our own looks; clocks that are ahead keep more, never less."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.chain.pushes import pushes
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.make import plan_retention
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.collect.seen import SeenTags
from registry_pipelines.config import load
from registry_pipelines.errors import LocalError, StateTooNew
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.aws.front import AwsDouble
from tests.doubles.walked_tags import walked
from tests.inventory.clouds import DAY_S, ecr_place, manifest, put, written
from tests.inventory.usage.test_saved import put as put_old

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A, B = (Digest(f"sha256:{letter * 64}") for letter in "ab")


def look(path: Path, tags: dict[str, Digest], now: datetime = NOW, **more: object) -> dict[Digest, str]:
    return dict(SeenTags(path, "reg", within=HOUR, now=now, **more).recent("app", tags))  # type: ignore[arg-type]


def test_what_is_there_at_the_first_look_was_there_before_and_what_comes_later_came_lately(tmp_path: Path) -> None:
    path = tmp_path / "collect" / "seen.sqlite"
    assert look(path, {"v1": A}) == {}
    later = NOW + timedelta(days=1)
    assert look(path, {"v1": A, "v2": B}, later) == {B: "tag v2 came 0 s ago, by our own looks"}
    assert look(path, {"v1": A, "v2": B}, later + HOUR / 2) == {B: "tag v2 came 30 min ago, by our own looks"}
    assert look(path, {"v1": A, "v2": B}, later + HOUR) == {}


def test_a_tag_that_moved_or_was_away_came_anew_and_a_new_repository_is_no_first_look(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    look(path, {"v1": A})
    later = NOW + timedelta(days=1)
    assert set(look(path, {"v1": B}, later)) == {B}
    assert look(path, {}, later) == {}
    assert set(look(path, {"v1": B}, later + 2 * HOUR)) == {B}
    other = SeenTags(path, "reg", within=HOUR, now=later)
    assert set(other.recent("new", {"v1": A})) == {A}
    assert SeenTags(path, "another", within=HOUR, now=later).recent("new", {"v1": A}) == {}


def test_a_clock_that_was_ahead_keeps(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    look(path, {})
    look(path, {"v1": A}, NOW + timedelta(days=400))
    assert "in the future" in look(path, {"v1": A}, NOW)[A]
    told = {A: NOW + timedelta(days=2), B: NOW - 2 * HOUR}
    found = look(path, {"v1": A, "v2": B}, NOW + timedelta(hours=1), told=lambda _: told)
    assert found[A] == "pushed at a time that is 47 h in the future" or "in the future" in found[A]


@settings(max_examples=20)
@given(
    looks=st.lists(
        st.tuples(
            st.integers(1, 90),
            st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), st.sampled_from([A, B]), max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_recent_is_what_a_plain_history_says(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[int, dict[str, Digest]]]
) -> None:
    path, moment = tmp_path_factory.mktemp("seen") / "s.sqlite", NOW
    before: dict[str, Digest] = looks[0][1]
    came = dict.fromkeys(before, NOW - 24 * HOUR)
    for minutes, tags in looks:
        moment += timedelta(minutes=minutes)
        came = {tag: came[tag] if before.get(tag) == digest else moment for tag, digest in tags.items()}
        before = tags
        assert set(look(path, tags, moment)) == {tags[tag] for tag, first in came.items() if moment - first < HOUR}


def test_a_file_of_a_newer_build_or_of_nobody_is_refused(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    path = tmp_path / "seen.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(StateTooNew):
        look(path, {"v1": A})
    path.write_bytes(b"no database at all, but of some length" * 40)
    with pytest.raises(LocalError, match="cannot be kept"):
        look(path, {"v1": A})


def test_an_old_image_that_was_pushed_after_the_last_plan_stays_for_one(tmp_path: Path) -> None:
    registry = LayoutRegistry(tmp_path / "content")
    place = Place(registry, "app")
    rules = [RetentionRule(registry="r", keep_newest=0, keep_days=0)]

    def going(now: datetime) -> dict[str, str]:
        live = Live(pushes=SeenTags(tmp_path / "seen.sqlite", registry.name, within=HOUR, now=now))
        [planned] = plan_retention(registry, rules, now=now, in_use=live).repositories
        return {entry.tags[0]: "; ".join(entry.reasons) for entry in planned.entries}

    put_old(place, "v1")
    assert going(NOW) == {"v1": ""}
    put_old(place, "v2")
    assert going(NOW + 2 * HOUR) == {"v1": "", "v2": "tag v2 came 0 s ago, by our own looks"}
    assert going(NOW + 4 * HOUR) == {"v1": "", "v2": ""}


def test_ecr_says_itself_when_something_was_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        place, now = ecr_place(aws), aws.clock()
        first = put(place, "team/app", manifest(1), "v1", at=now - DAY_S)
        second = put(place, "team/app", manifest(2), "v2", at=now - 60)
        looks, notes = pushes(Chain(load(written(tmp_path, aws)))._session, "ecr")
        found = looks.recent("team/app", {"v1": first.digest, "v2": second.digest})
        assert set(found) == {second.digest} and found[second.digest].startswith("pushed ") and not notes
        assert looks.recent("team/none", {"v1": first.digest}) == {}


def test_a_tag_that_the_list_leaves_out_does_not_come_anew_with_each_plan(tmp_path: Path) -> None:
    """distribution 3.1.1 on S3 lists 0.1.2 and not 0.1.20, and each plan looks for it."""
    rules = [RetentionRule(registry="r", keep_newest=0, keep_days=0)]
    with EmbeddedServer(tmp_path / "registry", wrap=walked) as server:
        registry = DistributionRegistry(server.address, plain_http=True)
        place = Place(registry, "app")
        for tag in ("0.1.2", "0.1.20"):
            put_old(place, tag)
        assert list(registry.tags("app")) == ["0.1.2"]
        for days in range(3):
            now = NOW + timedelta(days=days)
            live = Live(pushes=SeenTags(tmp_path / "seen.sqlite", registry.name, within=HOUR, now=now))
            plan = plan_retention(registry, rules, now=now, in_use=live)
            assert sorted(tag for _, entry in plan.deletions for tag in entry.tags) == ["0.1.2", "0.1.20"], days
