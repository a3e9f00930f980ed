"""What is read of clouds for `report cost`: nothing that counts as a pull where nobody says that it may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.inventory.value import join, read_whole
from registry_pipelines.registry.protocol import Place
from tests.collect.test_retention import note, push
from tests.doubles.aws.front import ACCOUNT, AwsDouble
from tests.inventory.clouds import LOCATION, PROJECT, ecr_place, manifest, put, written
from tests.inventory.test_clouds import run
from tests.needs import needed_module
from tests.report.shelf import image, shelf


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


def test_manifests_of_ecr_are_read_where_that_counts_as_no_pull_or_somebody_says_so(
    aws: AwsDouble, tmp_path: Path
) -> None:
    place, now = ecr_place(aws), aws.clock()
    for number, tag in ((1, "v1"), (1, "same"), (2, "v2")):
        put(place, "team/app", manifest(number, layers=3), tag, at=now)

    def asked() -> int:
        return sum(call.action == "BatchGetImage" for call in aws.calls)

    quiet = Chain(load(written(tmp_path, aws))).cost()
    assert asked() == 0 and any("at most this" in each for each in quiet.notes)
    read = Chain(load(written(tmp_path, aws))).cost(manifests="all")
    assert asked() == 1 and not any("at most" in each for each in read.notes)
    # Two images, each of 3 layers of 1,000 bytes, its config and its manifest.
    assert read.facts["bytes"] == 2 * (3 * 1000 + 100) + len(manifest(1, layers=3)) + len(manifest(2, layers=3))
    role = f"arn:aws:iam::{ACCOUNT}:role/reports"
    more = f"infra: {{ecr: {{kind: ecr, pull_time_exclusions: ['{role}']}}}}\n"
    assert Chain(load(written(tmp_path, aws, more=more))).cost().facts["bytes"] == read.facts["bytes"] and asked() == 2


def test_manifests_of_artifact_registry_tell_what_its_images_share(tmp_path: Path) -> None:
    needed_module("google.cloud.artifactregistry_v1", "google")
    from tests.doubles.google import GoogleCloud
    from tests.doubles.google.accounts import service_account_file

    with GoogleCloud(tmp_path / "google") as google:
        google.repository(PROJECT, LOCATION, "models")
        plane = google.registry(LOCATION)
        config = tmp_path / "registry-pipelines.yaml"
        key = service_account_file(google.world, tmp_path / "key.json", google.endpoint)
        about = (
            f"project: {PROJECT}, location: {LOCATION}, endpoint: '{google.endpoint}', "
            f"reachable_as: '{plane.address}', credentials: {key}"
        )
        config.write_text(f"registries:\n  gar: {{kind: gar, {about}}}\n")
        registry = Chain(load(config)).registry("gar")
        base = bytes(range(256)) * 100
        for name in ("one", "two"):
            where = Place(registry, f"{PROJECT}/models/{name}")
            note(where, push(where, "v1", days_ago=1, layers=(base,)), "about it")
        quiet = Chain(load(config)).cost(by="image")
        assert any("at most this" in each for each in quiet.notes)
        read = Chain(load(config)).cost(by="image", manifests="all")
        # Two images of the same content are stored once in their repository; what refers to one is part of it.
        assert read.facts["images"] == 2 and not any("at most" in each for each in read.notes)
        assert read.facts["bytes"] == read.rows[0]["needed_bytes"] > len(base)
        result = run(config, "inventory", "--manifests", "all", "--output", tmp_path / "images.parquet")
        assert result["facts"]["images"] == 6
        assert Chain(load(config)).cost(stored=tmp_path / "images.parquet").facts["bytes"] == read.facts["bytes"]


def test_inventories_of_several_registries_are_one_file_with_what_they_need(tmp_path: Path) -> None:
    both = join(
        [shelf([image("app", "v1", {"a": 5}, registry="r")]), shelf([image("app", "v1", {"a": 5}, registry="s")])]
    )
    both.write(tmp_path / "both.parquet")
    read = read_whole(tmp_path / "both.parquet")
    assert read.parts is not None and read.parts.num_rows == 2
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text("registries:\n  r: {kind: layout, root: r}\n  s: {kind: layout, root: s}\n")
    found = run(config, "report", "cost", "--from", tmp_path / "both.parquet", "--by", "registry")
    assert [row["fair_bytes"] for row in found["rows"]] == [5, 5]
