"""``config``: check a file, print its schema."""

from __future__ import annotations

import sys

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.help import help_page
from registry_pipelines.cli.output import console, print_json
from registry_pipelines.config.schema import reference_page, schema


@click.group("config")
def config_group() -> None:
    """Check a configuration; print what one may hold."""


@config_group.command("check")
@common
def check(options: Options) -> None:
    """Read the configuration, look for the files and keys that it names, and list every problem with its line."""
    config = options.config(look=True)
    counts = {
        name: len(getattr(config, name))
        for name in ("registries", "images", "targets", "policies", "mirrors", "syncs", "retention")
    }
    if options.as_json:
        print_json(
            {"ok": True, "file": str(config.path), "state": str(config.state), "notes": list(config.notes), **counts}
        )
    else:
        summed = ", ".join(f"{count} {name}" for name, count in counts.items())
        for note in config.notes:
            console().print(f"note: {note}", markup=False)
        console().print(f"{config.path}: no problems ({summed})", markup=False)


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
