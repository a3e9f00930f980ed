"""What becomes of mounted images when ``node serve`` ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

MOST_PATIENCE_S = 24 * 3600.0

Command = Callable[..., Any]


def keeping(command: Command) -> Command:
    """``--patience`` and ``--end-mounts``."""
    command = click.option(
        "--end-mounts",
        is_flag=True,
        help="Take all mounts away at the end: containers that run get errors. Else the next agent goes on with them.",
    )(command)
    return click.option(
        "--patience",
        type=click.FloatRange(0, MOST_PATIENCE_S),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="How long reads of mounted images wait for the next agent, before they end with errors.",
    )(command)


__all__ = ["keeping"]
