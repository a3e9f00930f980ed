"""A plan of ECR by its own lists: one call for a thousand images and one for a hundred manifests, and none for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.inventory.parts import beside
from tests.doubles.aws.front import AwsDouble
from tests.inventory.clouds import DAY_S, ecr_place, index, manifest, put, written
from tests.inventory.test_clouds import run

RULES = """signing: {generate: true}
retention:
  - {registry: ecr, repositories: [team/app], keep_newest: 1, keep_days: 30, untagged_days: 7, orphans_days: 0}
"""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


def test_a_plan_of_ecr_by_its_lists(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    old = now - 100 * DAY_S
    for number in range(150):
        put(place, "team/app", manifest(number), f"dev-{number}", at=old - number)
    pair = [put(place, "team/app", manifest(1000 + each), at=old) for each in range(2)]
    kept = put(place, "team/app", index(pair), "v1", at=now - DAY_S)
    bare = put(place, "team/app", manifest(2000), at=old)
    put(place, "team/app", manifest(2001), at=now - DAY_S)
    signature = put(place, "team/app", manifest(2002, subject=kept.digest), at=old)
    orphan = put(place, "team/app", manifest(2003, subject=f"sha256:{'9' * 64}"), at=old)
    config, file = written(tmp_path, aws, more=RULES), tmp_path / "images.parquet"
    taken = run(config, "inventory", "ecr", "--manifests", "all", "--output", file)
    assert beside(file).exists()
    assert taken["facts"]["images"] == 157 and taken["facts"]["calls"] <= 4
    made = run(config, "collect", "plan", "ecr", "--from", file)
    rows = {row["digest"]: row for row in made["rows"]}
    assert made["facts"]["delete"] == 152
    assert rows[kept.digest]["why"].startswith("number 1 of the newest 1")
    assert rows[bare.digest]["why"] == "without a tag, 100 days old"
    assert rows[orphan.digest]["why"] == "evidence of something that is gone, 100 days old"
    assert signature.digest not in rows and not {each.digest for each in pair} & rows.keys()
    [whole] = made["tables"]["teams"]
    assert whole["bytes_before"] - whole["bytes_after"] == made["facts"]["freed_bytes"] > 150 * 2100


def test_without_the_manifests_it_says_what_to_do(aws: AwsDouble, tmp_path: Path) -> None:
    put(ecr_place(aws), "team/app", manifest(1), "v1", at=aws.clock())
    config, file = written(tmp_path, aws, more=RULES), tmp_path / "images.parquet"
    run(config, "inventory", "ecr", "--manifests", "none", "--output", file)
    assert not beside(file).exists()
    from click.testing import CliRunner

    from registry_pipelines.cli import main

    arguments = ["collect", "plan", "ecr", "--from", str(file), "--config", str(config)]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 8 and "--manifests all" in found.output
