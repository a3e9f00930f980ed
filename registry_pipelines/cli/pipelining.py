"""``report pipelines``: files for CI systems."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import names_of
from registry_pipelines.cli.output import console, print_lines, print_results, results_table, rows_table


@click.command("pipelines", short_help="Write pipelines for CI systems.")
@click.argument("names", nargs=-1, shell_complete=names_of("pipelines"))
@click.option(
    "--to",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="FOLDER",
    help="The repository's root; the folder with `.git` above the configuration unless told.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 3 where a file is missing or other.")
@click.option("--over", is_flag=True, help="Lose lines that were changed outside of the marks `yours`.")
@common
def pipelines(options: Options, names: tuple[str, ...], to: Path | None, check: bool, over: bool) -> None:
    """Write what `pipelines` of the configuration says (NAMES; all unless told) as files of its CI system, one for each
    image: build, index, scan and sign by a role instead of keys, when files change that the image is made of. The
    version tag hands over to whoever watches it.

    What people wrote between the marks `yours` of a file stays. Nothing is asked of a registry.
    """
    from registry_pipelines.chain import Chain

    chain = Chain(options.config())
    result = chain.pipelines(names, folder=to, check=check, over=over)
    if options.as_json:
        print_results([result])
    else:
        console().print(rows_table(result.rows, title="pipelines"))
        console().print(results_table([result]))
        print_lines([*result.reasons, *result.notes, *result.next_steps])
    if not result.ok:
        sys.exit(result.exit_code)


COMMANDS = [pipelines]
