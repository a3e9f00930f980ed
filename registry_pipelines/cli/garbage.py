"""``collect garbage``: free what nothing refers to, or say who does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import click

from registry_pipelines.cli.approving import Lasting
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import REGISTRIES
from registry_pipelines.cli.output import console, print_lines, print_results, results_table, rows_table
from registry_pipelines.errors import InputError
from registry_pipelines.settings import Duration

LEAST_S = 60
"""A registry notes that a blob is asked for once in 30 seconds."""


@click.command("garbage", short_help="Free what nothing refers to any more.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.option("--dry-run", is_flag=True, help="Say what would go; nothing is removed.")
@click.option(
    "--unused",
    type=Lasting(),
    metavar="DURATION",
    help="Free what nobody used for so long (24h unless told); a push must end within that. 0s: nobody pushes.",
)
@click.option(
    "--check",
    type=click.File("rb"),
    metavar="FILE",
    help="Of docker-registry: see whether its own collector's dry run (- for stdin) would break a tag.",
)
@common
def garbage(options: Options, registry: str, dry_run: bool, unused: Duration | None, check: IO[bytes] | None) -> None:
    """Free blobs that no manifest needs, and uploads that nobody goes on with.

    For registries that we serve and for folders; no push waits for it. Of other registries it says who frees their
    bytes and when, and what their collectors break. Exit 6: a repository could not be read and was left alone. Exit 3:
    --check found what a tag needs.
    """
    if check is not None and (dry_run or unused is not None):
        raise InputError("--check takes neither --dry-run nor --unused")
    if unused is not None and 0 < unused.total_seconds() < LEAST_S:
        raise InputError(f"--unused is at least {LEAST_S} seconds", do="Write 0s where nobody pushes meanwhile")
    from registry_pipelines.chain import Chain

    with options.progress() as shown:
        chain = Chain(options.config(), progress=shown)  # nothing of it need be served for this
        if check is not None:
            result = chain.check_garbage(registry, _text(check))
        else:
            result = chain.garbage(registry, dry_run=dry_run, grace_s=_seconds(unused))
    if options.as_json:
        print_results([result])
    else:
        out = console()
        if result.rows:
            out.print(rows_table(result.rows, title="needed, and about to go" if check else result.subject))
        out.print(results_table([result]))
        print_lines([*result.reasons, *result.notes, *result.next_steps])
    if not result.ok:
        sys.exit(result.exit_code)


def _seconds(unused: Duration | None) -> float | None:
    return None if unused is None else unused.total_seconds()


def _text(file: IO[bytes]) -> str:
    from registry_pipelines.collect.collectors import MAX_CHECK_BYTES

    raw: bytes = file.read(MAX_CHECK_BYTES + 1)
    if len(raw) > MAX_CHECK_BYTES:
        raise InputError(f"the output is larger than {MAX_CHECK_BYTES} bytes", where=str(Path(file.name)))
    return raw.decode(errors="replace")
