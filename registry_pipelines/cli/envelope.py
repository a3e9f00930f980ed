"""What ``--json`` prints: one document on stdout, in one shape for every command, when the command has ended.

A command gives its own part to :func:`print_json`; what ended it is added here. ``answers`` describes that part.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

_RESULT, _ERROR, _PRINTED = (f"{__name__}.{name}" for name in ("result", "error", "printed"))


def print_json(result: Any) -> None:
    """What the command answers, for ``result`` of the document that is printed when it ends."""
    click.get_current_context().meta[_RESULT] = result


def print_json_now(result: Any) -> None:
    """The whole document now, for a command that stays; what ends it is told on stderr alone."""
    context = click.get_current_context()
    print_json(result)
    _write(context, 0)
    context.meta[_PRINTED] = True


def keep_error(error: dict[str, Any]) -> None:
    """What ended the command."""
    click.get_current_context().meta[_ERROR] = error


def print_document(exit_code: int) -> None:
    """The document of a command that ends, once; nothing where it has neither answered nor failed (interrupted)."""
    context = click.get_current_context()
    if (_RESULT in context.meta or _ERROR in context.meta) and _PRINTED not in context.meta:
        _write(context, exit_code)


def _write(context: click.Context, exit_code: int) -> None:
    document = {
        "command": context.command_path.partition(" ")[2],
        "ok": exit_code == 0,
        "exit_code": exit_code,
        "error": context.meta.get(_ERROR),
        "result": context.meta.get(_RESULT),
    }
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    sys.stdout.flush()
