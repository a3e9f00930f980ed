"""``--json`` is one shape for every command. That real answers fit their schemas is held wherever a test reads one
(``tests.answers``); here is what no single command shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from registry_pipelines.cli import main
from registry_pipelines.cli.answers import ANSWERS, schema_of
from tests.answers import answered, document


def commands(group: click.Group, name: str = "") -> Iterator[str]:
    """Every command as it is called."""
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        if isinstance(command, click.Group):
            yield from commands(command, f"{name}{each} ")
        else:
            yield f"{name}{each}"


def plain(command: str) -> object:
    """A schema as it comes back from JSON."""
    return json.loads(json.dumps(schema_of(command)))


def test_every_command_has_a_schema() -> None:
    assert set(ANSWERS) == set(commands(main))
    for command in ANSWERS:
        Draft202012Validator.check_schema(schema_of(command))


def test_a_schema_is_strict() -> None:
    """A field that nobody described is found, and so is one that is gone."""
    good = {"command": "completion", "ok": True, "exit_code": 0, "error": None}
    validator = Draft202012Validator(schema_of("completion"))
    assert validator.is_valid({**good, "result": {"shell": "bash", "script": "x"}})
    for result in ({"shell": "bash"}, {"shell": "bash", "script": "x", "more": 1}, {"shell": 1, "script": "x"}, []):
        assert not validator.is_valid({**good, "result": result})
    assert not validator.is_valid({**good, "result": None, "command": "copy"})
    assert not validator.is_valid({**good, "error": {"surprise": "x"}, "result": None})


def test_the_schema_command_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["schema"]).stdout.split("\n")[:-1] == list(ANSWERS)
    assert json.loads(CliRunner().invoke(main, ["schema", "config", "check"]).stdout) == plain("config check")
    assert answered(CliRunner().invoke(main, ["schema", "--json"]).stdout)["commands"] == list(ANSWERS)
    told = document(CliRunner().invoke(main, ["schema", "scann", "--json"]).stdout)
    assert told["exit_code"] == 8 and "did you mean `scan`?" in told["error"]["what"]
    assert document(CliRunner().invoke(main, ["schema", "scan", "--json"]).stdout)["result"] == plain("scan")


def test_pages_scripts_and_what_was_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert answered(CliRunner().invoke(main, ["logout", "localhost:1", "--json"]).stdout)["changed"] is False
    for words in (["config", "help"], ["config", "reference"], ["config", "schema"], ["completion", "bash"]):
        told = document(CliRunner().invoke(main, [*words, "--json"]).stdout)
        assert told["command"] == (" ".join(words) if words[0] == "config" else "completion") and told["result"]
