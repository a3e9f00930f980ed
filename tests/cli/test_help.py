from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from registry_pipelines.cli import GROUPS, main
from registry_pipelines.cli.errors import EXIT_CODES

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "demo", "dev", "serve", "inspect", "copy", "build", "releases", "provenance", "sbom", "scan", "sign", "verify",
    "judge", "approve", "break-glass", "promote", "revoke", "replicate", "mirror", "collect", "config",
    "sync", "verify-copy", "ls", "tag", "delete", "admission", "serve-admission", "rescan", "sweep",
    "advisories", "bases", "bundle", "completion", "diff", "infra", "advise", "doctor", "pin", "events", "node",
    "packages", "wheels", "findings", "init", "inventory", "usage", "lifecycle", "login", "logout", "schema",
    "harden-check", "ship", "status", "stream", "rechunk", "recover", "lint", "report", "deploy", "weights", "runs",
    "state",
)  # fmt: skip


def test_help_names_every_command_and_exit_code() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert set(main.list_commands(click.Context(main))) == set(COMMANDS)
    assert all(f"  {command} " in text for command in COMMANDS)
    assert all(f"  {code:<4}{meaning}" in text for code, meaning in EXIT_CODES.items())


def test_help_has_its_commands_by_purpose_each_once() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    heads = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Options", *GROUPS]
    words = Counter(line.split()[0] for line in lines if line.startswith("  ") and line.split())
    assert {name: words[name] for name in COMMANDS} == dict.fromkeys(COMMANDS, 1)


def test_a_slip_in_a_command_names_the_one_that_was_meant() -> None:
    told = {name: CliRunner().invoke(main, [name]) for name in ("statsu", "xyzzy")}
    assert {done.exit_code for done in told.values()} == {2}
    assert "did you mean 'status'?" in told["statsu"].output and "did you mean" not in told["xyzzy"].output


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["cost"], "report cost"), (["failover"], "recover failover"), (["report", "custdy"], "custody")],
)
def test_a_command_that_is_in_a_group_is_found_without_it(words: list[str], meant: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and f"did you mean {meant!r}?" in done.output


@pytest.mark.parametrize("group", ["advisories", "config", "lifecycle", "report", "stream"])
def test_no_command_of_a_group_is_told_in_half_a_sentence(group: str) -> None:
    text = CliRunner().invoke(main, [group, "--help"], terminal_width=80).output
    assert "Commands:" in text and "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(command: str) -> None:
    for words in _below([command], main.get_command(click.Context(main), command)):
        text = CliRunner().invoke(main, [*words, "--help"]).output
        assert all(option in text for option in ("--config", "--json", "--quiet", "--debug")), words


def _below(words: list[str], command: click.Command | None) -> Iterator[list[str]]:
    """The words of a command, or of all commands of a group."""
    if not isinstance(command, click.Group):
        yield words
        return
    for name in command.list_commands(context := click.Context(command)):
        yield from _below([*words, name], command.get_command(context, name))
