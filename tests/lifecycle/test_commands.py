"""``lifecycle`` on the command line."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.inventory.value import Inventory, Source, Unread
from tests.lifecycle import images
from tests.lifecycle.images import NOW, Image, digest_of, inventory_of, rule
from tests.lifecycle.test_gar import delete, newest

IMAGES = [
    Image("a", ("dev-1",), 40),
    Image("b", ("dev-2",), 3),
    Image("c", (), 9),
    Image("d", ("prod-1",), 90),
    Image("e", (), 30, repository="other"),
    Image("f", (), 3.25),
]
RULES = [rule(1, "tagged", ["dev*"], pushed=14), rule(2, "untagged", pushed=3)]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands ask the machine's clock, so ages are counted from it."""
    monkeypatch.setattr(images, "NOW", datetime.now(UTC))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path / "policy.json", {"rules": RULES})


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "images.parquet"
    inventory_of(IMAGES).write(path)
    return path


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["lifecycle", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def answer(*arguments: object, code: int = 0) -> dict[str, Any]:
    document = json.loads(run(*arguments, "--json", code=code).stdout)
    assert document["ok"] == (code == 0)
    found: dict[str, Any] = document["result"]["results"][0] if code in (0, 3) else document["error"]
    return found


def test_check_tells_whose_policy_it_is_and_its_rules(policy: Path, tmp_path: Path) -> None:
    found = answer("check", policy)
    assert (found["facts"]["kind"], found["rows"][0]["images"]) == ("ecr", "tagged dev*; 14 days since the push")
    found = answer("check", written(tmp_path / "gar.json", [delete(olderThan="3d"), newest(5)]))
    assert [row["action"] for row in found["rows"]] == ["deletes", "keeps"]


def test_check_says_every_error_and_ends_with_8(tmp_path: Path) -> None:
    bad = written(tmp_path / "bad.json", {"rules": [rule(0, "any", pulled=3), rule(2, "untagged", count=0, pushed=1)]})
    found = answer("check", bad, code=8)
    assert found["error"] == "LifecycleInvalid" and len(found["problems"]) == 2
    assert "In place of the rule by the last pull" in run("check", bad, code=8).stderr
    assert "cannot be read" in run("check", tmp_path / "none", code=8).stderr


def test_explain_says_for_each_image_what_and_why(policy: Path, inventory: Path) -> None:
    found = answer("explain", policy, "--inventory", inventory, "--all")
    by_name = {row["digest"]: row for row in found["rows"]}
    assert [by_name[digest_of(each.name)]["outcome"] for each in IMAGES] == [
        "goes",
        "stays",
        "goes",
        "stays",
        "goes",
        "undecided, stays",
    ]
    assert by_name[digest_of("b")]["why"].endswith("no later rule may act on it")
    assert "whole days is not documented" in by_name[digest_of("f")]["why"]
    facts = found["facts"]
    assert (facts["images"], facts["delete"], facts["undecided"], facts["saved_percent"]) == (6, 3, 1, 50.0)
    assert [(row["rule"], row["images"], row["delete"]) for row in found["tables"]["rules"]] == [
        ("rule 1", 2, 1),
        ("rule 2", 3, 2),
        ("none", 1, 0),
    ]
    shown = run("explain", policy, "--inventory", inventory).stdout
    assert "by rule" in shown and "3 of 6 images go, 1 stay undecided" in shown


def test_explain_chooses_repositories_and_writes_every_image(policy: Path, inventory: Path, tmp_path: Path) -> None:
    table = tmp_path / "all.csv"
    found = answer("explain", policy, "--inventory", inventory, "--repository", "oth*", "--output", table)
    assert found["facts"]["images"] == 1
    [row] = csv.DictReader(table.read_text().splitlines())
    assert (row["repository"], row["outcome"], row["rule"]) == ("other", "goes", "rule 2")
    assert "no form of a table" in run("explain", policy, "--inventory", inventory, "--output", "x.txt", code=8).stderr


def test_what_is_said_of_an_inventory_that_is_not_whole_is_no_answer(policy: Path, tmp_path: Path) -> None:
    """Of a list that broke off, a rule that counts keeps more than it will."""
    path, whole = tmp_path / "part.parquet", inventory_of(IMAGES)
    broken = Unread("app", "Unavailable: HTTP 503")
    Inventory(whole.frame, (Source(registry="ecr", kind="ecr", answered=NOW, complete=False, unread=(broken,)),)).write(
        path
    )
    said = run("explain", policy, "--inventory", path, code=7).output
    assert "ecr: app could not be read, and what is said of it is not whole: Unavailable: HTTP 503" in said


def test_explain_reads_no_other_file(policy: Path, tmp_path: Path) -> None:
    assert "one REGISTRY, or from --inventory FILE" in run("explain", policy, code=8).stderr
    assert "not a Parquet file" in run("explain", policy, "--inventory", policy, code=8).stderr


def test_convert_writes_the_other_policy(policy: Path, tmp_path: Path) -> None:
    other, back = tmp_path / "gar.json", tmp_path / "ecr.json"
    assert answer("convert", policy, "--output", other)["notes"] == []
    assert answer("check", other)["facts"]["kind"] == "gar"
    answer("convert", other, "--output", back)
    assert answer("check", back)["facts"]["kind"] == "ecr"
    assert '"olderThan"' in run("convert", policy).stdout
    nothing = written(tmp_path / "archive.json", {"rules": [rule(1, "any", pulled=30, transition=True)]})
    assert answer("convert", nothing, code=3)["reasons"]
