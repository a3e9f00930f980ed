"""``collect``: let go of what nothing needs, as a plan that is read, approved and then applied."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.cli import garbage
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import REGISTRIES
from registry_pipelines.cli.output import (
    console,
    print_lines,
    print_results,
    results_table,
    rows_table,
)
from registry_pipelines.errors import EvidenceError, InputError

COLUMNS = {
    "retention": ("plan for {}", ("repository", "tags", "action", "freed_bytes", "rule", "why")),
    "collect": ("deleted in {}", ("repository", "tags", "digest")),
    "quarantined": ("set aside in {}", ("repository", "tags", "digest", "freed_bytes", "at", "until", "plan")),
    "undo": ("undone in {}", ("repository", "tags", "digest", "manifests")),
    "purge": ("over in {}", ("repository", "tags", "digest", "manifests", "freed_bytes")),
}
"""What a person sees of the rows of each stage: a title, and columns."""


@click.group("collect")
def collect_group() -> None:
    """Let go of what nothing needs, by the retention rules: plan, approve, apply."""


@collect_group.command("plan", short_help="Plan what registries can let go; nothing is deleted.")
@click.argument("registry", required=False, shell_complete=REGISTRIES)
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Also write the plan there, FILE.sig too."
)
@click.option(
    "--from",
    "inventory",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Plan by a stored inventory (.parquet) in place of the registry.",
)
@common
def plan(options: Options, registry: str | None, save: Path | None, inventory: Path | None) -> None:
    """Plan what registries can let go, by the retention rules; nothing is deleted.

    The plan is signed and kept in the state folder; `collect apply` takes its digest. REGISTRY: all that rules name,
    unless given. Exit 3: something about a repository is unclear; nothing of it is planned.
    """
    if (save or inventory) and registry is None:
        raise InputError("--save and --from need a REGISTRY")
    with options.chain() as chain:
        results = [chain.retention_plan(name, save=save, inventory=inventory) for name in _names(chain, registry)]
    _answer(options, results)


@collect_group.command("apply", short_help="Apply a plan, where nothing changed since.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.argument("plan", required=False, metavar="[PLAN]")
@click.option("--now", is_flag=True, help="Make the plan now and apply it; nobody reads it before.")
@common
def apply(options: Options, registry: str, plan: str | None, now: bool) -> None:
    """Apply PLAN, the digest or the file of a plan that `collect plan` made; once applied it is left alone.

    Refused is a plan that no promoter's key signed, that is older than a day, or whose rules are not those of the
    configuration any more. A repository whose tags changed since is left alone, as is what is in use or got a
    signature by now. Exit 3: something was refused.
    """
    if (plan is None) == (not now):
        raise InputError(
            "PLAN is the digest or the file of a plan", do="Name one, or write --now to make one and apply it"
        )
    with options.chain() as chain:
        results = _made_and_applied(chain, registry) if plan is None else [chain.collect_approved(registry, plan)]
    _answer(options, results)


@collect_group.command("quarantined", short_help="List what plans set aside, and until when.")
@click.argument("registry", required=False, shell_complete=REGISTRIES)
@common
def quarantined(options: Options, registry: str | None) -> None:
    """List what plans set aside, and until when `collect undo` brings it back.

    REGISTRY: all that rules name, unless given. Exit 3: a record in a quarantine is signed by nobody who is believed.
    """
    with options.chain() as chain:
        results = [chain.quarantined(name) for name in _names(chain, registry)]
    _answer(options, results)


@collect_group.command("undo", short_help="Bring back what a plan deleted.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.argument("references", nargs=-1, metavar="[REPOSITORY:TAG | REPOSITORY@DIGEST]...")
@click.option("--plan", default="", metavar="DIGEST", help="All that this plan deleted.")
@common
def undo(options: Options, registry: str, references: tuple[str, ...], plan: str) -> None:
    """Bring back what a plan deleted and that is still set aside: byte for byte with its signatures, tags last.

    A tag that names another image by now stays as it is. Exit 3: something did not come back as it was; it stays set
    aside.
    """
    with options.chain() as chain:
        results = [chain.undo_collect(registry, references, plan=plan)]
    _answer(options, results)


@collect_group.command("purge", short_help="Delete for good what was set aside long enough.")
@click.argument("registry", required=False, shell_complete=REGISTRIES)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
def purge(options: Options, registry: str | None, dry_run: bool) -> None:
    """Delete for good what was set aside and whose time is over, by its own signed record.

    REGISTRY: all that rules name, unless given. Exit 3: something could not be deleted, or a record is not believed.
    """
    with options.chain() as chain:
        results = [chain.purge(name, dry_run=dry_run) for name in _names(chain, registry)]
    _answer(options, results)


def _names(chain: Chain, registry: str | None) -> list[str]:
    return [registry] if registry else chain.registries_with_rules()


def _made_and_applied(chain: Chain, registry: str) -> list[StageResult]:
    from registry_pipelines.chain.collect import describe

    made = chain.plan_retention(registry)
    return [describe(made, registry), chain.collect(registry, made)]


def _answer(options: Options, results: list[StageResult]) -> None:
    if options.as_json:
        print_results(results)
    elif not results:
        console().print("all is kept: the configuration has no `retention` rules", markup=False)
    else:
        _show(results)
    if not all(result.ok for result in results):
        sys.exit(EvidenceError.exit_code)


def _show(results: list[StageResult]) -> None:
    out = console()
    applied = {result.digest for result in results if result.stage.startswith("collect:")}
    for result in results:
        if result.rows:
            title, columns = COLUMNS[result.stage.partition(":")[0]]
            rows = [{name: row[name] for name in columns} for row in result.rows]
            out.print(rows_table(rows, title=title.format(result.subject)))
    out.print(results_table(results))
    for result in results:
        print_lines([*result.reasons, *result.notes])
        if result.stage.startswith("retention:") and result.facts["delete"] and result.digest not in applied:
            out.print(f"to apply it: registry-pipelines collect apply {result.subject} {result.digest}", markup=False)
        if result.stage.startswith("quarantined:") and result.rows:
            last = f"{result.rows[-1]['repository']}@{result.rows[-1]['digest']}"
            out.print(f"to bring one back: registry-pipelines collect undo {result.subject} {last}", markup=False)


collect_group.add_command(garbage.garbage)

COMMANDS = [collect_group]
