"""``state``: where the state of a configuration is, and how it comes from a folder to where workers share it."""

from __future__ import annotations

import sys

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import console, rows_table, show_result
from registry_pipelines.errors import InputError


@click.group("state")
def state_group() -> None:
    """Show where the state is, and bring a folder's into the database that workers share."""


@state_group.command("show", short_help="Show what the state has and where, and which workers share it.")
@common
def show(options: Options) -> None:
    """Show what the state has, and where: in the folder of this machine, or in the database of `shared`; then also
    what stays in the folder, the workers that share the database, with their builds and clocks, and the caches that
    they keep for each other."""
    with options.chain() as chain:
        result = chain.show_state()
    show_result(result, as_json=options.as_json)
    if not options.as_json:
        for name, rows in result.tables.items():
            console().print(rows_table(rows, title=name))


@state_group.command("move", short_help="Bring what the state folder has into the database that workers share.")
@click.option("--to-shared", "shared", is_flag=True, help="Into the database of `shared`; say it, so that it is meant.")
@click.option("--dry-run", "dry", is_flag=True, help="Only say what would be moved.")
@common
def move(options: Options, shared: bool, dry: bool) -> None:
    """Bring what the state folder has into the database that workers share. Stop what works on the folder before.

    Each file is put aside, into the folder `moved`, once the database has it; killed and called again it does the rest.
    What workers have with another content stays as they have it. Exit code 9: some files differ, and were left.
    """
    if not shared:
        raise InputError("where to move it is not said", do="Write `state move --to-shared`")
    with options.chain() as chain:
        result = chain.move_state(dry=dry)
    show_result(result, as_json=options.as_json)
    if result.exit_code:
        sys.exit(result.exit_code)


COMMANDS = [state_group]
