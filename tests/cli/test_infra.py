"""``infra`` as it is typed: plans kept and compared, exit codes, files of an import, and a kill in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.oci.files import held_alone
from tests.answers import document
from tests.doubles.aws.ecr_policies import EcrPolicies
from tests.doubles.aws.front import ApiError, Html
from tests.infra.cloud import Cloud, cloud
from tests.infra.declarations import EVERYTHING
from tests.needs import needed_module
from tests.patience import patient

REPOSITORIES = {"repositories": [{"names": [f"ml/r{number}" for number in range(6)], "lifecycle": "lifecycle.json"}]}


@pytest.fixture
def ecr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    needed_module("boto3", "aws")
    with cloud(tmp_path, monkeypatch) as made:
        yield made


def run(ecr: Cloud, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["infra", *arguments, "--config", str(ecr.folder / "registry-pipelines.yaml")])
    assert result.exit_code == code, result.output
    return result.stdout


def told(ecr: Cloud, *arguments: str, code: int = 0) -> Any:
    found = document(run(ecr, *arguments, "--json", code=code))
    return found["result"] if code in (0, 3) else found


def test_plans_are_shown_kept_compared_and_applied(ecr: Cloud) -> None:
    ecr.write({"repositories": [{"names": ["ml/a"], "scan_on_push": True}]})
    shown = run(ecr, "plan")
    assert "create" in shown and "scan_on_push" in shown and "1 to create" in shown
    saved = str(ecr.folder / "plan.json")
    [planned] = told(ecr, "plan", "eu", "--save", saved)["results"]
    assert planned["facts"]["create"] == 1 and planned["next_steps"] == ["registry-pipelines infra apply eu"]
    ecr.write({"repositories": [{"names": ["ml/a"], "scan_on_push": False}]})
    lines = told(ecr, "plan", "eu", "--against", saved)["lines"]
    assert {line[0] for line in lines} == {"+", "-"} and len(lines) == 2
    assert "scan_on_push: none -> true" in run(ecr, "plan", "eu", "--against", saved)
    [applied] = told(ecr, "apply", "eu", "--plan", saved)["results"]
    assert applied["ok"] and ecr.here.repositories["ml/a"].scan_on_push
    [drift] = told(ecr, "drift", code=3)["results"]
    assert drift["reasons"] == ["ecr:repository ml/a: scan_on_push is true, declared false"]
    assert "1 thing changed" in run(ecr, "apply")
    assert "as declared" in run(ecr, "drift")


def test_mistakes_are_said_before_anything_is_asked(ecr: Cloud) -> None:
    ecr.write({"repositories": [{"names": ["ml/a"], "policy": "missing.json"}]})
    assert "missing.json cannot be read" in told(ecr, "plan", code=8)["error"]["problems"][0]
    ecr.write({"repositories": [{"names": ["ml/a"]}]})
    (ecr.folder / "broken.json").write_text("{}")
    for arguments, said in (
        (["apply", "--plan", "x"], "needs a REGISTRY"),
        (["plan", "--save", "x"], "need a REGISTRY"),
        (["apply", "eu", "--plan", "nowhere.json"], "cannot be read"),
        (["apply", "eu", "--plan", str(ecr.folder / "broken.json")], "not a plan of settings"),
        (["drift", "other"], "no settings are declared"),
        (["import", "other"], "unknown registry"),
    ):
        assert said in told(ecr, *arguments, code=8)["error"]["what"]
    ecr.write("{}")
    assert "declares no settings" in told(ecr, "plan", code=8)["error"]["what"]
    assert not ecr.asked()


def test_an_import_writes_what_a_plan_then_has_nothing_to_do_with(ecr: Cloud) -> None:
    ecr.write(EVERYTHING)
    run(ecr, "apply")
    files = told(ecr, "import", "eu")["files"]
    names = sorted(str(Path(each).relative_to(ecr.folder)) for each in files)
    assert names == [
        "infra/eu.ml--a.lifecycle.json", "infra/eu.ml--a.policy.json", "infra/eu.registry.policy.json", "infra/eu.yaml",
    ]  # fmt: skip
    section = yaml.safe_load((ecr.folder / "infra" / "eu.yaml").read_text())["infra"]
    ecr.write(json.dumps(section))
    assert "0 unmanaged" in run(ecr, "plan") and "as declared" in run(ecr, "drift")


def test_after_a_kill_the_same_command_does_what_is_left(ecr: Cloud) -> None:
    path = ecr.write(REPOSITORIES)
    command = [str(Path(sys.executable).parent / "registry-pipelines"), "infra", "apply", "--config", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **ecr.aws.environment})
    ecr.aws.fail("PutLifecyclePolicy", process.kill, skip=2)
    assert process.wait(timeout=patient(60)) == -9
    done = len(ecr.aws.area(EcrPolicies).texts)
    assert 1 <= done <= 6
    asked = ecr.asked()
    assert asked["CreateRepository"] == 6
    ended = subprocess.run(command, capture_output=True, timeout=patient(60), check=False)
    assert ended.returncode == 0, ended.stderr
    again = ecr.asked()
    assert again["CreateRepository"] == 0 and again["PutLifecyclePolicy"] == 6 - done
    assert "as declared" in run(ecr, "drift")


def test_throttling_and_pages_of_a_load_balancer_are_waited_out(ecr: Cloud) -> None:
    ecr.write({"repositories": [{"names": ["ml/a"]}]})
    ecr.aws.fail("DescribeRepositories", ApiError("ThrottlingException", "Rate exceeded"))
    ecr.aws.fail("CreateRepository", Html(502))
    [applied] = told(ecr, "apply")["results"]
    assert applied["ok"] and ecr.asked()["CreateRepository"] == 2


def test_who_may_not_is_told_the_action_that_is_missing(ecr: Cloud) -> None:
    ecr.write({"repositories": [{"names": ["ml/a"]}]})
    ecr.aws.deny("ecr:CreateRepository")
    [applied] = told(ecr, "apply", code=3)["results"]
    assert "ecr:CreateRepository" in applied["reasons"][0]
    ecr.aws.deny("ecr:DescribeRepositories")
    assert "ecr:DescribeRepositories" in str(told(ecr, "plan", code=5)["error"])


def test_two_do_not_set_one_registry_at_once(ecr: Cloud) -> None:
    path = ecr.write({"repositories": [{"names": ["ml/a"]}]})
    state = load(path).state
    with held_alone(state / "infra" / "eu" / "lock", "a test holds it"):
        assert told(ecr, "apply", code=9)["error"]["error"] == "StateLocked"
        assert "1 to create" in run(ecr, "plan"), "looking is free"
    assert told(ecr, "apply")["results"][0]["ok"]
