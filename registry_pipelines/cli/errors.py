"""Exit codes: one table for ``--help``, docs/cli.md and the process itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from registry_pipelines import errors, interrupts
from registry_pipelines.cli.envelope import keep_error
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.interrupts import is_interrupt

UNEXPECTED = 1
INCOMPLETE = errors.ContentError.exit_code
"""Copies are not as they should be: copy, sync, replicate, mirror, verify-copy. One that ends in an error of its own
(a copy of what does not exist, or of which a target fails; a sync whose targets are all unreachable) has the error's
code."""
INTERRUPTED = 130
"""128 + SIGINT, as shells say it; after another signal its number counts."""

EXIT_CODES: dict[int, str] = {
    0: "done; nothing is wrong",
    1: "unexpected failure; the registry does not offer the operation, or sends us where we do not go",
    2: "wrong usage of the command line",
    3: "denied: evidence is missing, does not verify, or the policy says no",
    4: "not found: tag, manifest, blob or repository",
    5: "credentials missing, wrong, or without the right",
    6: "content is not what it claims to be, or was refused; copies differ, are not whole, or a tag drifted",
    7: "registry unreachable; trying again may help",
    8: "wrong input: configuration, reference, requirements, advisories",
    9: "this machine cannot do it: disk full, port taken, tool missing, state locked",
    130: "interrupted (Ctrl-C)",
    143: "terminated (SIGTERM)",
}


def exit_code_table() -> str:
    """The table as it stands in ``--help``."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items())


def guarded(run: Callable[[], Any], *, as_json: bool, debug: bool) -> int:
    """Run a command and give its exit code; an error becomes one message on stderr (and JSON on stdout when asked).

    An unexpected exception is named by type with a hint; with ``debug`` its traceback is printed too.
    """
    try:
        run()
    except BaseException as error:
        if interrupts.caught() or isinstance(error, KeyboardInterrupt):  # also what it came to on the way here
            return say_interrupted(error if debug else None)
        if isinstance(error, BrokenPipeError):
            # The reader of our output (head, less) is gone: nothing is wrong, and Python must not say so at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort) or is_interrupt(type(error)):
            raise
        return _say_failed(error, as_json=as_json, debug=debug)
    return 0


def say_interrupted(error: BaseException | None = None) -> int:
    """One line on stderr; the exit code. error: to be shown with its traceback."""
    if error is not None:
        _say_traceback(error)
    interrupts.mark_announced()
    click.echo(interrupts.word(interrupts.caught()), err=True)
    return 128 + interrupts.caught() if interrupts.caught() else INTERRUPTED


def _say_failed(error: BaseException, *, as_json: bool, debug: bool) -> int:
    if isinstance(error, RegistryPipelinesError):
        _explain(str(error), error.diagnostics(), as_json=as_json, error=error, debug=debug)
        return error.exit_code
    text = f"unexpected {type(error).__name__}: {error}"
    hint = "This is a fault of the program; run again with --debug and report what it prints"
    facts = {"error": type(error).__name__, "what": text, "where": "", "do": hint}
    _explain(f"{text}. {hint}", facts, as_json=as_json, error=error, debug=debug)
    return UNEXPECTED


def _explain(text: str, facts: dict[str, str], *, as_json: bool, error: BaseException, debug: bool) -> None:
    from registry_pipelines.cli.output import (
        harmless,  # --help needs no tables,
    )

    if debug:
        _say_traceback(error)
    click.echo(harmless(f"error: {text}"), err=True)
    for note in getattr(error, "__notes__", ()):  # what became of the others, when one of several failed
        click.echo(harmless(f"- {note}"), err=True)
    if as_json:
        document: dict[str, Any] = dict(facts)
        if notes := getattr(error, "__notes__", ()):
            document["notes"] = list(notes)
        if isinstance(error, errors.ConfigInvalid | errors.LifecycleInvalid):
            document["problems"] = error.problems
        if isinstance(error, errors.PromotionDenied):
            document |= {"reasons": error.reasons, "next_steps": error.next_steps}
        keep_error(document)


def _say_traceback(error: BaseException) -> None:
    import traceback  # --help needs none

    click.echo("".join(traceback.format_exception(error)), err=True)
