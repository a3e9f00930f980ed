"""What inventories are held against: an older one, and a price book."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.inventory.compare import Change, compare
from registry_pipelines.inventory.reader import EVERYTHING
from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Inventory, Source, Unread
from tests.doubles.aws.front import AwsDouble
from tests.inventory.clouds import DAY_S, ecr_place, manifest, put, written
from tests.inventory.test_clouds import run

AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


def made(images: dict[tuple[str, str], tuple[str, ...]], *unread: str, registry: str = "ecr") -> Inventory:
    """Tags by repository and digest."""
    rows = Rows()
    for (repository, digest), tags in sorted(images.items()):
        rows.add(Row(registry, repository, digest, AT, tags=tags, size_bytes=10))
    told = tuple(Unread(each, "no answer") for each in unread)
    return rows.inventory([Source(registry=registry, kind="ecr", answered=AT, complete=not told, unread=told)])


def test_what_came_what_went_and_which_tags_moved() -> None:
    before = made({("app", "sha256:1"): ("v1", "prod"), ("app", "sha256:2"): (), ("tool", "sha256:1"): ("v1",)})
    after = made({("app", "sha256:1"): ("v1",), ("app", "sha256:3"): ("v2", "prod"), ("tool", "sha256:1"): ("v1",)})
    changes, left = compare(before, after)
    assert changes == [
        Change("new", "ecr", "app", "sha256:3", "v2", size_bytes=10),
        Change("gone", "ecr", "app", "sha256:2", size_bytes=10),
        Change("tag moved", "ecr", "app", "sha256:3", "prod", "sha256:1", 10),
    ]
    assert not left and compare(after, after) == ([], [])


@pytest.mark.parametrize("silent", ["app", "app@sha256:9", EVERYTHING])
def test_what_was_not_read_is_neither_gone_nor_new(silent: str) -> None:
    whole, less = made({("app", "sha256:1"): ("v1",)}), made({}, silent)
    for pair in ((whole, less), (less, whole)):
        changes, left = compare(*pair)
        assert not changes and len(left) == 1
    assert compare(whole, made({}, registry="other")) == ([], ["ecr", "other"])


def test_a_repository_of_artifact_registry_that_was_not_read_has_all_its_images_left_out() -> None:
    before = made({("ml/models/app", "sha256:1"): (), ("ml/models-2/app", "sha256:1"): ()})
    changes, left = compare(before, made({}, "ml/models"))
    assert [each.repository for each in changes] == ["ml/models-2/app"] and left == ["ecr/ml/models"]


IMAGES = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "a/b"]), st.sampled_from(["sha256:1", "sha256:2", "sha256:3"])),
    st.just(()),
    max_size=6,
)


@given(before=IMAGES, after=IMAGES)
def test_applying_the_changes_to_the_older_gives_the_newer(
    before: dict[tuple[str, str], tuple[str, ...]], after: dict[tuple[str, str], tuple[str, ...]]
) -> None:
    there = set(before)
    for change in compare(made(before), made(after))[0]:
        (there.add if change.what == "new" else there.remove)((change.repository, change.digest))
    assert there == set(after)


def test_the_command_compares_with_a_file_and_says_what_storage_costs(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    first = put(place, "team/app", manifest(1, layers=3), "v1", at=now - DAY_S)
    config, old = written(tmp_path, aws), tmp_path / "old.parquet"
    run(config, "inventory", "--output", old)
    second = put(place, "team/app", manifest(2), "v1", at=now)
    place.note_deleted("team/app", first.digest)
    book = tmp_path / "prices.json"
    book.write_text(
        '{"currency": "EUR", "date": "2026-11-01", "source": "our contract", "prices": '
        '[{"id": "aws/ecr/storage", "usd": 5000, "per": "GB-month", "what": "stored"}]}'
    )
    found = run(config, "inventory", "--since", old, "--prices", book)
    assert (found["facts"]["new"], found["facts"]["gone"], found["facts"]["bytes_gone"]) == (1, 1, 3100)
    assert {(each["what"], each["digest"]) for each in found["tables"]["changes"]} == {
        ("new", second.digest), ("gone", first.digest), ("tag moved", second.digest),
    }  # fmt: skip
    # 2,100 bytes at 5,000 for a GB in a month.
    (cost,) = found["tables"]["costs"]
    assert (cost["repository"], cost["fair_bytes"], cost["usd_per_month"]) == ("ecr/team/app", 2100, 0.0105)
    assert any("our contract" in note for note in found["notes"])
    told = CliRunner().invoke(main, ["inventory", "--since", str(old), "--cost", "--config", str(config), "--quiet"])
    assert told.exit_code == 0 and "changes" in told.stdout and "costs" in told.stdout
    refused = CliRunner().invoke(main, ["inventory", "--since", str(book), "--config", str(config)])
    assert refused.exit_code == 8, refused.output


def test_each_night_is_compared_with_the_one_before_and_a_silent_repository_has_lost_nothing(
    aws: AwsDouble, tmp_path: Path
) -> None:
    place, now = ecr_place(aws), aws.clock()
    put(place, "team/app", manifest(1), "v1", at=now)
    chain = Chain(load(written(tmp_path, aws)))
    first = chain.keep_inventory("ecr")
    assert "new" not in first.facts and first.facts["usd_per_month"] == 0.0
    put(place, "team/app", manifest(2), "v2", at=now)
    assert chain.keep_inventory("ecr").facts["new"] == 1
    aws.deny("ecr:DescribeImages")
    silent = chain.keep_inventory("ecr")
    assert not silent.ok and silent.facts["gone"] == 0
    assert any("not compared" in note for note in silent.notes)
