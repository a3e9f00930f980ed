"""``inventory``: what registries hold, as one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import REGISTRIES, names_of
from registry_pipelines.cli.output import show_result

if TYPE_CHECKING:
    from registry_pipelines.inventory.from_ecr import Manifests

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
    help="Manifests of ECR that are read beside its lists: of indexes unless told; all count layers.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help=f"Write it: {', '.join(FORMS)}.")
@common
def inventory(
    options: Options, registries: tuple[str, ...], repositories: tuple[str, ...], manifests: str, output: Path | None
) -> None:
    """List every image that registries hold; all registries of the configuration unless named.

    ECR and Artifact Registry are asked by their own lists, which have untagged images, too. Exit 7: something could not
    be read; it is named in the table and in the file.
    """
    if output is not None and output.suffix not in FORMS:
        raise click.BadParameter(f"the file ends in {', '.join(FORMS)}", param_hint="--output")
    with options.chain() as chain:
        found, result = chain.inventory(registries, repositories=repositories, manifests=_manifests(manifests))
    if output is not None:
        found.write(output)
    show_result(result, as_json=options.as_json)
    if result.exit_code:
        sys.exit(result.exit_code)


@click.command("usage")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...", shell_complete=names_of("usage"))
@common
def usage(options: Options, sources: tuple[str, ...]) -> None:
    """Show which images run, and where, by the sources of `usage` in the configuration.

    `collect` keeps these. Exit 7: a source does not answer; nothing is deleted then.
    """
    with options.chain() as chain:
        result = chain.usage(sources)
    show_result(result, as_json=options.as_json)
    if result.exit_code:
        sys.exit(result.exit_code)


def _manifests(text: str) -> Manifests:
    return "none" if text == "none" else "all" if text == "all" else "indexes"


COMMANDS = [inventory, usage]
