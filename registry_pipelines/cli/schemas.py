"""``schema``: what a command prints with ``--json``."""

from __future__ import annotations

import json
import sys

import click

from registry_pipelines.cli.answers import ANSWERS, schema_of
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.errors import InputError
from registry_pipelines.settings import unknown


@click.command("schema")
@click.argument("command", nargs=-1)
@common
def schema(options: Options, command: tuple[str, ...]) -> None:
    """Print the JSON schema of what a command prints with --json; without COMMAND, which commands have one.

    Draft 2020-12. COMMAND is written as it is called: scan, config check.
    """
    name = " ".join(command)
    if name and name not in ANSWERS:
        raise InputError(unknown(name, ANSWERS, "command"), do="Run `registry-pipelines schema` for all of them")
    if options.as_json:
        print_json(schema_of(name) if name else {"commands": list(ANSWERS)})
    elif name:
        sys.stdout.write(json.dumps(schema_of(name), indent=2) + "\n")
    else:
        click.echo("\n".join(ANSWERS))


COMMANDS = [schema]
