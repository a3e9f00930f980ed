"""The help of every command as one Markdown page: docs/cli.md from its first heading on."""

from __future__ import annotations

from collections.abc import Iterator

import click

from registry_pipelines.cli.errors import EXIT_CODES

PROGRAM = "registry-pipelines"
WIDTH = 100


def help_page(group: click.Group) -> str:
    """Every command with its help text, then the exit codes."""
    codes = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    commands = [line for path, command in _commands(group, (PROGRAM,)) for line in _section(path, command)]
    return "\n".join([*commands, "## Exit codes", "", "| code | meaning |", "|---|---|", *codes, ""])


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        elif command is not None:
            yield (*path, name), command


def _section(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(path), terminal_width=WIDTH, max_content_width=WIDTH)
    yield f"## {' '.join(path[1:])}"
    yield ""
    yield "```text"
    yield command.get_help(context).rstrip()
    yield "```"
    yield ""
