"""``ship``: one release through the whole chain, with one table."""

from __future__ import annotations

import sys
from typing import cast

import click

from registry_pipelines.chain.ship import STAGES, Shipment, Stage
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    bare_digest,
    console,
    print_alerts,
    print_next_steps,
    print_verdict,
    stage_table,
)
from registry_pipelines.progress import condensed, size_text

BEFORE_THE_VERDICT = ("vulnerabilities", "sign", "judge")
"""Stages whose reasons the verdict repeats."""

_STYLES = {"ok": "green", "denied": "red", "held": "yellow", "failed": "red", "skipped": "dim"}


@click.command("ship")
@click.argument("release", metavar="IMAGE[:TAG]", shell_complete=IMAGES)
@click.option(
    "--until", type=click.Choice(STAGES), default=STAGES[-1], metavar="STAGE", help=f"Last stage: {', '.join(STAGES)}."
)
@common
def ship(options: Options, release: str, until: str) -> None:
    """Take one release through the whole chain: build, index, scan, sign, judge, promote, copy to targets and
    mirrors. Indexed or derived is what has `stream` in the configuration.

    IMAGE alone is the version that the configuration builds, or the only release there is. What is there already stays
    as it is: killed in the middle, the same command does the rest. Exit 3: denied, and nothing was copied. Exit 6:
    promoted, but not everywhere. Any other code is that of the stage that failed.
    """
    with options.chain() as chain:
        shipment = chain.ship(release, until=cast(Stage, until))
    if options.as_json:
        print_json(shipment.plain())
    else:
        show(shipment)
    if shipment.exit_code:
        sys.exit(shipment.exit_code)


def show(shipment: Shipment) -> None:
    """One table, what is to be said about its rows, and how it ended."""
    from rich.markup import escape

    out = console()
    print_alerts(alert for step in shipment.steps for alert in step.result.alerts)
    if shipment.release:
        out.print(shipment.release.key, markup=False, soft_wrap=True)
    table = stage_table("", "stage")
    for step in shipment.steps:
        result = step.result
        table.add_row(
            escape(result.stage),
            escape(result.action),
            bare_digest(result.digest),
            size_text(result.bytes_moved),
            f"{result.seconds:.1f}",
            f"[{_STYLES[step.status]}]{step.outcome}[/]",
        )
    if shipment.steps:
        out.print(table)
    verdict = next((step.result for step in shipment.steps if step.result.stage == "judge" and step.result.rows), None)
    there = {row["text"] for row in verdict.rows} if verdict else set()
    for step in shipment.steps:
        repeated = verdict is not None and step.result.stage in BEFORE_THE_VERDICT
        said = [*(() if repeated else step.result.reasons), *step.result.notes]
        for line in condensed(each for each in said if each not in there):
            out.print(f"- {step.result.stage}: {line}", markup=False, soft_wrap=True)
    print_verdict(verdict.rows if verdict else ())
    out.print(shipment.sentence, markup=False, soft_wrap=True)
    print_next_steps(shipment.next_steps)


COMMANDS = [ship]
