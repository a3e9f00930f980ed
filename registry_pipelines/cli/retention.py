"""``collect``: the retention plan, and its application."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from registry_pipelines.chain import Chain, StageResult
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
        print_results(results)
    elif not results:
        console().print("all is kept: the configuration has no `retention` rules", markup=False)
    else:
        _show(results)
    if not all(result.ok for result in results):
        sys.exit(EvidenceError.exit_code)


def _plan_or_apply(chain: Chain, name: str, save: Path | None, approved: Path | None, act: bool) -> list[StageResult]:
    from registry_pipelines.chain.collect import describe
    from registry_pipelines.collect.plan_file import open_plan, write_plan

    plan = open_plan(approved) if approved else chain.plan_retention(name)
    if save is not None:
        write_plan(plan, save)
    results = [describe(plan, name)]
    if act or approved:
        results.append(chain.collect(name, plan))
    return results


def _show(results: list[StageResult]) -> None:
    out = console()
    for result in results:
        if result.stage.startswith("retention:") and result.rows:
            rows = [{name: row[name] for name in COLUMNS} for row in result.rows]
            out.print(rows_table(rows, title=f"plan for {result.subject}"))
    out.print(results_table(results))
    for result in results:
        print_lines(result.reasons)


COMMANDS = [collect]
