"""Terraform itself reads what is written: validate, plan, apply, and a second plan that has nothing to do."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.infra.terraform.aws import AwsVersion
from registry_pipelines.infra.terraform.writing import Written
from tests.doubles.terraform_provider import Provider, environment
from tests.infra.provider_schemas import DATA
from tests.needs import missing
from tests.patience import patient

pytestmark = pytest.mark.long
CASE = DATA / "case" / "registry-pipelines.yaml"


def terraform(folder: Path, providers: tuple[Provider, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        missing("terraform (or tofu) is not installed; Debian does not have it")
    return subprocess.run(
        [program, *arguments, "-no-color"],
        cwd=folder, env=environment(*providers), capture_output=True, text=True, timeout=patient(120),
    )  # fmt: skip


@pytest.mark.parametrize("aws", [5, 6])
def test_terraform_takes_all_of_it(aws: AwsVersion, tmp_path: Path) -> None:
    made = Chain(load(CASE)).terraform(aws=aws)
    for name, content in made.files.items():
        (tmp_path / name).write_bytes(content)
    with Provider(f"aws{aws}") as amazon, Provider("google") as google:
        providers = (amazon, google)
        for step in (["init"], ["validate"], ["apply", "-auto-approve", "-input=false"]):
            done = terraform(tmp_path, providers, *step)
            assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
        again = terraform(tmp_path, providers, "plan", "-detailed-exitcode", "-input=false")
        assert again.returncode == 0, again.stdout
        shown = terraform(tmp_path, providers, "show", "-json")
        again_from(tmp_path, made, shown.stdout.encode())
        again_from(tmp_path, made, (tmp_path / "terraform.tfstate").read_bytes())
        written = sum(
            len(blocks)
            for content in made.files.values()
            for blocks in json.loads(content).get("resource", {}).values()
        )
        assert len(amazon.created) + len(google.created) == written > 30
        assert_literal(dict(amazon.created_by("aws_ecr_repository_policy", "repository")))
        order = [kind for kind, _ in google.created]
        names = [state.get("repository_id") for kind, state in google.created]
        assert names.index("models") < names.index("all") and "google_binary_authorization_policy" in order


def test_terraform_takes_over_what_exists_by_the_import_blocks(tmp_path: Path) -> None:
    made = Chain(load(CASE)).terraform(take_over=True)
    for name, content in made.files.items():
        (tmp_path / name).write_bytes(content)
    with Provider("aws6") as amazon, Provider("google") as google:
        providers = (amazon, google)
        assert terraform(tmp_path, providers, "init").returncode == 0
        done = terraform(tmp_path, providers, "plan", "-input=false")
        assert done.returncode == 0, done.stdout + done.stderr
        named = json.loads(made.files["imports.tf.json"])["import"]
        assert f"{len(named)} to import, 8 to add" in done.stdout, "what Terraform finds by ids that nobody here knows"
        assert ("aws_ecr_repository", "ml/forecaster") in amazon.imported
        whole = "projects/ml-prod/locations/europe-west1/repositories/models"
        assert ("google_artifact_registry_repository", whole) in google.imported


def again_from(folder: Path, made: Written, content: bytes) -> None:
    """What Terraform keeps, declared again: repositories with all that they have are the same."""
    sections = {}
    for place in ("ecr-eu", "gar-eu"):
        text, files, _ = Chain(load(CASE)).import_infra(place, terraform={"x": content})
        sections |= yaml.safe_load(text)["infra"]
        for name, policy in files.items():
            (folder / name).write_bytes(policy)
    config = {**yaml.safe_load(CASE.read_text()), "infra": sections}
    (folder / "again.yaml").write_text(yaml.safe_dump(config))
    written = Chain(load(folder / "again.yaml")).terraform()
    for place, kind in (("ecr-eu", "aws_ecr_repository_policy"), ("gar-eu", "google_artifact_registry_repository")):
        before, after = (json.loads(each.files[f"{place}.tf.json"])["resource"][kind] for each in (made, written))
        assert before.keys() == after.keys()
        for name, body in before.items():
            assert {
                **after[name],
                "remote_repository_config": body.get("remote_repository_config"),
            }.items() >= body.items()


def assert_literal(policies: dict[str, Any]) -> None:
    """What is text in the declaration is text for Terraform: a policy's own variable is no template of it."""
    policy = json.loads(policies["ranker"]["policy"])
    [own] = [each for each in policy["Statement"] if each["Sid"] == "OwnTeam"]
    assert own["Condition"]["StringEquals"]["aws:ResourceTag/team"] == "${aws:PrincipalTag/team}"


def test_terraform_refuses_what_the_schemas_do_not_have(tmp_path: Path) -> None:
    """The check can fail: a field of version 6, given to version 5."""
    made = Chain(load(CASE)).terraform(aws=6)
    for name, content in made.files.items():
        (tmp_path / name).write_bytes(content)
    with Provider("aws5") as amazon, Provider("google") as google:
        assert terraform(tmp_path, (amazon, google), "init").returncode == 0
        done = terraform(tmp_path, (amazon, google), "validate")
    assert done.returncode == 1
    for words in ("image_tag_mutability_exclusion_filter", "BLOB_MOUNTING", "aws_ecr_pull_time_update_exclusion"):
        assert words in done.stdout + done.stderr
