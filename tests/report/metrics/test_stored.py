"""What an inventory says in numbers: blobs once in each repository, and what is not known said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from registry_pipelines.errors import InputError
from registry_pipelines.inventory.parts import beside
from registry_pipelines.inventory.value import Inventory, join
from registry_pipelines.measures import OTHERS
from registry_pipelines.report.metrics.stored import numbers, read_parts
from tests.report.shelf import AT, image, shelf


def told(inventory: Inventory, folder: Path, most: int = 100) -> tuple[dict[tuple[str, str], float], tuple[str, ...]]:
    path = folder / "images.parquet"
    inventory.write(path)
    found = numbers(inventory, read_parts(path, len(inventory.frame)), now=AT, most_repositories=most)
    return {(each.name, " ".join(each.labels.values())): each.value for each in found.samples}, found.notes


def test_a_base_is_stored_once_in_each_repository(tmp_path: Path) -> None:
    """Hundred images of 10 KB on a base of 3 GB are 3 GB, and in two repositories twice that."""
    rows = [image(f"r/{at % 2}", f"v{at}", {"base": 3_000_000_000, f"own{at}": 10_000}) for at in range(100)]
    found, notes = told(shelf(rows), tmp_path)
    assert found["repository_bytes", "r r/0"] == 3_000_000_000 + 50 * 10_000
    assert found["registry_bytes", "r"] == 2 * 3_000_000_000 + 100 * 10_000
    assert found["repository_images", "r r/1"] == 50 and found["registry_repositories", "r"] == 2
    assert not notes


def test_an_image_of_unknown_parts_counts_with_what_its_registry_says(tmp_path: Path) -> None:
    rows = [
        image("r", "v1", {"base": 1000, "a": 10}),
        image("r", "v2", {"base": 1000, "b": 20}),
        image("r", "v3", {"base": 1000})._replace(parts=None, size_bytes=7000),
        image("r", "", {"x": 1})._replace(parts=None, size_bytes=None),
    ]
    found, notes = told(shelf(rows), tmp_path)
    assert found["registry_bytes", "r"] == 1000 + 10 + 20 + 7000
    assert found["registry_untagged_images", "r"] == 1
    assert notes == ("r: 1 image count with the size that the registry says",)


def test_sizes_that_manifests_claim_of_one_blob_differ(tmp_path: Path) -> None:
    rows = [image("r", "v1", {"base": 1000}), image("r", "v2", {"base": 5}), image("r", "v3", {"base": -7})]
    found, _ = told(shelf(rows), tmp_path)
    assert found["repository_bytes", "r r"] == 1000


def test_pulls_of_the_last_day_are_counted_where_there_are_times(tmp_path: Path) -> None:
    ages = (timedelta(hours=1), timedelta(hours=23), timedelta(hours=25), timedelta(hours=-2))
    rows = [image("r", f"v{at}", {"a": 1})._replace(pulled=AT - age) for at, age in enumerate(ages)]
    found, _ = told(shelf([*rows, image("r", "never", {"a": 1})]), tmp_path)
    assert found["repository_pulled_images", "r r"] == 2, "what is to come was not pulled"
    found, _ = told(shelf([image("r", "v1", {"a": 1})]), tmp_path)
    assert ("repository_pulled_images", "r r") not in found


def test_the_smallest_repositories_are_told_together(tmp_path: Path) -> None:
    rows = [image(f"r{at}", "v1", {f"own{at}": 100 * at}) for at in range(1, 6)]
    found, notes = told(shelf(rows), tmp_path, most=2)
    assert {labels: value for (name, labels), value in found.items() if name == "repository_bytes"} == {
        "r r5": 500, "r r4": 400, f"r {OTHERS}": 600,
    }  # fmt: skip
    assert notes == (f"r: 3 repositories are told together as {OTHERS}",)


def test_a_registry_that_could_not_be_read_whole_is_named_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    whole = shelf([image("r", "v1", {"a": 5}, registry="whole")])
    torn = shelf([image("r", "v1", {"a": 5}, registry="torn")], whole=False)
    nothing = shelf([], whole=False)
    found = numbers(join([whole, torn, nothing]), None, now=AT, most_repositories=9)
    told_of = {each.labels["registry"] for each in found.samples if each.name == "registry_bytes"}
    assert told_of == {"whole", "torn"} and set(found.failed) == {"torn", "r"}
    early = numbers(whole, None, now=AT - timedelta(hours=1), most_repositories=9)
    assert "which is to come" in early.failed["whole"]
    assert not [each for each in early.samples if each.name == "inventory_age_seconds"]


def test_parts_of_another_inventory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    shelf([image("r", "v1", {"a": 5}), image("r", "v2", {"a": 5})]).write(path)
    with pytest.raises(InputError, match="of another inventory"):
        read_parts(path, 1)
    beside(path).write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot be read"):
        read_parts(path, 2)
    beside(path).unlink()
    assert read_parts(path, 2) is None
