"""``deploy``: what a channel names, rolled out to Cloud Run or a cluster, and read back there."""

from __future__ import annotations

import sys

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import names_of
from registry_pipelines.cli.output import (
    console,
    print_alerts,
    print_lines,
    print_next_steps,
    print_results,
    results_table,
    rows_table,
)
from registry_pipelines.errors import EvidenceError


@click.command("deploy")
@click.argument("name", shell_complete=names_of("deploy"))
@click.option("--release", default="", metavar="RELEASE", help="Only that one: image:tag, or its key.")
@click.option("--dry-run", is_flag=True, help="Only say what runs, and what would.")
@common
def deploy(options: Options, name: str, release: str, dry_run: bool) -> None:
    """Roll what a channel names out to where it runs, by digest, and read back what runs there.

    NAME: a deployment of the configuration (`deploy`). Only a release that its channel names and the gate lets go;
    to go back, promote the earlier one. Run again it goes on where it was ended, and confirms what runs.

    Exit 1: the release did not come up; what ran before runs again, unless `rollback` is off. Exit 3: the gate refuses,
    or did by the end.
    """
    with options.chain() as chain:
        wanted = chain.find_release(release) if release else None
        result = chain.deploy(name, wanted, dry_run=dry_run)
    if options.as_json:
        print_results([result])
    else:
        print_alerts(result.alerts)
        console().print(rows_table(result.rows, title="where it runs"))
        console().print(results_table([result]))
        print_lines([*result.reasons, *result.notes])
        print_next_steps(result.next_steps)
    if not result.ok:
        sys.exit(result.exit_code or EvidenceError.exit_code)


COMMANDS = [deploy]
