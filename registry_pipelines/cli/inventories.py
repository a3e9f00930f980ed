"""``inventory``: what registries hold, as one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import REGISTRIES, names_of
from registry_pipelines.cli.output import console, rows_table, show_result

if TYPE_CHECKING:
    from registry_pipelines.inventory.from_ecr import Manifests
    from registry_pipelines.inventory.value import Inventory

FORMS = (".parquet", ".csv", ".json")


@click.command("inventory")
@click.argument("registries", nargs=-1, metavar="[REGISTRY]...", shell_complete=REGISTRIES)
@click.option(
    "--repository", "repositories", multiple=True, metavar="PATTERN", help="Only these repositories; repeatable."
)
@click.option(
    "--manifests",
    type=click.Choice(["none", "indexes", "all"]),
    default="indexes",
    help="Manifests that are read beside the lists of clouds: ECR's indexes unless told; all tell layers.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help=f"Write it: {', '.join(FORMS)}.")
@click.option(
    "--since",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="An older inventory of the same: what came, what went, which tags moved.",
)
@click.option("--cost", is_flag=True, help="What storage costs a month, by repository.")
@click.option("--prices", type=click.Path(path_type=Path), metavar="FILE", help="A price book of your own (JSON).")
@common
def inventory(
    options: Options,
    registries: tuple[str, ...],
    repositories: tuple[str, ...],
    manifests: str,
    output: Path | None,
    since: Path | None,
    cost: bool,
    prices: Path | None,
) -> None:
    """List every image that registries hold; all registries of the configuration unless named.

    ECR and Artifact Registry are asked by their own lists, which have untagged images, too. Exit 7: something could not
    be read; it is named in the table and in the file.
    """
    if output is not None and output.suffix not in FORMS:
        raise click.BadParameter(f"the file ends in {', '.join(FORMS)}", param_hint="--output")
    from registry_pipelines.chain.inventory_uses import with_changes

    before = _older(since) if since else None
    with options.chain() as chain:
        found, result = chain.inventory(registries, repositories=repositories, manifests=_manifests(manifests))
    if output is not None:
        found.write(output)
    if before is not None:
        result = with_changes(result, before, found)
    if cost or prices:
        result = chain.with_costs(result, found, prices=prices)
    show_result(result, as_json=options.as_json)
    for name, rows in result.tables.items():
        if rows and not options.as_json:
            console().print(rows_table(rows, title=name))
    if result.exit_code:
        sys.exit(result.exit_code)


@click.command("usage")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...", shell_complete=names_of("usage"))
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keep it, for a source of kind `file` where the clusters cannot be asked.",
)
@common
def usage(options: Options, sources: tuple[str, ...], save: Path | None) -> None:
    """Show which images run, and where, by the sources of `usage` in the configuration.

    `collect` keeps these. Exit 7: a source does not answer; what it could speak of is not deleted then.
    """
    with options.chain() as chain:
        result = chain.usage(sources, save=save)
    show_result(result, as_json=options.as_json)
    if not options.as_json:
        console().print(rows_table(result.tables["sources"], title="sources, and what each could stop"))
    if result.exit_code:
        sys.exit(result.exit_code)


def _older(path: Path) -> Inventory:
    from registry_pipelines.inventory.needed import need_tables

    need_tables()
    from registry_pipelines.inventory.value import read

    return read(path)


def _manifests(text: str) -> Manifests:
    return "none" if text == "none" else "all" if text == "all" else "indexes"


COMMANDS = [inventory, usage]
