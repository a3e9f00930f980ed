"""``infra``: settings of registries in clouds, planned, applied, looked after, and written down from what is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES, REGISTRIES, names_of
from registry_pipelines.cli.output import console, print_lines, print_results, results_table, rows_table
from registry_pipelines.cli.terraforming import terraform
from registry_pipelines.errors import EvidenceError, InputError, LocalError

if TYPE_CHECKING:
    from registry_pipelines.infra.plan import Plan

DECLARED = names_of("infra")
COLUMNS = (
    "action", "kind", "name", "field", "found", "wanted", "state", "told",
    "image", "edge", "channel", "way", "lag_s", "took_s", "why",
)  # fmt: skip


@click.group("infra")
def infra_group() -> None:
    """Set registries in clouds as `infra` of the configuration declares."""


@infra_group.command("plan", short_help="Show what would change; changes nothing.")
@click.argument("registry", required=False, shell_complete=DECLARED)
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the plan of one REGISTRY as JSON, for approval.",
)
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="Show what a saved plan has otherwise."
)
@common
def plan(options: Options, registry: str | None, save: Path | None, against: Path | None) -> None:
    """Show what would change, field by field, and what is there that nobody declared. Changes nothing.

    REGISTRY: all that `infra` declares, unless given. Exit code 3: something is declared that cannot be done.
    """
    from registry_pipelines.chain.infra import describe

    if (save or against) and registry is None:
        raise InputError("--save and --against need a REGISTRY: a plan is of one")
    with options.chain() as chain:
        plans = [chain.plan_infra(name) for name in _names(chain, registry)]
    if save is not None:
        _write(save, plans[0].to_json().encode())
    results = [describe(each) for each in plans]
    if against is not None:
        _differences(options, _read(against), plans[0])
    else:
        _show(options, results)
    _end(results)


@infra_group.command("apply", short_help="Change what is not as declared.")
@click.argument("registry", required=False, shell_complete=DECLARED)
@click.option("--plan", "approved", type=click.Path(path_type=Path), metavar="FILE", help="Apply this saved plan.")
@common
def apply(options: Options, registry: str | None, approved: Path | None) -> None:
    """Change what is not as declared, and nothing else; started again it does what is left.

    With --plan what that plan says, as far as what is there is still what it was made from. Exit code 3: something
    could not be done.
    """
    if approved is not None and registry is None:
        raise InputError("--plan needs a REGISTRY: a plan is of one")
    with options.chain() as chain:
        saved = _read(approved) if approved else None
        results = [chain.apply_infra(name, saved) for name in _names(chain, registry)]
    _show(options, results)
    _end(results)


@infra_group.command("drift", short_help="Say what is not as declared.")
@click.argument("registry", required=False, shell_complete=DECLARED)
@common
def drift(options: Options, registry: str | None) -> None:
    """Say what is not as declared. Exit code 3: something is not, or could not be compared."""
    with options.chain() as chain:
        results = [chain.drift(name) for name in _names(chain, registry)]
    _show(options, results)
    _end(results)


@infra_group.command("import", short_help="Write down what is there, as it would be declared.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("infra"), show_default=True,
    help="Where the section and its policy files are written; beside the configuration unless absolute.",
)  # fmt: skip
@click.option(
    "--from-terraform", "sources", type=click.Path(path_type=Path), metavar="FILE", multiple=True,
    help="Read this state, output of `terraform show -json` or *.tf.json in place of the cloud; may be repeated.",
)  # fmt: skip
@common
def import_settings(options: Options, registry: str, folder: Path, sources: tuple[Path, ...]) -> None:
    """Write what is there of a REGISTRY as it would be declared: FOLDER/REGISTRY.yaml, and its policies as files.

    Put the section into the configuration; `infra plan` then has nothing to change. Nothing is changed in the cloud.
    """
    with options.chain() as chain:
        base = chain.config.path.parent
        written = folder if folder.is_absolute() else base / folder
        name = str(written.relative_to(base)) if written.is_relative_to(base) else str(written)
        terraform = {str(path): _content(path) for path in sources}
        text, files, notes = chain.import_infra(registry, folder=name, terraform=terraform)
    paths = {base / path: content for path, content in files.items()}
    paths[written / f"{registry}.yaml"] = text.encode()
    for path, content in sorted(paths.items()):
        _write(path, content)
    if options.as_json:
        print_json({"files": sorted(map(str, paths)), "notes": notes})
        return
    console().print(text, markup=False, soft_wrap=True)
    print_lines([*(f"written: {path}" for path in sorted(paths)), *notes])


@infra_group.command("edges", short_help="Show the way of each image to each target, and how far it is behind.")
@click.argument("images", nargs=-1, shell_complete=IMAGES)
@click.option("--lag", is_flag=True, help="Ask the registries how far each target is behind.")
@common
def show_edges(options: Options, images: tuple[str, ...], lag: bool) -> None:
    """Show which way each image takes to each target, replicated by ECR itself or copied by us, and why.

    IMAGES: all unless named. Exit code 3 with --lag: a target is behind longer than its `max_lag`, or cannot be asked.
    """
    with options.chain() as chain:
        results = [chain.replication_lag(images) if lag else chain.ways(images)]
    _show(options, results)
    _end(results)


def _names(chain: Chain, registry: str | None) -> list[str]:
    names = [registry] if registry else chain.registries_with_settings()
    if not names:
        raise InputError("the configuration declares no settings", do="Add `infra`; `infra import REGISTRY` writes it")
    chain.check_infra(names)
    return names


def _read(path: Path) -> Plan:
    from registry_pipelines.infra.plan import MAX_PLAN_BYTES, Plan

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PLAN_BYTES + 1)
        return Plan.from_json(raw.decode())
    except OSError as error:
        raise InputError(f"the plan cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not a plan of settings", where=str(path)) from error


def _content(path: Path) -> bytes:
    from registry_pipelines.infra.terraform.reading import MAX_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise LocalError(f"the file cannot be written: {error.strerror}", where=str(path)) from error


def _differences(options: Options, saved: Plan, made: Plan) -> None:
    from registry_pipelines.infra.plan import difference_of

    lines = difference_of(saved, made)
    if options.as_json:
        print_json({"registry": made.place, "lines": lines})
        return
    for line in lines or ["both plans say the same"]:
        console().print(line, markup=False, soft_wrap=True)


def _show(options: Options, results: list[StageResult]) -> None:
    if options.as_json:
        print_results(results)
        return
    out = console()
    for result in results:
        if result.rows:
            rows = [{name: row[name] for name in COLUMNS if name in row} for row in result.rows]
            out.print(rows_table(rows, title=result.stage))
        if readers := result.tables.get("readers"):
            out.print(rows_table(readers, title=f"who may pull from {result.subject}"))
    out.print(results_table(results))
    for result in results:
        print_lines([*result.reasons, *result.notes])


def _end(results: list[StageResult]) -> None:
    if not all(result.ok for result in results):
        sys.exit(EvidenceError.exit_code)


infra_group.add_command(terraform)

COMMANDS = [infra_group]
