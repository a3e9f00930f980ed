"""``sync`` and ``verify-copy``: many images to many registries, and two places compared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import console, print_json, rows_table
from registry_pipelines.errors import ContentError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.transfer.selectors import Selector
from registry_pipelines.transfer.sync import Source, SyncResult, Target, sync
from registry_pipelines.transfer.verify import compare

Row = dict[str, Any]


@click.command("verify-copy")
@click.argument("source")
@click.argument("copied")
@click.option("--content", is_flag=True, help="Read every blob of the copy and check its digest, too.")
@common
def verify_copy(options: Options, source: str, copied: str, content: bool) -> None:
    """Compare an image and all that belongs to it with its copy, digest for digest; exit 6 when they differ.

    SOURCE is an image; COPIED is the repository that should hold the same.
    """
    with options.places([source, copied]) as places:
        located, there = places.locate(source), places.locate(copied, default_tag="")
        found = compare(located.place, there.place, located.selector, content=content)
    rows: list[Row] = [
        {"kind": each.kind, "subject": each.subject, "expected": each.expected, "found": each.found} for each in found
    ]
    if options.as_json:
        print_json({"ok": not found, "differences": rows})
    elif found:
        console().print(rows_table(rows, title=f"{there.place} differs from {located.place}"))
    else:
        console().print(f"{there.place} holds exactly what {located.place} has of {located.selector}", markup=False)
    if found:
        sys.exit(ContentError.exit_code)


@click.command("sync")
@click.argument("source")
@click.argument("targets", nargs=-1, required=True)
@click.option("--repository", "names", multiple=True, metavar="NAME", help="Only this repository; may be repeated.")
@click.option("--repositories", "globs", multiple=True, metavar="GLOB", help="Only repositories that match.")
@click.option("--tags", "tags", multiple=True, metavar="GLOB", help="Only tags that match; may be repeated.")
@click.option("--semver", default="", metavar="RANGE", help="Only versions in this range: '>=1.2,<2', '^1.4'.")
@click.option("--newest", type=click.IntRange(0), default=0, help="Only so many tags of each repository.")
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be repeated.")
@click.option("--keep-tags", is_flag=True, help="Leave a tag alone that names another digest, and report it.")
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@common
def sync_command(options: Options, /, source: str, targets: Sequence[str], **chosen: Any) -> None:
    """Bring chosen tags of many repositories, with all that belongs to them, to other registries in one plan.

    SOURCE is a registry: a configured name or a host. A target is a registry, with a repository prefix after a slash if
    wanted. Each blob leaves the source once, whatever number of targets it has; killed, the same command does the rest.
    """
    with options.places([source, *targets]) as places, options.progress() as progress:
        registry, prefix = places.open(source)
        wanted = Source(
            registry,
            tuple(Target(*places.open(target)) for target in targets),
            repositories=tuple(f"{prefix}/{name}" if prefix else name for name in chosen["names"]),
            choose_repositories=Selector(glob=chosen["globs"] or ((f"{prefix}/*",) if prefix else ())),
            choose_tags=Selector(glob=chosen["tags"], semver=chosen["semver"], newest=chosen["newest"]),
            platforms=tuple(Platform.parse(text) for text in chosen["platforms"]),
            move_tags=not chosen["keep_tags"],
        )
        result = sync([wanted], state=options.state, progress=progress, dry_run=chosen["dry_run"])
    _show(options, result, dry_run=chosen["dry_run"])
    if not result.ok:
        sys.exit(ContentError.exit_code)


def _show(options: Options, result: SyncResult, *, dry_run: bool) -> None:
    rows: list[Row] = result.plan.rows() if dry_run else [each.row() for each in result.results]
    failures: list[Row] = [{"reference": each.reference, "error": str(each.error)} for each in result.failures]
    if options.as_json:
        told = {"changed": result.changed, "bytes_moved": result.bytes_moved, "rows": rows, "failures": failures}
        print_json({"ok": result.ok, "dry_run": dry_run, **told})
        return
    console().print(rows_table(rows, title="plan; nothing was changed" if dry_run else ""))
    for failure in failures:
        console().print(f"- {failure['reference']}: {failure['error']}", markup=False)


COMMANDS = [sync_command, verify_copy]
