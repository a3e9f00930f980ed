"""Names of the configuration, for completion in a shell: no network, and silence where anything is wrong."""

from __future__ import annotations

from collections.abc import Callable

import click

from registry_pipelines.cli.context import Options

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def names_of(*sections: str) -> Complete:
    """What a parameter's ``shell_complete`` takes: completes to names of these sections. The configuration is that of
    ``--config`` where it was typed before, else the usual one; a shell that completes shows no errors."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            config = Options(config_file=ctx.params.get("config_file")).config_if_any()
            names = {name for section in sections for name in (getattr(config, section) if config else ())}
        except Exception:  # whatever it is, the command that is then run says it
            return []
        return sorted(name for name in names if name.startswith(incomplete))

    return complete


IMAGES = names_of("images")
"""Images, of which releases are named."""

REGISTRIES = names_of("registries")
"""Registries alone."""

PLACES = names_of("images", "registries")
"""What can be listed."""
