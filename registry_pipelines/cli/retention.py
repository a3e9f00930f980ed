"""``collect`` and ``delete``: the retention plan, or that of one image, and its application."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import IMAGES, REGISTRIES
from registry_pipelines.cli.output import console, print_json, print_lines, results_table, rows_table
from registry_pipelines.cli.references import located
from registry_pipelines.errors import EvidenceError, InputError, LocalError, Refused
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:
    from registry_pipelines.collect.plan import Entry, RetentionPlan

COLUMNS = ("repository", "tags", "action", "freed_bytes", "why")


@click.command("collect")
@click.argument("registry", required=False, shell_complete=REGISTRIES)
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the plan as JSON, for approval.")
@click.option("--plan", "approved", type=click.Path(path_type=Path), metavar="FILE", help="Apply this saved plan.")
@click.option("--apply", "act", is_flag=True, help="Apply the plan that is made now.")
@common
def collect(options: Options, registry: str | None, save: Path | None, approved: Path | None, act: bool) -> None:
    """Plan what registries can let go, by the retention rules; nothing is deleted without --apply or --plan.

    A plan is applied within a day, and only where nothing changed since. REGISTRY: all that rules name, unless given.
    """
    if (save or approved) and registry is None:
        raise InputError("--save and --plan need a REGISTRY")
    if approved is not None and (act or save):
        raise InputError("--plan applies that plan; it takes neither --apply nor --save")
    with options.chain() as chain:
        names = [registry] if registry else chain.registries_with_rules()
        results = [result for name in names for result in _plan_or_apply(chain, name, save, approved, act)]
    if options.as_json:
        print_json([result.plain() for result in results])
    elif not results:
        console().print("all is kept: the configuration has no `retention` rules", markup=False)
    else:
        _show(results)
    if not all(result.ok for result in results):
        sys.exit(EvidenceError.exit_code)


def _plan_or_apply(chain: Chain, name: str, save: Path | None, approved: Path | None, act: bool) -> list[StageResult]:
    from registry_pipelines.chain.collect import describe

    plan = _read(approved) if approved else chain.plan_retention(name)
    if save is not None:
        _write(save, plan)
    results = [describe(plan, name)]
    if act or approved:
        results.append(chain.collect(name, plan))
    return results


def _read(path: Path) -> RetentionPlan:
    from registry_pipelines.collect.plan import MAX_PLAN_BYTES, RetentionPlan

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PLAN_BYTES + 1)
        return RetentionPlan.from_json(raw.decode())
    except OSError as error:
        raise InputError(f"the plan cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not a retention plan", where=str(path)) from error


def _write(path: Path, plan: RetentionPlan) -> None:
    try:
        path.write_text(plan.to_json())
    except OSError as error:
        raise LocalError(f"the plan cannot be written: {error.strerror}", where=str(path)) from error


def _show(results: list[StageResult]) -> None:
    out = console()
    for result in results:
        if result.stage.startswith("retention:") and result.rows:
            rows = [{name: row[name] for name in COLUMNS} for row in result.rows]
            out.print(rows_table(rows, title=f"plan for {result.subject}"))
    out.print(results_table(results))
    for result in results:
        print_lines(result.reasons)


@click.command("delete")
@click.argument("reference", shell_complete=IMAGES)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the plan; delete nothing.")
@common
def delete(options: Options, reference: str, yes: bool, dry_run: bool) -> None:
    """Delete one image with the evidence that refers to it, where nothing needs it: shows the plan, then asks.

    REFERENCE is image:tag or image@digest of the configuration, or any image with its tag or digest. By tag only what
    has no other tag; by digest with all its tags. Refused is what an index lists, what is the evidence of something
    that stays, what a channel names, and tags that a retention rule protects. Exit 6: it is needed, or something
    changed meanwhile.
    """
    if not (yes or dry_run) and (options.as_json or not sys.stdin.isatty()):
        raise InputError("nobody can be asked here", do="Give --yes to delete, or --dry-run to see the plan")
    if "@" not in reference and ":" not in reference.rpartition("/")[2]:
        raise InputError(f"{reference!r} names no tag and no digest", do=f"Write {reference}:TAG or {reference}@DIGEST")
    from registry_pipelines.chain.collect import delete as delete_alone
    from registry_pipelines.chain.collect import describe, plan_deletion

    with located(options, [reference]) as ([found], chain):
        place = found.place
        digest = place.registry.resolve(place.repository, found.selector).digest
        plan = chain.plan_deletion(place, digest) if chain else plan_deletion(place, digest, None)
        entry = plan.repositories[0].entries[0]
        _check_deletable(entry, reference, f"{place}@{digest}")
        if not options.as_json:
            _show_deletion(place, entry, plan.notes)
        if dry_run:
            result = describe(plan, str(place))
        elif not yes and not click.confirm("Delete it?", err=True):
            click.echo("nothing was deleted", err=True)
            return
        else:
            result = chain.delete(place, plan) if chain else delete_alone(place, plan, None)
    if options.as_json:
        print_json(result.plain())
    elif not dry_run:
        console().print(results_table([result]))
        print_lines(result.reasons)
    if not result.ok:
        sys.exit(INCOMPLETE)


def _show_deletion(place: Place, entry: Entry, notes: Sequence[str]) -> None:
    row = {
        "repository": str(place),
        "digest": entry.digest,
        "tags": ", ".join(entry.tags),
        "created": entry.created,
        "manifests": len(entry.delete),
        "freed_bytes": entry.freed_bytes,
    }
    console().print(rows_table([row], title="plan; nothing was changed"))
    evidence = len(entry.delete) - 1
    lines = [f"{count_text(evidence, 'manifest')} below it or attached to it would go, too"] if evidence > 0 else []
    print_lines([*lines, *notes])


def _check_deletable(entry: Entry, reference: str, where: str) -> None:
    """Raise Refused where something needs it, or where other tags would go that nobody named."""
    if entry.reasons:
        raise Refused("; ".join(entry.reasons), where=where, do="Remove first what needs it, or leave it")
    name, _, tag = reference.rpartition(":")
    others = [each for each in entry.tags if each != tag] if "@" not in reference else []
    if others:
        raise Refused(
            f"{', '.join(others[:10])} {'names' if len(others) == 1 else 'name'} the same image",
            where=where,
            do=f"To delete it with all its tags write {name}@{entry.digest}",
        )


COMMANDS = [collect, delete]
