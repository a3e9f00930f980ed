"""``stream measure``: how long a release takes to start."""

from __future__ import annotations

import sys

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.releases import answer
from registry_pipelines.errors import LocalError


@click.command("measure", short_help="Measure how long a release takes to start here, and attach that.")
@click.argument("release", metavar="IMAGE[:TAG]", shell_complete=IMAGES)
@common
def measure(options: Options, release: str) -> None:
    """Start a release of the configuration on this machine, three times, each with nothing of it here, and attach the
    medians, signed by the indexer: seconds until its first output, and until it has started as `stream.record` says.

    It is run without network and credentials, within the limits of `stream.record`, and only when its verdict is
    allow. A policy may have a limit (`max_start_time`). What differs little from the measurement before is not attached
    again. Exit 9: this machine cannot start it.
    """
    with options.chain() as chain:
        result = chain.measure(chain.find_release(release))
    answer(options, result)
    if not result.facts["platforms_covered"]:
        sys.exit(LocalError.exit_code)


COMMANDS = [measure]
