"""The command line: a thin door to the library. Each command's module is named after what it is about."""

from __future__ import annotations

import importlib
from typing import Any

import click

from registry_pipelines import __version__
from registry_pipelines.cli.errors import exit_code_table, say_interrupted
from registry_pipelines.interrupts import prompt_end

_MODULES = {
    "demo": "demonstration",
    "serve": "serving",
    "dev": "serving",
    "inspect": "inspection",
    "copy": "images",
    "sync": "syncing",
    "verify-copy": "syncing",
    "sbom": "contents",
    "scan": "contents",
    "verify": "contents",
    "build": "releases",
    "releases": "releases",
    "provenance": "releases",
    "sign": "releases",
    "judge": "releases",
    "promote": "releases",
    "replicate": "releases",
    "mirror": "releases",
    "collect": "retention",
    "config": "configuration",
}
"""Where each command is. A command's module is loaded when it is called: a copy needs no scanner, no signer and no
builder, and starts in a third of the time without them."""


class _Commands(click.Group):
    """The commands of ``_MODULES``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"registry_pipelines.cli.{_MODULES[cmd_name]}")
        found: click.Command = next(command for command in module.COMMANDS if command.name == cmd_name)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # while a command's module is loaded; from then on the command sees to it
            ctx.exit(say_interrupted())

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The whole program, in its main thread."""
        with prompt_end():
            return super().__call__(*arguments, **named)


@click.group(cls=_Commands, epilog=exit_code_table(), context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="registry-pipelines")
def main() -> None:
    """The container-image supply chain: build, scan, sign, promote, replicate, mirror, collect.

    Every command takes --json (one document on stdout; progress and messages on stderr) and ends with a documented
    exit code. An image may be written with a configured registry's name in front: us-east-1/ml/forecaster:prod.
    """
