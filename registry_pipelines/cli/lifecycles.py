"""``lifecycle``: the clouds' own cleanup policies, checked, explained, previewed and converted; nothing is deleted."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import REGISTRIES
from registry_pipelines.cli.output import console, print_lines, print_results, results_table, rows_table, show_result
from registry_pipelines.errors import EvidenceError, InputError, LocalError

if TYPE_CHECKING:
    from registry_pipelines.chain import StageResult
    from registry_pipelines.inventory.value import Inventory

POLICY = click.argument("policy", type=click.Path(path_type=Path, dir_okay=False), metavar="POLICY")
KIND = click.option("--kind", type=click.Choice(["ecr", "gar"]), help="Whose policy it is; seen by its form.")
REGISTRY = click.argument("registry", required=False, shell_complete=REGISTRIES)
INVENTORY = click.option(
    "--inventory",
    "inventory_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Images of this inventory (Parquet, of `inventory --output`).",
)
REPOSITORIES = click.option(
    "--repository", "repositories", multiple=True, metavar="PATTERN", help="Only these repositories; repeatable."
)


@click.group("lifecycle")
def lifecycle_group() -> None:
    """Say what a cloud's own cleanup policy does, image by image; nothing is deleted."""


@lifecycle_group.command("check", short_help="Check a policy by its cloud's grammar.")
@click.argument(
    "policies", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="POLICY..."
)
@KIND
@common
def check(options: Options, policies: tuple[Path, ...], kind: str | None) -> None:
    """Check files of ECR's lifecycle policies and Artifact Registry's cleanup policies; every error at once.

    Exit 8: a cloud would refuse one. No cloud is asked.
    """
    from registry_pipelines.chain.lifecycle import checked

    results = [checked(path, kind=kind or "") for path in policies]
    if options.as_json:
        print_results(results)
    else:
        for result in results:
            show_result(result, as_json=False)


@lifecycle_group.command("explain", short_help="Say for each image what a policy does to it, and why.")
@POLICY
@REGISTRY
@INVENTORY
@REPOSITORIES
@click.option("--all", "everything", is_flag=True, help="Also images that stay.")
@click.option("--immutable-tags", is_flag=True, help="Artifact Registry's repository has immutable tags.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write every image: .parquet or .csv.")
@KIND
@common
def explain(
    options: Options,
    policy: Path,
    registry: str | None,
    inventory_file: Path | None,
    repositories: tuple[str, ...],
    everything: bool,
    immutable_tags: bool,
    output: Path | None,
    kind: str | None,
) -> None:
    """Say for each image of REGISTRY, or of an inventory, what POLICY does to it, by which rule, and why.

    What the documents of the clouds leave open is called undecided, and stays.
    """
    from registry_pipelines.chain.lifecycle import evaluate, explained, load_policy, write_evaluation

    read = load_policy(policy, kind=kind or "")
    inventory = _inventory(options, registry, inventory_file, repositories)
    now = datetime.now(UTC)
    result = explained(
        read, inventory, subject=str(policy), now=now, everything=everything, immutable_tags=immutable_tags
    )
    if output is not None:
        write_evaluation(read, evaluate(read, inventory, now=now, immutable_tags=immutable_tags), output)
    if options.as_json:
        print_results([result])
    else:
        _show(result)
    if result.exit_code:
        sys.exit(result.exit_code)


@lifecycle_group.command("preview", short_help="Hold what we say of a policy against AWS's own preview.")
@POLICY
@click.argument("registry", metavar="REGISTRY", shell_complete=REGISTRIES)
@REPOSITORIES
@common
def preview(options: Options, policy: Path, registry: str, repositories: tuple[str, ...]) -> None:
    """Ask AWS for its own preview of POLICY in each repository of REGISTRY, and show every difference from ours.

    Nothing is deleted, and the repositories' own policies stay. Exit 6: AWS says otherwise of an image that was not
    undecided.
    """
    from registry_pipelines.chain.lifecycle import load_policy
    from registry_pipelines.lifecycle.ecr_policy import EcrPolicy

    read = load_policy(policy)
    if not isinstance(read, EcrPolicy):
        raise InputError("only AWS has a preview of its own", do="`lifecycle explain` says what this policy does")
    with options.chain() as chain:
        result = chain.preview_lifecycle(read, registry, repositories)
    show_result(result, as_json=options.as_json)
    if not result.ok:
        sys.exit(result.exit_code or INCOMPLETE)


@lifecycle_group.command("convert", short_help="Write a policy for the other cloud.")
@POLICY
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the policy there.")
@KIND
@common
def convert(options: Options, policy: Path, output: Path | None, kind: str | None) -> None:
    """Write ECR's POLICY as Artifact Registry's, or the other way, with everything that does not translate.

    It never deletes more than before. Exit 3: nothing of it can be said there.
    """
    from registry_pipelines.chain.lifecycle import converted, load_policy

    result, text = converted(load_policy(policy, kind=kind or ""), subject=str(policy))
    if output is not None and text:
        try:
            output.write_text(text + "\n")
        except OSError as error:
            raise LocalError(f"the policy cannot be written: {error.strerror}", where=str(output)) from error
    show_result(result, as_json=options.as_json)
    if text and output is None and not options.as_json:
        click.echo(text)
    if not result.ok:
        sys.exit(EvidenceError.exit_code)


def _show(result: StageResult) -> None:
    out = console()
    out.print(results_table([result]))
    out.print(rows_table(result.tables["rules"], title="by rule"))
    if result.rows:
        out.print(rows_table(result.rows, title="by image"))
    print_lines([*result.reasons, *result.notes])


def _inventory(options: Options, registry: str | None, path: Path | None, repositories: tuple[str, ...]) -> Inventory:
    """What the options name. Raises InputError."""
    if (registry is None) == (path is None):
        raise InputError(
            "images come from one REGISTRY, or from --inventory FILE",
            do="Name one of them; `inventory --output FILE` writes such a file",
        )
    if registry is not None:
        with options.chain() as chain:
            found, _ = chain.inventory([registry], repositories=repositories)
            return found
    from registry_pipelines.collect.rules import matches
    from registry_pipelines.inventory.needed import need_tables

    need_tables()
    from registry_pipelines.inventory.value import read

    found = read(cast(Path, path))
    if not repositories:
        return found
    return found.only([matches(name, repositories) for name in found.frame["repository"]])


COMMANDS = [lifecycle_group]
