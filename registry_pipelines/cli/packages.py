"""``packages``: indexes of Python packages, and wheels published to them."""

from __future__ import annotations

from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import names_of
from registry_pipelines.errors import InputError

INDEXES = names_of("packages")


@click.group("packages")
def packages_group() -> None:
    """Show where Python packages come from, and publish some."""


@packages_group.command("list", short_help="List the package indexes of the configuration.")
@common
def list_(options: Options) -> None:
    """List the package indexes of the configuration, and which images take wheels from them. None is asked."""
    with options.chain() as chain:
        result = chain.list_packages()
    from registry_pipelines.cli.releases import answer

    answer(options, result)


@packages_group.command("check", short_help="Ask package indexes, and say what comes from where.")
@click.argument("projects", metavar="[PROJECT]...", nargs=-1)
@click.option(
    "--index", "indexes", multiple=True, metavar="NAME", shell_complete=INDEXES, help="These indexes, in this order."
)
@common
def check(options: Options, projects: tuple[str, ...], indexes: tuple[str, ...]) -> None:
    """Ask whether package indexes answer with the log-ins that are known here, and from which one each PROJECT would
    come; without any, those that indexes name (`names`).

    Says where a public index has a private project's name. Exit 3: an index does not answer, or no index may give a
    project.
    """
    with options.chain() as chain:
        result = chain.check_packages(projects, indexes)
    from registry_pipelines.cli.releases import answer

    answer(options, result)


@packages_group.command("publish", short_help="Publish wheels to an index.")
@click.argument("places", metavar="[WHEEL|DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--to", default="", metavar="NAME", shell_complete=INDEXES, help="Index of the configuration.")
@click.option(
    "--package",
    default="",
    metavar="NAME",
    shell_complete=names_of("python_packages"),
    help="Build this package of `python_packages` and publish its wheel.",
)
@common
def publish(options: Options, places: tuple[Path, ...], to: str, package: str) -> None:
    """Publish wheels, or all wheels of folders, to a package index, with the attestations that lie beside them
    (WHEEL.publish.attestation). A wheel that is there already is not sent again; exit 6: another content is there under
    its name.
    """
    if bool(package) == bool(places or to) or (not package and not (places and to)):
        raise InputError("what is published is said in one of two ways", do="Give wheels and --to, or --package alone")
    with options.chain() as chain:
        result = chain.make_package(package) if package else chain.publish_packages(places, to)
    from registry_pipelines.cli.releases import answer

    answer(options, result)


COMMANDS = [packages_group]
