"""A group of commands of which some are in other modules, which are loaded when they are called."""

from __future__ import annotations

from collections.abc import Mapping

import click

from registry_pipelines.cli import fail_with_nearest, load_command


class LaterGroup(click.Group):
    """The commands that are put into it, and those of ``later``: the module of this room by the command's name."""

    later: Mapping[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted; nothing is loaded."""
        return sorted({*super().list_commands(ctx), *self.later})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, whose module is loaded now."""
        if cmd_name not in self.later:
            return super().get_command(ctx, cmd_name)
        return load_command(self.later[cmd_name], cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, and it names the command that was meant."""
        if args[0] not in (names := self.list_commands(ctx)):
            fail_with_nearest(ctx, args[0], names)
        return super().resolve_command(ctx, args)


__all__ = ["LaterGroup"]
