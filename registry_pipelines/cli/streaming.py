"""``stream``: images that start before they are fetched whole; for releases of the configuration and for any image."""

from __future__ import annotations

import sys

import click

from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_lines, print_results, rows_table
from registry_pipelines.cli.references import named
from registry_pipelines.errors import ContentError

TARGET = (
    "TARGET is a release of the configuration (image:tag, image@digest, its key, or the image alone when it has one "
    "release), or any image reference."
)


@click.group("stream")
def stream_group() -> None:
    """Let images start before they are fetched whole."""


@stream_group.command("check", epilog=TARGET, short_help="Say what keeps an image from it.")
@click.argument("target", shell_complete=IMAGES)
@common
def check(options: Options, target: str) -> None:
    """Say what keeps an image from starting before it is fetched whole. Nothing is written.

    Severities: error (what was made for it is broken, or cannot be trusted), warning (layers are fetched whole),
    unknown (only somebody else can tell), hint. Exit 6: an error.
    """
    from registry_pipelines.chain.stream import check as checked

    with named(options, [target]) as locate:
        located = locate(target)
        result = checked(located.place, located.selector, subject=target)
    if options.as_json:
        print_results([result])
    else:
        _show_check(result)
    if not result.ok:
        sys.exit(result.exit_code or ContentError.exit_code)


_CHECK_COLUMNS = ("severity", "reader", "platform", "layer", "what")


def _show_check(result: StageResult) -> None:
    out = console()
    out.print(f"{result.subject} {result.digest}: {result.action}", markup=False, soft_wrap=True)
    if result.rows:
        rows = [{name: row[name] for name in _CHECK_COLUMNS} for row in result.rows]
        out.print(rows_table(rows, limit=len(rows)))
    print_lines(
        dict.fromkeys(f"{str(row['what']).partition(':')[0]}: {row['why']}. {row['do']}" for row in result.rows)
    )


COMMANDS = [stream_group]
