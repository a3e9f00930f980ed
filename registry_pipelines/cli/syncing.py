"""``sync`` and ``verify-copy``: many images to many registries, and two places compared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from registry_pipelines.chain import StageResult
from registry_pipelines.chain.places import Located, Places
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import console, print_json, rows_table, show_result
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.transfer.selectors import Selector, is_our_own
from registry_pipelines.transfer.sync import Source, SyncResult, Target, sync
from registry_pipelines.transfer.verify import Mismatch, compare

Row = dict[str, Any]


@click.command("verify-copy")
@click.argument("source")
@click.argument("copied")
@click.option("--content", is_flag=True, help="Read every blob of the copy and check its digest, too.")
@common
def verify_copy(options: Options, source: str, copied: str, content: bool) -> None:
    """Compare an image and all that belongs to it with its copy, digest for digest; exit 6 when they differ.

    SOURCE is an image, COPIED the image or the repository that should hold the same. Where SOURCE is a repository,
    every tag of both is compared.
    """
    with options.places([source, copied]) as places:
        here, there = places.locate(source, default_tag=""), places.locate(copied, default_tag="")
        found = _differences(here, there, content=content) if here.selector else _all(here, there, content=content)
    rows: list[Row] = [
        {"kind": each.kind, "subject": each.subject, "expected": each.expected, "found": each.found} for each in found
    ]
    if options.as_json:
        print_json({"ok": not found, "differences": rows})
    elif found:
        console().print(rows_table(rows, title=f"{there.place} differs from {here.place}", limit=len(rows)))
    else:
        what = here.selector or "every tag"
        console().print(f"{there.place} holds exactly what {here.place} has of {what}", markup=False)
    if found:
        sys.exit(ContentError.exit_code)


def _differences(here: Located, there: Located, *, content: bool) -> list[Mismatch]:
    """One image with its copy. Where the copy is named by a tag or digest, that is what is compared."""
    if not there.selector:
        return compare(here.place, there.place, here.selector, content=content)
    wanted = here.place.registry.resolve(here.place.repository, here.selector).digest
    found = compare(here.place, there.place, wanted, content=content)
    named = _named(there, there.selector)
    return found if named == wanted else [Mismatch("root", there.selector, wanted, named), *found]


def _all(here: Located, there: Located, *, content: bool) -> list[Mismatch]:
    """Two repositories, every tag."""
    if there.selector:
        raise InputError("a repository cannot be compared with one image", do="Give SOURCE a tag or digest, too")
    tags = [tag for tag in here.place.registry.tags(here.place.repository) if not is_our_own(tag)]
    found = [each for tag in tags for each in compare(here.place, there.place, tag, content=content)]
    try:
        copied = list(there.place.registry.tags(there.place.repository))
    except NotFound:
        copied = []
    more = [tag for tag in copied if tag not in tags and not is_our_own(tag)]
    return list(dict.fromkeys(found)) + [Mismatch("tag", tag, "", _named(there, tag)) for tag in more]


def _named(located: Located, selector: str) -> str:
    try:
        return located.place.registry.resolve(located.place.repository, selector).digest
    except NotFound:
        return ""


@click.command("sync")
@click.argument("names_or_places", nargs=-1, metavar="[NAME]... | SOURCE TARGET...")
@click.option("--repository", "names", multiple=True, metavar="NAME", help="Only this repository; may be repeated.")
@click.option("--repositories", "globs", multiple=True, metavar="GLOB", help="Only repositories that match.")
@click.option("--tags", "tags", multiple=True, metavar="GLOB", help="Only tags that match; may be repeated.")
@click.option("--semver", default="", metavar="RANGE", help="Only versions in this range: '>=1.2,<2', '^1.4'.")
@click.option("--newest", type=click.IntRange(0), default=0, help="Only so many tags of each repository.")
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="Only this platform; may be repeated.")
@click.option("--keep-tags", is_flag=True, help="Leave a tag alone that names another digest, and report it.")
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@common
def sync_command(options: Options, /, names_or_places: Sequence[str], dry_run: bool = False, **chosen: Any) -> None:
    """Bring chosen tags of many repositories, with all that belongs to them, to other registries in one plan.

    NAME is a sync of the configuration; all of them without arguments. Or SOURCE is a registry (a configured name or a
    host) and each TARGET another, with a repository prefix after a slash if wanted; then the options choose. Each blob
    leaves the source once, whatever number of targets it has; killed, the same command does the rest.
    """
    names = _configured(options, names_or_places)
    if names is None:
        _sync_places(options, names_or_places[0], names_or_places[1:], chosen, dry_run=dry_run)
        return
    if any(chosen.values()):
        raise InputError("a sync of the configuration says itself what is taken", do="Leave the choosing options out")
    with options.chain() as chain:
        if dry_run:
            plans = {name: chain.plan_sync(name) for name in names}
        else:
            results = [chain.sync(name) for name in names]
    if dry_run:
        _show_plans(options, plans)
    else:
        _show_results(options, results)


def _configured(options: Options, words: Sequence[str]) -> list[str] | None:
    """The syncs that are meant; None when the words are places. No sync has the name of a registry."""
    if len(words) > 1:
        config = options.config_if_any()
        return list(words) if config is not None and config.syncs.keys() >= set(words) else None
    known = options.config().syncs
    if not words and not known:
        raise InputError("the configuration has no `syncs`", do="Add one, or name a SOURCE and its TARGETS")
    return list(words or known)


def _show_plans(options: Options, plans: dict[str, SyncResult]) -> None:
    if options.as_json:
        print_json([{"sync": name, **_told(found, dry_run=True)} for name, found in plans.items()])
    else:
        for name, found in plans.items():
            _print(found, title=f"{name}: plan; nothing was changed", dry_run=True)
    if not all(found.ok for found in plans.values()):
        sys.exit(ContentError.exit_code)


def _show_results(options: Options, results: Sequence[StageResult]) -> None:
    if options.as_json:
        print_json([result.plain() for result in results])
    else:
        for result in results:
            show_result(result, as_json=False)
    if not all(result.ok for result in results):
        sys.exit(ContentError.exit_code)


def _sync_places(
    options: Options, source: str, targets: Sequence[str], chosen: dict[str, Any], *, dry_run: bool
) -> None:
    with options.places([source, *targets]) as places, options.progress() as progress:
        result = sync(
            [_chosen(places, source, targets, chosen)], state=options.state, progress=progress, dry_run=dry_run
        )
    if options.as_json:
        print_json(_told(result, dry_run=dry_run))
    else:
        _print(result, title="plan; nothing was changed" if dry_run else "", dry_run=dry_run)
    if not result.ok:
        sys.exit(ContentError.exit_code)


def _chosen(places: Places, source: str, targets: Sequence[str], chosen: dict[str, Any]) -> Source:
    registry, prefix = places.open(source)
    return Source(
        registry,
        tuple(Target(*places.open(target)) for target in targets),
        repositories=tuple(f"{prefix}/{name}" if prefix else name for name in chosen["names"]),
        choose_repositories=Selector(glob=chosen["globs"] or ((f"{prefix}/*",) if prefix else ())),
        choose_tags=Selector(glob=chosen["tags"], semver=chosen["semver"], newest=chosen["newest"]),
        platforms=tuple(Platform.parse(text) for text in chosen["platforms"]),
        move_tags=not chosen["keep_tags"],
    )


def _rows(result: SyncResult, *, dry_run: bool) -> list[Row]:
    return list(result.plan.rows()) if dry_run else [dict(each.row()) for each in result.results]


def _told(result: SyncResult, *, dry_run: bool) -> Row:
    return {
        "ok": result.ok,
        "dry_run": dry_run,
        "changed": result.changed,
        "bytes_moved": result.bytes_moved,
        "rows": _rows(result, dry_run=dry_run),
        "failures": [{"reference": each.reference, "error": str(each.error)} for each in result.failures],
        **({"plan": result.plan.to_json()} if dry_run else {}),
    }


def _print(result: SyncResult, *, title: str, dry_run: bool) -> None:
    rows = _rows(result, dry_run=dry_run)
    console().print(rows_table(rows, title=title, limit=len(rows)))
    for failure in result.failures:
        console().print(f"- {failure.reference}: {failure.error}", markup=False)


COMMANDS = [sync_command, verify_copy]
