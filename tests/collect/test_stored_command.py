"""``inventory --output``, ``collect plan --from`` and ``collect apply``: a plan of an older inventory, applied now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.inventory.parts import beside
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.collect.test_retention import note, push

CONFIG = """
registries:
  here: {kind: layout, root: content}
signing: {generate: true}
retention:
  - {registry: here, name: builds, repositories: ["team/*"], keep_newest: 1, keep_days: 1}
  - {registry: here, repositories: [app], keep_newest: 1}
"""


def run(folder: Path, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    done = CliRunner().invoke(main, [*arguments, "--json", "--config", str(folder / "registry-pipelines.yaml")])
    assert done.exit_code == code, done.output
    found = answered(done.stdout)
    return found if isinstance(found, list) else [found]


def test_a_plan_of_an_inventory_is_applied_after_another_look(tmp_path: Path) -> None:
    (tmp_path / "registry-pipelines.yaml").write_text(CONFIG)
    place = Place(LayoutRegistry(tmp_path / "content"), "team/app")
    images = {number: push(place, f"v{number}", days_ago=100 + number) for number in range(4)}
    file, plan = tmp_path / "images.parquet", tmp_path / "plan.json"
    run(tmp_path, "inventory", "here", "--output", str(file))
    assert beside(file).exists()
    [made] = run(tmp_path, "collect", "plan", "here", "--from", str(file), "--save", str(plan))
    [direct] = run(tmp_path, "collect", "plan", "here")
    assert made["facts"]["delete"] == direct["facts"]["delete"] == 3
    assert made["facts"]["freed_bytes"] == direct["facts"]["freed_bytes"] > 0
    assert made["tables"] == direct["tables"] and made["rows"] == direct["rows"]
    assert (made["facts"]["source"], direct["facts"]["source"]) == ("inventory", "survey")
    assert any(
        "rule 2 is about nothing: no repository matches app; nearest is team/app" in one for one in made["reasons"]
    )
    note(place, images[2], "signed by now")
    [applied] = run(tmp_path, "collect", "apply", "here", str(plan))
    assert applied["facts"]["deleted"] == 2
    assert any("more belongs to it than when the plan was made" in one for one in applied["reasons"])
    assert set(place.registry.tags("team/app")) == {"v0", "v2"}
    assert sorted(path.name for path in (tmp_path / ".registry-pipelines/collect").glob(".plan.*")) == []


def test_tables_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "registry-pipelines.yaml").write_text(CONFIG)
    registry = LayoutRegistry(tmp_path / "content")
    for name in ("team/app", "team/b", "other/c"):
        for number in range(2):
            push(Place(registry, name), f"v{number}", days_ago=100 + number, layers=(name.encode() * 100,))
    [made] = run(tmp_path, "collect", "plan", "here")
    tables = made["tables"]
    assert [row["team"] for row in tables["teams"]] == ["team", "other"]
    assert [(row["rule"], row["going"]) for row in tables["rules"]] == [("builds", 2)]
    for rows in tables.values():
        assert sum(row["freed_bytes"] for row in rows) == made["facts"]["freed_bytes"]
    assert all(row["bytes_before"] - row["bytes_after"] == row["freed_bytes"] for row in tables["repositories"])
    assert sum(row["bytes_before"] for row in tables["repositories"]) == sum(
        row["bytes_before"] for row in tables["teams"]
    )


def test_what_cannot_be_a_plan_of_an_inventory(tmp_path: Path) -> None:
    (tmp_path / "registry-pipelines.yaml").write_text(CONFIG)
    config = ["--config", str(tmp_path / "registry-pipelines.yaml")]
    for arguments, said in (
        (["collect", "plan", "--from", "x"], "need a REGISTRY"),
        (["collect", "plan", "here", "--from", str(tmp_path / "nothing.parquet")], "not a Parquet file"),
    ):
        done = CliRunner().invoke(main, [*arguments, *config])
        assert done.exit_code == 8 and said in done.output
