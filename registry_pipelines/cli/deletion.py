"""``delete``: one image that a person wants gone, or one of its tags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from registry_pipelines.chain.places import Located
from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    console,
    print_lines,
    print_results,
    results_table,
    rows_table,
)
from registry_pipelines.cli.references import located
from registry_pipelines.errors import InputError, Refused, TagImmutable
from registry_pipelines.progress import count_text

if TYPE_CHECKING:
    from registry_pipelines.chain import Chain
    from registry_pipelines.collect.plan import Entry, RetentionPlan


@dataclass(frozen=True)
class _Wanted:
    """What would be done to an image. planned: as a result, for ``--dry-run``. lines: what to know. act: does it."""

    digest: str
    planned: StageResult
    tags: Sequence[str]
    manifests: int
    freed_bytes: int
    lines: Sequence[str]
    act: Callable[[], StageResult]


@click.command("delete")
@click.argument("reference", shell_complete=IMAGES)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print the plan; delete nothing.")
@common
def delete(options: Options, reference: str, yes: bool, dry_run: bool) -> None:
    """Delete one image with the evidence that refers to it, where nothing needs it: shows the plan, then asks.

    REFERENCE is image:tag or image@digest of the configuration, or any image with its tag or digest. Of an image with
    several tags the tag alone goes; by digest it goes with all of them. Refused is what an index lists, what is the
    evidence of something that stays, what a channel names, and tags that a retention rule protects, are a channel or
    stand for a release that stays. Exit 6: it is needed, or something changed meanwhile.
    """
    if not (yes or dry_run) and (options.as_json or not sys.stdin.isatty()):
        raise InputError("nobody can be asked here", do="Give --yes to delete, or --dry-run to see the plan")
    if "@" not in reference and ":" not in reference.rpartition("/")[2]:
        raise InputError(f"{reference!r} names no tag and no digest", do=f"Write {reference}:TAG or {reference}@DIGEST")
    with located(options, [reference]) as ([found], chain):
        wanted = _wanted(chain, found, reference)
        if not options.as_json:
            _show(found, wanted, title="plan; nothing was changed" if dry_run else "plan")
        if not (yes or dry_run) and not click.confirm("Delete it?", err=True):
            click.echo("nothing was deleted", err=True)
            return
        result = wanted.planned if dry_run else wanted.act()
    if options.as_json:
        print_results([result])
    elif not dry_run:
        console().print(results_table([result]))
        print_lines(result.reasons)
    if not result.ok:
        sys.exit(INCOMPLETE)


def _wanted(chain: Chain | None, found: Located, reference: str) -> _Wanted:
    """The image with all that goes with it; of several tags the one that was named alone. Raises Refused."""
    from registry_pipelines.chain.collect import plan_deletion

    place = found.place
    digest = place.registry.resolve(place.repository, found.selector).digest
    plan = chain.plan_deletion(place, digest) if chain else plan_deletion(place, digest, None)
    [planned] = plan.repositories
    [entry] = planned.entries
    others = [tag for tag in entry.tags if tag != found.tag]
    if others and "@" not in reference:
        return _wanted_tag(chain, found, entry, others, f"{reference.rpartition(':')[0]}@{digest}")
    return _wanted_image(chain, found, entry, plan)


def _wanted_image(chain: Chain | None, found: Located, entry: Entry, plan: RetentionPlan) -> _Wanted:
    from registry_pipelines.chain.collect import delete as delete_alone
    from registry_pipelines.chain.collect import describe

    place = found.place
    if entry.reasons:
        what = "; ".join(entry.reasons)
        raise Refused(what, where=f"{place}@{entry.digest}", do="Remove first what needs it, or leave it")
    more = len(entry.delete) - 1
    evidence = [f"{count_text(more, 'manifest')} below it or attached to it would go, too"] if more else []
    return _Wanted(
        digest=entry.digest,
        planned=describe(plan, str(place)),
        tags=entry.tags,
        manifests=len(entry.delete),
        freed_bytes=entry.freed_bytes,
        lines=[*evidence, *plan.notes],
        act=partial(chain.delete, place, plan) if chain else partial(delete_alone, place, plan, None),
    )


def _wanted_tag(chain: Chain | None, found: Located, entry: Entry, others: Sequence[str], whole: str) -> _Wanted:
    """whole: how the image is named with all its tags."""
    from registry_pipelines.chain.tagging import untag

    named = found.place, found.tag, entry.digest
    act = partial(chain.untag, *named) if chain else partial(untag, *named, session=None)
    try:
        planned = act(dry_run=True)
    except TagImmutable as error:
        names = f"{', '.join(others[:10])} {'names' if len(others) == 1 else 'name'} the same image"
        do = f"To delete it with all its tags write {whole}"
        raise Refused(f"{error.what}; {names}", where=error.where, do=do) from error
    lines = [f"only the tag goes: the image stays as {', '.join(others)}"]
    return _Wanted(entry.digest, planned, [found.tag], manifests=0, freed_bytes=0, lines=lines, act=act)


def _show(found: Located, wanted: _Wanted, *, title: str) -> None:
    row = {
        "repository": str(found.place),
        "digest": wanted.digest,
        "tags": ", ".join(wanted.tags),
        "manifests": wanted.manifests,
        "freed_bytes": wanted.freed_bytes,
    }
    console().print(rows_table([row], title=title))
    print_lines(wanted.lines)


COMMANDS = [delete]
