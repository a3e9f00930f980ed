"""``copy``: any image, with or without a configuration."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from registry_pipelines.cli.context import (
    FOREIGN_LAYERS,
    PLATFORM,
    RECEIPT_KEY,
    SELECTION,
    Options,
    common,
    read_selection,
)
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    console,
    print_below,
    print_lines,
    print_omissions,
    rows_table,
    worth_showing,
)
from registry_pipelines.cli.references import named
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.results import CopyResult
from registry_pipelines.transfer.limits.limited import quota_notes
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import SyncResult

COPY_COLUMNS = ("target", "state", "bytes", "resumed_bytes", "blobs", "mounted", "seconds", "note")

Row = dict[str, Any]


@click.command("copy")
@click.argument("source", shell_complete=IMAGES)
@click.argument("targets", nargs=-1, required=True)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Tag at the targets; the source's unless told.")
@PLATFORM
@SELECTION
@FOREIGN_LAYERS
@click.option("--keep-tags", is_flag=True, help="Leave a tag alone that names another digest, and report it.")
@RECEIPT_KEY
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@common
def copy(
    options: Options,
    source: str,
    targets: Sequence[str],
    tags: Sequence[str],
    platforms: Sequence[str],
    selection: Selection | None,
    foreign_layers: bool,
    keep_tags: bool,
    key: Path | None,
    dry_run: bool,
) -> None:
    """Copy an image with everything that belongs to it (signatures, SBOMs, attestations) to one or many repositories.

    A target is a repository, optionally with a tag. Killed in the middle, the same command sends the rest.
    Exit 6: a tag that was to stay names something else there.
    """
    engine, (chosen, kind) = options.engine(key), read_selection(platforms, selection)
    with named(options, [source], goals=targets) as locate, options.progress() as progress:
        located = locate(source)
        # One copy for all targets that get the same tags, so that the source is read once for them.
        groups: dict[tuple[str, ...], list[Place]] = {}
        for target in targets:
            goal = locate(target, default_tag="")
            wanted = (*tags, goal.tag) if goal.tag else tuple(tags) or ((located.tag,) if located.tag else ())
            groups.setdefault(wanted, []).append(goal.place)
        results = [
            copy_closure(
                located.place,
                located.selector,
                group,
                tags=wanted,
                move_tags=not keep_tags,
                platforms=chosen,
                selection=kind,
                foreign_layers=foreign_layers,
                dry_run=dry_run,
                engine=replace(engine, progress=progress),
            )
            for wanted, group in groups.items()
        ]
    notes = quota_notes([located.place.registry])
    if dry_run:
        _show_plans(options, results, notes)
    else:
        _show_copies(options, results, notes)


def _show_plans(options: Options, results: Sequence[CopyResult], notes: Sequence[str]) -> None:
    if options.as_json:
        print_json({"plans": [result.plan.to_json() for result in results], "notes": notes})
    else:
        print_lines(notes)
    for result in results if not options.as_json else ():
        summary = Summary(SyncResult(result.plan), [str(place) for place in result.plan.deliveries[0].job.targets])
        shown = worth_showing(summary.plan_rows(), ("drift", "refused", "shared", "relisted", "left_out"))
        out = console()
        out.print(rows_table(shown, title="plan; nothing was changed", limit=len(shown), width=out.width))
        print_lines(summary.reasons())
        print_omissions(result.left_out, title="left out")
    if any(delivery.refused for result in results for delivery in result.plan.deliveries):
        sys.exit(INCOMPLETE)


def _show_copies(options: Options, results: Sequence[CopyResult], notes: Sequence[str]) -> None:
    targets = [target for result in results for target in result.per_target]
    rows: list[Row] = [target.row() for target in targets]
    ok, digest = all(target.ok for target in targets), results[0].root.digest
    receipts = [target.receipt for target in targets if target.receipt is not None]
    signed = sum(receipt.signed for receipt in receipts)
    if options.as_json:
        changed = any(target.changed for target in targets)
        requests = sum((Counter(result.requests) for result in results), Counter[str]())
        more = {
            "left_out": omissions.rows(results[0].left_out),
            "receipts": len(receipts),
            "receipts_signed": signed,
            "requests": dict(requests),
            "notes": notes,
        }
        print_json({"digest": digest, "changed": changed, "targets": rows, **more})
    else:
        shown = [{**row, "note": target.trouble} for row, target in zip(rows, targets, strict=True)]
        shown = [{name: row[name] for name in COPY_COLUMNS} for row in shown]
        print_below(digest, worth_showing(shown, ("resumed_bytes",)))
        print_omissions(results[0].left_out, title="left out")
        if signed < len(receipts):
            verb = "is" if len(receipts) - signed == 1 else "are"
            unsigned = count_text(len(receipts) - signed, "receipt")
            console().print(f"{unsigned} {verb} not signed: there was no key", markup=False)
        print_lines(notes)
    if not ok:
        sys.exit(INCOMPLETE)


COMMANDS = [copy]
