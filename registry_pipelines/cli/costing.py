"""``report cost`` and ``report prices``: what registries cost, whose that is, and by which prices."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from registry_pipelines.chain import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import REGISTRIES
from registry_pipelines.cli.output import console, print_alerts, print_lines, print_results, results_table, rows_table
from registry_pipelines.errors import EvidenceError

PRICES = click.option("--prices", type=click.Path(path_type=Path), metavar="FILE", help="A price book of your own.")


@click.command("cost", short_help="Say what registries cost a month, and whose that is.")
@click.argument("registries", nargs=-1, metavar="[REGISTRY]...", shell_complete=REGISTRIES)
@click.option(
    "--by",
    type=click.Choice(["registry", "team", "repository", "image", "class"]),
    help="What rows are of: teams where the configuration names some, else repositories.",
)
@click.option(
    "--months", type=click.IntRange(0, 120), default=6, metavar="N", help="Months of the trend from kept runs; 6."
)
@click.option(
    "--from",
    "stored",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="An inventory's Parquet file in place of the registries.",
)
@click.option(
    "--manifests",
    type=click.Choice(["auto", "all"]),
    help="Manifests that are read in clouds; see `report.manifests`. ECR counts each as a pull.",
)
@PRICES
@common
def cost(
    options: Options,
    registries: tuple[str, ...],
    by: str | None,
    months: int,
    stored: Path | None,
    manifests: str | None,
    prices: Path | None,
) -> None:
    """Say what registries cost a month: storage with shared layers split fairly, what would be freed, and scans.

    All registries of the configuration unless named; such a run is kept, and the trend is made of kept runs. A figure
    with ? rests on a price that is old, unsure or missing, or on what could not be read. Exit 3: above
    `report.budget`, or nobody knows; 7: not all could be read.
    """
    with options.chain() as chain:
        result = chain.cost(
            registries, stored=stored, by=by or "", months=months, prices=prices, manifests=manifests or ""
        )
        over = [] if registries or stored else chain.over_budget(result)
    if options.as_json:
        print_results([_over(result, over)])
    else:
        show_cost(result)
        print_lines(over)
    if result.exit_code or over:
        sys.exit(result.exit_code or EvidenceError.exit_code)


def _over(result: StageResult, over: list[str]) -> StageResult:
    code = result.exit_code or (EvidenceError.exit_code if over else 0)
    return replace(result, reasons=[*result.reasons, *over], ok=result.ok and not over, exit_code=code)


def show_cost(result: StageResult) -> None:
    """A result of ``Chain.cost`` for people; the demonstration ends with it, too."""
    print_alerts(result.alerts)
    out = console()
    out.print(results_table([result]))
    out.print(rows_table(_shown(result.rows), title=f"a month, in {result.facts['currency']}", width=out.width))
    if result.tables["months"]:
        out.print(rows_table(_shown(result.tables["months"]), title="month by month", width=out.width))
    print_lines([LEGEND, *result.reasons, *result.notes])


LEGEND = (
    "needed: what it would take alone; fair: its part of the bill, shared layers split; freed: what would go with it"
)


def _shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for people: money with two digits, ``?`` behind what is in doubt; why stands above the table."""
    rows = list(rows)
    silent = {"doubt"} if any(row.get("unpriced_bytes") for row in rows) else {"doubt", "unpriced_bytes"}
    return [
        {
            name: _money(value, row) if name.endswith("usd_per_month") else value
            for name, value in row.items()
            if name not in silent
        }
        for row in rows
    ]


def _money(value: Any, row: Mapping[str, Any]) -> str:
    if value == "":
        return "not known"
    digits = 2 if value == 0 or value >= 0.01 else 4
    return f"{value:.{digits}f}{'?' if value and row['doubt'] else ''}"


@click.command("prices", short_help="Show the price book: how old it is, what is unsure, and what is missing.")
@click.option("--refresh", is_flag=True, help="Ask AWS's and Google's price lists, and write --to.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Book of your own that --refresh writes; `report.prices` unless told.",
)
@PRICES
@common
def prices(options: Options, refresh: bool, to: Path | None, prices: Path | None) -> None:
    """Show the price book with the date and the doubts of each price, and what registries of the configuration need
    that it lacks.

    --refresh asks the clouds whose registries the configuration has, with their credentials, and writes a whole book:
    what a price list does not say stays as it was, with its own date. Exit 7: a cloud did not answer.
    """
    if to and not refresh:
        raise click.UsageError("--to goes with --refresh")
    with options.chain() as chain:
        result = chain.refresh_prices(to=to, prices=prices) if refresh else chain.prices(prices)
    if options.as_json:
        print_results([result])
    else:
        print_alerts(result.alerts)
        console().print(results_table([result]))
        console().print(rows_table(result.rows, limit=500))
        print_lines([*result.reasons, *result.notes])
    if result.exit_code:
        sys.exit(result.exit_code)


COMMANDS = [cost, prices]
