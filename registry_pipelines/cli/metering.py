"""``report metrics``: numbers about registries, for programs that draw and alarm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from registry_pipelines import interrupts
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json, print_json_now
from registry_pipelines.cli.output import console, print_results, results_table, rows_table

if TYPE_CHECKING:
    from registry_pipelines.chain import Chain, StageResult
    from registry_pipelines.report.metrics.settings import Destination

SHOWN = 40
"""Rows of the table; --json has all."""
EVERY_S = 300


@click.command(
    "metrics", short_help="Count what registries hold and how old things are, and tell who draws and alarms."
)
@click.option(
    "--to",
    multiple=True,
    type=click.Choice(["prometheus", "cloudwatch", "monitoring", "otlp"]),
    help="Who is told; repeatable. Those of report.metrics.to unless told.",
)
@click.option("--no-send", is_flag=True, help="Tell nobody: show what would be told.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.prom",
    help="Also write a file for the node exporter's textfile collector.",
)
@click.option(
    "--from",
    "inventory",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="INVENTORY",
    help="A file that `inventory --output` wrote; no registry is listed then.",
)
@click.option(
    "--listen", default="", metavar="HOST:PORT", help="Answer scrapes of Prometheus at /metrics, until ended."
)
@click.option(
    "--every",
    "every_s",
    type=click.IntRange(10, 86_400),
    default=EVERY_S,
    show_default=True,
    metavar="SECONDS",
    help="With --listen: numbers are collected again once they are so old.",
)
@click.option(
    "--dashboards",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write dashboards (Grafana, CloudWatch, Cloud Monitoring) and Prometheus' alert rules instead.",
)
@common
def metrics(
    options: Options,
    to: tuple[str, ...],
    no_send: bool,
    file: Path | None,
    inventory: Path | None,
    listen: str,
    every_s: int,
    dashboards: Path | None,
) -> None:
    """Count what registries hold, how old mirrors, advisories, backups and packs are, how far targets are behind and
    how channels stand, and tell that to CloudWatch, Cloud Monitoring, Prometheus or a collector of OpenTelemetry.

    Kept inventories are used, and taken again where they are old. Exit 7: a source could not be read whole, or somebody
    could not be told; it is named, and all else is told.
    """
    if no_send and (to or file):
        raise click.BadParameter("it goes with neither --to nor --file", param_hint="--no-send")
    if dashboards is not None:
        _write(options, dashboards)
        return
    with options.chain() as chain:
        if listen:
            _listen(options, chain, listen, every_s, inventory)
            return
        wanted = () if no_send else (*to, *(["prometheus"] if file and "prometheus" not in to else []))
        named = cast("tuple[Destination, ...]", wanted) if wanted or no_send else None
        _show(options, chain.metrics(to=named, inventory=inventory, file=file))


def _show(options: Options, result: StageResult) -> None:
    if options.as_json:
        print_results([result])
    else:
        samples = result.tables["samples"]
        console().print(rows_table(samples[:SHOWN], title="numbers"))
        if len(samples) > SHOWN:
            console().print(f"{len(samples) - SHOWN} more: --json", markup=False)
        if result.rows:
            console().print(rows_table(result.rows, title="told"))
        console().print(results_table([result]))
        for line in (*result.reasons, *result.notes):
            console().print(line, markup=False, soft_wrap=True)
    if result.exit_code:
        sys.exit(result.exit_code)


def _write(options: Options, folder: Path) -> None:
    from registry_pipelines.oci.files import local_errors, write_file

    with options.chain() as chain:
        files = chain.dashboards()
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_file(folder / name, content)
    paths = [str(folder / name) for name in files]
    if options.as_json:
        print_json({"files": paths})
        return
    for path in paths:
        click.echo(path)


def _listen(options: Options, chain: Chain, address: str, every_s: int, inventory: Path | None) -> None:
    from registry_pipelines.registry.embedded.running import serve
    from registry_pipelines.report.metrics.prometheus import PATH, metrics_server

    def announce(url: str) -> None:
        if options.as_json:
            print_json_now({"url": url})
        else:
            click.echo(f"{url} has the numbers")

    server = metrics_server(address, chain.scrape(every_s=every_s, inventory=inventory))
    interrupts.mark_wanted()
    serve([server], ready=lambda servers: announce(f"{servers[0].url}{PATH}"))


COMMANDS = [metrics]
