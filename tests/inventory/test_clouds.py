"""Inventories of ECR and Artifact Registry by their own lists, with what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.inventory.value import Inventory, read
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_INDEX, OCI_MANIFEST
from tests.doubles.aws import ecr_lifecycle
from tests.doubles.aws.front import ACCOUNT, ApiError, AwsDouble
from tests.doubles.aws.sts import Role, Sts
from tests.doubles.google import GoogleCloud, Refusal
from tests.doubles.google.images import Image as Version
from tests.doubles.google.images import Package
from tests.inventory.clouds import DAY_S, LOCATION, PROJECT, ecr_place, index, manifest, put, written
from tests.lifecycle.images import rule


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleCloud]:
    with GoogleCloud(tmp_path / "google") as cloud:
        yield cloud


def run(config: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*map(str, arguments), "--config", str(config), "--json", "--quiet"])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)["result"]["results"][0]
    return found


def inventory(config: Path, folder: Path, *arguments: object, code: int = 0) -> tuple[dict[str, Any], Inventory]:
    path = folder / "images.parquet"
    result = run(config, "inventory", *arguments, "--output", path, code=code)
    return result, read(path)


def rows(found: Inventory) -> dict[str, dict[str, Any]]:
    return {row["digest"]: row for row in found.table().to_pylist()}


def fill(aws: AwsDouble) -> dict[str, str]:
    """Digests by name: an index of two platforms, its signature, an old untagged image; an archived one elsewhere."""
    place, now = ecr_place(aws), aws.clock()
    one = put(place, "team/app", manifest(1), at=now - 3 * DAY_S)
    two = put(place, "team/app", manifest(2, layers=3), at=now - 3 * DAY_S)
    top = put(place, "team/app", index([one, two]), "v1", "latest", at=now - 3 * DAY_S)
    signature = put(place, "team/app", manifest(3, subject=top.digest), at=now - 2 * DAY_S)
    old = put(place, "team/app", manifest(4), at=now - 40 * DAY_S)
    away = put(place, "team/tool", manifest(5), "v1", at=now - 400 * DAY_S)
    away.archived, away.archived_at, away.pulled_at = True, now - 5 * DAY_S, now - 300 * DAY_S
    named = {"one": one, "two": two, "top": top, "signature": signature, "old": old, "away": away}
    return {name: image.digest for name, image in named.items()}


def test_a_role_is_assumed_once_and_each_inventory_counts_its_own_calls(aws: AwsDouble, tmp_path: Path) -> None:
    fill(aws)
    role = f"arn:aws:iam::{ACCOUNT}:role/reader"
    aws.area(Sts).roles[role] = Role()
    path = written(tmp_path, aws)
    path.write_text(path.read_text().replace("kind: ecr,", f"kind: ecr, role: '{role}',"))
    chain = Chain(load(path))
    first, second = (chain.inventory()[0].sources[0] for _ in range(2))
    assert first.complete and 0 < first.calls == second.calls
    assert aws.count("AssumeRole") == 1


def test_ecr_is_read_by_its_lists_with_untagged_and_archived_images(aws: AwsDouble, tmp_path: Path) -> None:
    named = fill(aws)
    result, found = inventory(written(tmp_path, aws), tmp_path)
    there = rows(found)
    assert there.keys() == set(named.values())
    top, away = there[named["top"]], there[named["away"]]
    assert (top["tags"], top["children"], top["layers"]) == (["latest", "v1"], [named["one"], named["two"]], None)
    assert (away["status"], away["repository"], away["tags"]) == ("ARCHIVED", "team/tool", ["v1"])
    assert away["pulled"] and away["archived"] and not there[named["old"]]["pulled"]
    assert there[named["signature"]]["subject"] == named["top"] and there[named["one"]]["children"] == []
    assert (result["facts"]["images"], result["facts"]["images younger than 30 days"]) == (6, 4)
    assert (result["rows"][0]["untagged"], result["rows"][0]["repositories"]) == (4, 2)
    assert aws.count("DescribeImages") == 2 and aws.count("BatchGetImage") == 1
    assert found.sources[0].complete and "layers are not counted" in found.sources[0].notes[0]


def test_manifests_are_read_as_told(aws: AwsDouble, tmp_path: Path) -> None:
    named = fill(aws)
    config = written(tmp_path, aws)
    _, found = inventory(config, tmp_path, "--manifests", "all")
    assert rows(found)[named["two"]]["layers"] == 3 and rows(found)[named["away"]]["layers"] is None
    _, found = inventory(config, tmp_path, "--manifests", "none", "--repository", "team/a*")
    assert rows(found)[named["top"]]["children"] is None and named["away"] not in rows(found)


def test_what_cannot_be_read_stands_in_the_value(aws: AwsDouble, tmp_path: Path) -> None:
    named = fill(aws)
    config = written(tmp_path, aws)
    aws.fail("DescribeImages", ApiError("RepositoryNotFoundException", "gone"), times=1)
    result, found = inventory(config, tmp_path, code=7)
    [source] = found.sources
    assert not source.complete and len(source.unread) == 1 and source.unread[0].problem.startswith("NotFound: ")
    assert result["reasons"] and len(found.frame) in (1, 5) and len(found.frame) < len(named)
    aws.deny("ecr:DescribeRepositories")
    result, found = inventory(config, tmp_path, code=7)
    assert found.sources[0].unread[0].what == "the list of repositories" and len(found.frame) == 0
    _, found = inventory(config, tmp_path, "--repository", "team/none", code=7)
    assert found.sources[0].unread[0].what == "team/none"


def test_artifact_registry_is_read_by_its_lists(google: GoogleCloud, tmp_path: Path) -> None:
    google.repository(PROJECT, LOCATION, "models")
    google.repository(PROJECT, LOCATION, "empty")
    push(google, "team/app")
    result, found = inventory(written(tmp_path, google=google), tmp_path)
    frame = found.frame
    assert set(frame["repository"]) == {f"{PROJECT}/models/team/app"} and result["rows"][0]["repositories"] == 2
    assert frame["pushed"].notna().all() and frame["pulled"].isna().all()
    [top] = [row for row in found.table().to_pylist() if row["tags"]]
    assert set(top["children"]) == set(frame["digest"]) - {top["digest"]} and len(top["children"]) == 2
    assert "Artifact Registry's lists do not tell" in found.sources[0].notes[0]
    google.world.fail("ListDockerImages", Refusal("PERMISSION_DENIED", "no"))
    _, found = inventory(written(tmp_path, google=google), tmp_path, code=7)
    assert found.sources[0].unread[0].problem.startswith("Forbidden")


def push(google: GoogleCloud, image: str) -> None:
    """An index of two images, below one name."""
    held = google.images.get(f"projects/{PROJECT}/locations/{LOCATION}/repositories/models")
    now = google.world.now()
    package = held.packages.setdefault(image, Package(image, now, now))
    children = tuple(Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(bytes([at])), size=1) for at in range(2))
    for child in children:
        package.images[child.digest] = Version(child.digest, OCI_MANIFEST, now, now, size=1000)
    top = Digest.of(b"index")
    package.images[top] = Version(top, OCI_INDEX, now, now, size=500, children=children)
    package.set_tag("v1", top, now)


POLICY = {"rules": [rule(1, "untagged", pushed=30), rule(2, "tagged", ["v*"], pushed=300)]}


def test_explain_reads_the_registry(aws: AwsDouble, tmp_path: Path) -> None:
    named = fill(aws)
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(POLICY))
    result = run(written(tmp_path, aws), "lifecycle", "explain", policy, "ecr")
    assert [(row["digest"], row["rule"]) for row in result["rows"]] == [(named["old"], "rule 1")]


def test_preview_is_held_against_awss_own(aws: AwsDouble, tmp_path: Path) -> None:
    fill(aws)
    place, now = ecr_place(aws), aws.clock()
    for number in range(205):  # three pages
        put(place, "team/app", manifest(100 + number), at=now - (60 + number) * DAY_S)
    between = put(place, "team/app", manifest(99), at=now - 30.5 * DAY_S)
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(POLICY))
    config = written(tmp_path, aws)
    result = run(config, "lifecycle", "preview", policy, "ecr")
    assert result["facts"]["aws_acts"] == 207 and result["facts"]["previews"] == 2
    [row] = result["rows"]
    assert (row["digest"], row["aws"]) == (between.digest, "goes (rule 1)")
    assert (row["ours"], row["difference"]) == ("undecided, stays (rule 1)", "answers what is open")


def test_a_preview_that_says_otherwise_is_no_agreement(
    aws: AwsDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = fill(aws)
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(POLICY))
    monkeypatch.setattr(ecr_lifecycle, "evaluate", lambda text, there, now: [])
    result = run(written(tmp_path, aws), "lifecycle", "preview", policy, "ecr", code=6)
    [row] = result["rows"]
    assert (row["digest"], row["aws"], row["difference"]) == (named["old"], "stays", "differs")
