"""A plan of a million images from a stored inventory stays below a gigabyte of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import collect, measure
from registry_pipelines.collect.plan_file import open_plan


@pytest.mark.long
def test_a_million_images_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    collect.write(tmp_path / "images.parquet", 1_000_000, 1_000)
    sample = measure.run(collect.command(tmp_path))
    found = open_plan(tmp_path / "plan.json")
    [whole] = [each for each in found.totals if each.of == "registry"]
    assert (whole.images, len({each.name for each in found.totals if each.of == "team"})) == (750_000, 50)
    assert sum(each.freed for each in found.totals if each.of == "rule") == whole.freed > 0
    assert sample.peak_mb < 1000
