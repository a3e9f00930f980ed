"""Declared settings as files of Terraform: golden, checked by the providers' schemas, nothing lost in silence."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.chain import Chain, infra_terraform
from registry_pipelines.chain.session import Session
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.infra.ecr import kinds as ecr
from registry_pipelines.infra.gar import kinds as gar
from registry_pipelines.infra.settings import Setting
from registry_pipelines.infra.terraform.aws import AwsVersion
from registry_pipelines.infra.terraform.blocks import label, literal
from registry_pipelines.infra.terraform.writing import HEAD, TerraformPlace, Written, write
from registry_pipelines.progress import Silent
from tests.infra.provider_schemas import DATA, problems, resources

CASE = DATA / "case" / "registry-pipelines.yaml"
ELSEWHERE = {"aws_route53_health_check", "aws_route53_record", "google_dns_record_set"}
"""Records of a fail-over (``tests/recover/failover``)."""
PROVIDERS = {"ecr-eu": "aws", "gar-eu": "google"}


def written(aws: AwsVersion = 6, **options: Any) -> Written:
    return Chain(load(CASE)).terraform(aws=aws, **options)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["infra", "terraform", *arguments, "--config", str(CASE)])


@pytest.mark.parametrize("aws", [5, 6])
def test_both_clouds_are_written_as_the_golden_files(aws: AwsVersion) -> None:
    made = written(aws, take_over=True)
    golden = DATA / f"golden-aws{aws}"
    if os.environ.get("RP_UPDATE_SNAPSHOT"):
        shutil.rmtree(golden, ignore_errors=True)
        golden.mkdir()
        for name, content in made.files.items():
            (golden / name).write_bytes(content)
    assert {path.name: path.read_text() for path in golden.iterdir()} == {
        name: content.decode() for name, content in made.files.items()
    }, "look at the difference, then RP_UPDATE_SNAPSHOT=1"


@pytest.mark.parametrize("aws", [5, 6])
def test_what_is_written_is_what_the_providers_take(aws: AwsVersion) -> None:
    made = written(aws)
    for place, provider in PROVIDERS.items():
        document = json.loads(made.files[f"{place}.tf.json"])
        schema = f"aws{aws}" if provider == "aws" else provider
        assert list(problems(document, schema)) == []
        unused = resources(schema).keys() - document["resource"].keys()
        assert unused <= {"google_artifact_registry_repository_iam_member", *ELSEWHERE}, unused


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda body: body.pop("name"), "name: is required"),
        (lambda body: body.update(nme="x"), "unknown nme"),
        (lambda body: body.update(force_delete="yes"), "is no bool"),
        (lambda body: body.update(image_tag_mutability="FIXED"), "FIXED is none of"),
        (lambda body: body.update(image_scanning_configuration=[{"scan_on_push": True}] * 2), "2 blocks"),
        (lambda body: body.update(image_scanning_configuration={}), "scan_on_push: is required"),
        (lambda body: body.update(name="${aws_ecr_repository.nowhere.name}"), "leads nowhere"),
        (lambda body: body.update(name="${aws_ecr_repository.app.nme}"), "there is no such attribute"),
        (lambda body: body.update(tags={"a": "${aws:x}"}), "a template that nobody meant"),
    ],
)
def test_the_checker_finds_what_a_provider_refuses(change: Any, told: str) -> None:
    body = {"name": "app", "provider": "aws.x"}
    change(body)
    [problem] = problems({"resource": {"aws_ecr_repository": {"app": body}}}, "aws6")
    assert told in problem


@pytest.mark.parametrize("aws", [5, 6])
def test_every_declared_field_is_written_or_named_as_left_out(aws: AwsVersion) -> None:
    """Take one declared field away: the files change, or what is said of them does."""
    places = infra_terraform.places(Session(load(CASE), Silent()))
    whole = write(places, aws=aws)
    tried = 0
    for place in places:
        for position, setting in enumerate(place.settings):
            for field in setting.wanted or {}:
                less = {name: value for name, value in (setting.wanted or {}).items() if name != field}
                if field in _SELF.get(setting.kind, ()):
                    continue
                settings = list(place.settings)
                settings[position] = msgspec.structs.replace(setting, wanted=less)
                changed = write([msgspec.structs.replace(place, settings=tuple(settings))], aws=aws)
                name = f"{place.name}.tf.json"
                told = [each for each in whole.left_out if f"{setting.key}" in each]
                assert changed.files[name] != whole.files[name] or told, (setting.key, field)
                tried += 1
    assert tried > 60


_SELF = {
    ecr.LIFECYCLE: ("policy",),
    ecr.PULL_THROUGH: ("upstream",),
    ecr.ACCOUNT: ("value",),
    ecr.PROFILE: ("platform", "validity"),
    ecr.ENDPOINT: ("type",),
    ecr.TEMPLATE: ("applied_for", "mutability", "excluded_tags"),
    ecr.REPLICATION: ("prefixes", "deletes"),
    ecr.REPOSITORY: ("mutability", "excluded_tags"),
    gar.REPOSITORY: ("format", "mode", "remote.upstream"),
    gar.VIRTUAL: ("format", "mode"),
    gar.READERS: ("members",),
    gar.NOTE: ("hint", "kind"),
    gar.ATTESTOR: ("note", "keys"),
    gar.POLICY: ("default",),
    ecr.ALARM: ("comparison", "hours"),
    gar.CHANNEL: ("type",),
    gar.ALERT: ("comparison", "duration_s", "channels", "conditions"),
}
"""Fields that a setting of the kind always has."""


def test_what_no_resource_says_stands_in_the_file_and_on_stderr(tmp_path: Path) -> None:
    done = run("--output", str(tmp_path / "made"), "--aws", "5")
    assert done.exit_code == 0
    comment = json.loads((tmp_path / "made" / "ecr-eu.tf.json").read_text())["//"]
    for words in (
        r"ecr:signing \S+: the provider has no resource",
        r"us-east-1 deletes: no resource says that deletions go along",
        "ecr:backfill 111122223333/us-east-1: copying what is there already is an action",
        "BLOB_MOUNTING: needs version 6",
        "applied_for: CREATE_ON_PUSH needs version 6",
        "needs version 6: MUTABLE is written",
        "role/scanner: needs version 6",
        "repository old: declared absent",
        "Terraform owns the whole policy",
    ):
        assert any(re.search(words, line) for line in comment), words
        assert re.search(rf"not as declared: ecr-eu: .*{words}", done.stderr), words
    assert "ecr:signing" not in done.stdout
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "ecr-eu.tf.json",
        "gar-eu.tf.json",
        "providers.tf.json",
    }


def test_without_a_folder_one_document_is_printed_that_has_all_of_it() -> None:
    done = run("--take-over")
    document = json.loads(done.stdout)
    parts = [json.loads(content) for content in written(take_over=True).files.values()]
    for part in parts:
        for kind, blocks in part.get("resource", {}).items():
            assert blocks.items() <= document["resource"][kind].items()
    assert document["terraform"]["required_providers"]["aws"] == {"source": "hashicorp/aws", "version": ">= 6.50, < 7"}
    taken = {each["to"]: each["id"] for each in document["import"]}
    assert taken["aws_ecr_repository.ecr-eu_ranker"] == "ranker"
    only = json.loads(run("gar-eu").stdout)
    assert only["resource"].keys() == {name for name in document["resource"] if name.startswith("google_")}


def test_files_of_others_are_not_written_over_and_old_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "gar-eu.tf.json").write_text('{"resource": {}}')
    refused = run("--output", str(tmp_path))
    assert refused.exit_code == 8 and "gar-eu.tf.json is there" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gar-eu.tf.json"]
    (tmp_path / "gar-eu.tf.json").unlink()
    (tmp_path / "gar-us.tf.json").write_text(json.dumps({"//": [HEAD]}))
    done = run("--output", str(tmp_path), "--json")
    answer = json.loads(done.stdout)["result"]
    assert done.exit_code == 0 and len(answer["files"]) == 3
    assert any("gar-us.tf.json is of an earlier run" in line for line in answer["left_out"])
    assert run("--output", str(tmp_path)).exit_code == 0


def test_the_same_settings_give_the_same_bytes_and_two_registries_do_not_meet() -> None:
    setting = Setting(kind=ecr.REPOSITORY, place="x", name="ml/app", wanted={})
    places = [
        TerraformPlace(name=name, kind="ecr", account="1" * 12, region="eu-west-1", settings=(setting,))
        for name in ("eu", "us")
    ]
    made = write(places)
    assert made == write(places)
    labels = [
        name
        for place in ("eu", "us")
        for name in json.loads(made.files[f"{place}.tf.json"])["resource"]["aws_ecr_repository"]
    ]
    assert len(set(labels)) == 2


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._/-]{0,20}[a-z0-9])?", fullmatch=True)
PLACES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True)


@given(st.tuples(PLACES, NAMES), st.tuples(PLACES, NAMES))
def test_labels_are_names_and_another_for_every_thing(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", label(*one))
    assert (label(*one) == label(*other)) == (one == other)


@given(st.text())
def test_text_is_never_a_template(text: str) -> None:
    made = literal(text)
    assert made.replace("$${", "${").replace("%%{", "%{") == text or "$${" in text or "%%{" in text
    assert re.search(r"(?<!\$)(\$\$)*\$\{", made.replace("$${", "")) is None
