"""Terraform's states and files as declarations: what is written and read back is the same; nothing is guessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import InputError
from registry_pipelines.infra.terraform.from_aws import FromAws
from registry_pipelines.infra.terraform.from_google import FromGoogle
from registry_pipelines.infra.terraform.reading import read
from tests.infra.provider_schemas import DATA

CASE = DATA / "case"
PLACES = ("ecr-eu", "gar-eu")


def run(folder: Path, *arguments: str) -> Result:
    config = ["--config", str(folder / "registry-pipelines.yaml")]
    return CliRunner().invoke(main, ["infra", "import", *arguments, *config])


def computed(kind: str, body: dict[str, Any]) -> dict[str, str]:
    """What a provider works out, and a state has."""
    if kind == "aws_sns_topic":
        return {"arn": f"arn:aws:sns:eu-west-1:111122223333:{body['name']}"}
    if kind == "google_monitoring_notification_channel":
        return {"name": f"projects/ml-prod/notificationChannels/{len(body['display_name'])}"}
    return {}


def as_state(document: dict[str, Any]) -> dict[str, Any]:
    """A file's resources as a state has them: references worked out, and every block in a list."""
    found = {f"{kind}.{label}": body for kind, blocks in document["resource"].items() for label, body in blocks.items()}

    def value(each: Any, *, block: bool = True) -> Any:
        if isinstance(each, dict):
            inner = {
                name: value(one, block=name not in ("tags", "labels", "resource_tags", "dimensions"))
                for name, one in each.items()
            }
            return [inner] if block else inner
        if isinstance(each, list):
            return [value(one, block=False) for one in each]
        if isinstance(each, str) and each.startswith("${"):
            address, _, attribute = each[2:-1].rpartition(".")
            body = found.get(address, {})
            if attribute == "id":
                return f"projects/ml-prod/locations/europe-west1/repositories/{body['repository_id']}"
            if (own := computed(address.partition(".")[0], body)) and attribute in own:
                return own[attribute]
            return body.get(attribute, "arn:aws:kms:eu-west-1:111122223333:key/1")
        return each.replace("$${", "${").replace("%%{", "%{") if isinstance(each, str) else each

    resources = [
        {
            "mode": "managed",
            "type": address.partition(".")[0],
            "name": address.partition(".")[2],
            "instances": [{"attributes": value(body, block=False) | computed(address.partition(".")[0], body)}],
        }
        for address, body in found.items()
    ]
    return {"version": 4, "terraform_version": "1.11.4", "resources": resources}


def as_shown(state: dict[str, Any]) -> dict[str, Any]:
    """The same as ``terraform show -json`` prints it, half of it in a module."""
    listed = [
        {
            "address": f"{each['type']}.{each['name']}",
            "mode": "managed",
            "type": each["type"],
            "values": each["instances"][0]["attributes"],
        }
        for each in state["resources"]
    ]
    half = len(listed) // 2
    root = {"resources": listed[:half], "child_modules": [{"resources": listed[half:]}]}
    return {"format_version": "1.0", "values": {"root_module": root}}


@pytest.mark.parametrize("form", ["configuration", "state", "shown"])
def test_what_was_written_and_is_read_back_is_written_the_same(tmp_path: Path, form: str) -> None:
    """Read into a new configuration, which Terraform's files are made of again: they are those that were read."""
    made = Chain(load(CASE / "registry-pipelines.yaml")).terraform()
    shutil.copy(CASE / "registry-pipelines.yaml", tmp_path)
    for name in ("lifecycle.json", "policy.json", "cleanup.json"):
        shutil.copy(CASE / name, tmp_path)
    sections = {}
    for place in PLACES:
        document = json.loads(made.files[f"{place}.tf.json"])
        if form != "configuration":
            document = as_state(document)
        (tmp_path / f"{place}.in.json").write_text(json.dumps(as_shown(document) if form == "shown" else document))
        done = run(tmp_path, place, "--from-terraform", str(tmp_path / f"{place}.in.json"))
        assert done.exit_code == 0, done.output
        sections |= yaml.safe_load((tmp_path / "infra" / f"{place}.yaml").read_text())["infra"]
    config = yaml.safe_load((tmp_path / "registry-pipelines.yaml").read_text())
    (tmp_path / "registry-pipelines.yaml").write_text(yaml.safe_dump({**config, "infra": sections}))
    again = Chain(load(tmp_path / "registry-pipelines.yaml")).terraform()
    for place in PLACES:
        before = json.loads(made.files[f"{place}.tf.json"])["resource"]
        after = json.loads(again.files[f"{place}.tf.json"])["resource"]
        for kind in before.keys() - _OTHERWISE:
            assert after[kind].keys() == before[kind].keys(), kind
            for name, body in before[kind].items():
                lost = {field: value for field, value in body.items() if after[kind][name].get(field) != value}
                assert lost.keys() <= _WORKED_OUT.get(kind, set()), (kind, name, lost)


_OTHERWISE = {
    "google_access_context_manager_service_perimeter_resource",
    "google_binary_authorization_attestor",
    "google_container_analysis_note",
    "google_binary_authorization_policy",
}
"""Perimeters are the organization's. An attestor's key ids come from Cloud KMS; it and what names it have a test."""
_WORKED_OUT = {
    "aws_ecr_repository": {"encryption_configuration"},
    "google_artifact_registry_repository": {"cleanup_policies", "remote_repository_config"},
}
"""An alias is another key's ARN in a state; cleanup has one more form; the order of validation is never kept."""


def test_what_terraform_works_out_is_named_and_not_guessed() -> None:
    document = {
        "resource": {
            "aws_ecr_repository": {
                "app": {"name": "app", "tags": {"a": "$${b}"}, "image_tag_mutability": "${var.mutability}"},
                "other": {"name": "${var.name}"},
            },
            "aws_ecr_lifecycle_policy": {
                "app": {"repository": "${aws_ecr_repository.app.name}", "policy": '{"rules": []}'}
            },
            "aws_ecr_repository_policy": {"app": {"repository": "app", "policy": "not JSON"}},
            "aws_ecr_registry_policies": {"app": {}},
            "aws_instance": {"x": {}},
        }
    }
    maker = FromAws("ecr-eu", account="1" * 12, region="eu-west-1")
    settings = maker.settings(read(json.dumps(document).encode(), where="x"))
    assert [(each.kind, each.name) for each in settings] == [("ecr:repository", "app"), ("ecr:lifecycle", "app")]
    assert settings[0].found is not None and settings[0].found["labels.a"] == "${b}"
    notes = "\n".join(maker.notes)
    for words in (
        "aws_ecr_repository.app: Terraform works out image_tag_mutability",
        "aws_ecr_repository.other: Terraform works out name",
        "aws_ecr_repository.other cannot be read",
        "aws_ecr_repository_policy.app cannot be read",
        "aws_ecr_registry_policies is not declared by `infra`",
    ):
        assert words in notes
    assert "aws_instance" not in notes


def test_other_registries_are_left_out_and_named() -> None:
    repository = {"name": "app", "region": "us-east-1", "registry_id": "1" * 12}
    other = {"name": "b", "arn": f"arn:aws:ecr:eu-west-1:{'2' * 12}:repository/b", "registry_id": "2" * 12}
    document = {"resource": {"aws_ecr_repository": {"a": repository, "b": other}}}
    maker = FromAws("ecr-eu", account="1" * 12, region="eu-west-1")
    assert maker.settings(read(json.dumps(document).encode(), where="x")) == []
    assert [note.partition(",")[0] for note in maker.notes] == [
        "aws_ecr_repository.a is in us-east-1",
        f"aws_ecr_repository.b is in account {'2' * 12}",
    ]
    google = {"repository_id": "a", "format": "DOCKER", "project": "other", "location": "europe-west1"}
    document = {"resource": {"google_artifact_registry_repository": {"a": google}}}
    maker_of_google = FromGoogle("gar-eu", project="ml-prod", location="europe-west1")
    assert maker_of_google.settings(read(json.dumps(document).encode(), where="x")) == []
    assert "is in project other" in maker_of_google.notes[0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"version": 3, "modules": []}', '{"version": 4, "resources": 7}']
)
def test_what_is_no_file_of_terraform_is_refused(tmp_path: Path, text: str) -> None:
    shutil.copytree(CASE, tmp_path / "case")
    (tmp_path / "x.json").write_text(text)
    done = run(tmp_path / "case", "ecr-eu", "--from-terraform", str(tmp_path / "x.json"))
    assert done.exit_code == 8 and "x.json" in done.stderr and not (tmp_path / "case" / "infra").exists()
    assert run(tmp_path / "case", "ecr-eu", "--from-terraform", str(tmp_path / "none")).exit_code == 8


NAMES = (
    *("resource", "resources", "version", "values", "root_module", "type", "instances", "attributes", "a"),
    *(
        "aws_ecr_repository",
        "google_artifact_registry_repository",
        "name",
        "policy",
        "cleanup_policies",
        "format",
        "mode",
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["resource", "resources", "version", "values"]), VALUES, max_size=4))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        resources = read(json.dumps(document).encode(), where="x")
    except InputError:
        return
    FromAws("x", account="1", region="r").settings(resources)
    FromGoogle("x", project="p", location="l").settings(resources)
