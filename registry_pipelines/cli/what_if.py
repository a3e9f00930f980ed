"""``report transfer`` and ``report what-if``: what moves and what that costs, and what would change it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import REGISTRIES
from registry_pipelines.cli.output import console, print_lines, print_results, results_table, rows_table

_SENTENCES = ("arithmetic", "unknown", "size_of")
"""Columns that are told below the tables, where they have the room."""
_PRICES = click.option(
    "--prices", type=click.Path(path_type=Path), metavar="FILE", help="A price book of your own (JSON)."
)
_PULLS = click.option(
    "--pulls",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Pulls as CSV: registry,repository,pulls and, where known, digest, tag, edge.",
)
_DAYS = click.option(
    "--days", type=click.IntRange(1, 455), default=30, show_default=True, help="Whose pulls count, up to now."
)


@click.command("transfer", short_help="What images on the move cost a month, by edge.")
@click.argument("registries", nargs=-1, metavar="[REGISTRY]...", shell_complete=REGISTRIES)
@_DAYS
@_PULLS
@_PRICES
@common
def transfer(options: Options, registries: tuple[str, ...], days: int, pulls: Path | None, prices: Path | None) -> None:
    """What images on the move cost a month: pulls over the edges of `report.edges`, and copies to targets.

    Pulls are counted by --pulls, else by the events that `report audit` keeps, else by CloudWatch (ECR). What is not
    known is listed and in no sum. Exit 7: a source of pulls did not answer.
    """
    with options.chain() as chain:
        result = chain.transfer(registries, days=days, pulls=pulls, prices=prices)
    _show(options, result, "repositories")


def _show(options: Options, result: StageResult, *tables: str) -> None:
    if options.as_json:
        print_results([result])
    else:
        out = console()
        if result.rows:
            out.print(rows_table(_short(result.rows), title=result.stage))
        for name in tables:
            if rows := result.tables.get(name):
                out.print(rows_table(_short(rows), title=name))
        out.print(results_table([result]))
        lines = [f"{row.get('edge', '')}: {row['arithmetic']}" for row in result.rows if row.get("arithmetic")]
        print_lines([*lines, *result.reasons, *result.notes])
    if result.exit_code:
        sys.exit(result.exit_code)


def _short(rows: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Scalar]]:
    """Without sentences, which stand below the table."""
    return [{name: value for name, value in row.items() if name not in _SENTENCES} for row in rows]


COMMANDS = [transfer]
