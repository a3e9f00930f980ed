"""``approve``: by the configuration's key or a person's own, on the command line and in the library."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.cli.approving import PASSWORD_VARIABLE
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.promote.person import Person
from tests.chain.fleet import Fleet


def run(fleet: Fleet, *arguments: str, **environment: str) -> Result:
    command = ["approve", *arguments, "--config", str(fleet.path), "--json"]
    return CliRunner().invoke(main, command, env=environment)


def result_of(answer: Result) -> Any:
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)["result"]["results"][0]


def test_a_release_is_approved_listed_and_taken_back(fleet: Fleet) -> None:
    release = fleet.release("v1.0.0")
    assert result_of(run(fleet, "app:v1.0.0", "--list"))["action"] == "nobody approved it"
    made = result_of(run(fleet, "app:v1.0.0", "--as", "qa", "--by", "Anna", "--note", "looks right", "--lasts", "30d"))
    assert (made["action"], made["changed"], made["facts"]["approved_by"]) == ("approved as qa", True, "Anna")
    assert fleet.chain.approve(release, "security", Person("Ben", "claimed")).changed
    listed = result_of(run(fleet, "app:v1.0.0", "--list"))
    assert listed["action"] == "qa: Anna, security: Ben"
    assert {row["capacity"]: (row["counts"], row["note"]) for row in listed["rows"]} == {
        "qa": (True, "looks right"),
        "security": (True, ""),
    }
    taken = result_of(run(fleet, "app:v1.0.0", "--as", "qa", "--withdraw", "--note", "no"))
    assert taken["action"] == "withdrawn as qa"
    assert result_of(run(fleet, "app:v1.0.0", "--list"))["action"] == "qa: none that counts, security: Ben"


def test_a_person_approves_with_a_key_of_their_own(fleet: Fleet) -> None:
    fleet.release("v1.0.0")
    files = generate_key(fleet.folder / "anna.key", password="secret")
    arguments = ("app:v1.0.0", "--as", "qa", "--key", str(files.private))
    stranger = run(fleet, *arguments, **{PASSWORD_VARIABLE: "secret"})
    assert stranger.exit_code == 8
    assert "does not count as qa" in json.loads(stranger.stdout)["error"]["what"]
    fleet.reload(("{generate: true}", "{generate: true, person: {trusted: [anna.pub]}}"))
    wrong = run(fleet, *arguments, **{PASSWORD_VARIABLE: "wrong"})
    assert "cannot be decrypted" in json.loads(wrong.stdout)["error"]["what"]
    assert "no password is given" in json.loads(run(fleet, *arguments).stdout)["error"]["what"]
    made = result_of(run(fleet, *arguments, **{PASSWORD_VARIABLE: "secret"}))
    assert made["facts"]["key_id"] == files.key_id


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--as is wanted"),
        (["--as", "qa", "--list"], "--list lists all"),
        (["--as", "Q A"], "is not a name"),
        (["--as", "qa", "--withdraw", "--lasts", "1d"], "does not end"),
        (["--as", "qa", "--by", " "], "no name of a person"),
        (["--as", "qa", "--lasts", "999999999d"], "9999"),
    ],
)
def test_what_cannot_be_approved(fleet: Fleet, arguments: list[str], said: str) -> None:
    fleet.release("v1.0.0")
    answer = run(fleet, "app:v1.0.0", *arguments)
    assert answer.exit_code == 8
    assert said in answer.stdout
    assert run(fleet, "app:v1.0.0", "--as", "qa", "--lasts", "soon").exit_code == 2
