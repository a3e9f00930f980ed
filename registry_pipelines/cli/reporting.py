"""``report``: what finance, security and platform leads ask; each command is of a module of its own."""

from __future__ import annotations

import click

from registry_pipelines.cli import load_command

_LATER = {
    "custody": "auditing",
}
"""Which module has which command; it is loaded when it is called."""


class _Commands(click.Group):
    """The commands of ``_LATER``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_LATER)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load_command(_LATER[cmd_name], cmd_name) if cmd_name in _LATER else None


@click.group("report", cls=_Commands)
def report() -> None:
    """See what registries cost, who shipped what, and how it stands."""


COMMANDS = [report]
