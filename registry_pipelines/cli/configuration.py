"""``config``: check a file, print its schema."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.help import help_page
from registry_pipelines.cli.output import (
    console,
    rows_table,
)
from registry_pipelines.config.schema import reference_page, schema
from registry_pipelines.errors import exit_code_of_many

if TYPE_CHECKING:
    from registry_pipelines.chain.reach import Reached
    from registry_pipelines.config import Config


@click.group("config")
def config_group() -> None:
    """Check a configuration; print what one may hold."""


@config_group.command("check", short_help="List every problem, with its line; --online asks the registries, too.")
@click.option("--online", is_flag=True, help="Ask every registry, too: whether it answers, and whether we may read.")
@common
def check(options: Options, online: bool) -> None:
    """Read the configuration, look for the files and keys that it names, and list every problem with its line.

    With --online each registry is asked, all at once, for its tags; nothing is written, so the right to push is not
    tried. Exit 5: log-in refused. Exit 7: no answer. Exit 6: several of that.
    """
    config = options.config(look=True)
    counts = {
        name: len(getattr(config, name))
        for name in ("registries", "images", "targets", "policies", "mirrors", "syncs", "retention")
    }
    reached = _ask(options, config) if online else []
    if options.as_json:
        document = {"file": str(config.path), "state": str(config.state), "notes": list(config.notes), **counts}
        print_json({**document, "reached": [each.row() for each in reached]})
    else:
        summed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        for note in config.notes:
            console().print(f"note: {note}", markup=False)
        console().print(f"{config.path}: no problems ({summed})", markup=False)
        if reached:
            console().print(rows_table([_shown(each) for each in reached]))
            console().print("writing was not tried", markup=False)
    if code := exit_code_of_many(each.exit_code for each in reached if not each.ok):
        sys.exit(code)


def _ask(options: Options, config: Config) -> list[Reached]:
    from registry_pipelines.chain.reach import reach  # without --online no registry is opened

    with options.progress():
        return reach(config)


def _shown(each: Reached) -> dict[str, Any]:
    row = each.row()
    outcome = "ok" if row.pop("ok") else "failed"
    return {**{name: row[name] for name in ("registry", "where", "login")}, "outcome": outcome, "read": row["read"]}


@config_group.command("schema")
@common
def print_schema(options: Options) -> None:
    """Print the JSON schema (draft 2020-12) of the configuration."""
    print_json(schema())


@config_group.command("reference")
@common
def reference(options: Options) -> None:
    """Print every field as Markdown, as in docs/configuration.md."""
    if options.as_json:
        print_json({"markdown": reference_page()})
    else:
        sys.stdout.write(reference_page())


@config_group.command("help")
@common
def help_text(options: Options) -> None:
    """Print the help of every command as Markdown, as in docs/cli.md."""
    root = click.get_current_context().find_root().command
    assert isinstance(root, click.Group)  # noqa: S101 - the program is a group of commands
    page = help_page(root)
    if options.as_json:
        print_json({"markdown": page})
    else:
        sys.stdout.write(page)


COMMANDS = [config_group]
