"""docs/architecture.md shows the imports as they are, and CONTRIBUTING.md names files that are there."""

import re

import pytest

from tests.rooms import PAGE

ROOT = PAGE.parents[1]
FOLDERS = ("registry_pipelines", "dagster_project", "tests", "docs", "benchmarks", "findings", "deploy")


def test_no_arrow_of_the_picture_of_imports_runs_up() -> None:
    assert "\nUp: " not in PAGE.read_text()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_files_that_are_named_are_there(document: str) -> None:
    named = set(re.findall(r"`([a-z_/]+(?:\.py|(?<=/)[a-z_]+))`", (ROOT / document).read_text()))
    assert len(named) > 20
    there = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder, *(ROOT / folder).rglob("*"))]
    missing = [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)]
    assert missing == []
