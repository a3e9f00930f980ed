"""``sync`` and ``verify-copy``: many images to many registries, and two places compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from registry_pipelines.chain.places import Located, Places
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
from registry_pipelines.cli.names import IMAGES, names_of
from registry_pipelines.cli.output import (
    console,
    print_lines,
    print_omissions,
    print_results,
    rows_table,
    worth_showing,
)
from registry_pipelines.cli.references import named
from registry_pipelines.errors import InputError, NotFound, exit_code_of_many
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.hidden import hidden_tags
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.closure.digest_tags import DigestTags
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import Comparison, Mismatch, examine

SAME_FILES = "the same files (equal diffIDs), compressed or described otherwise: built or pushed again, not copied"

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


@click.command("verify-copy")
@click.argument("source", shell_complete=IMAGES)
@click.argument("copied")
@PLATFORM
@SELECTION
@FOREIGN_LAYERS
@click.option("--content", is_flag=True, help="Read every blob of the copy and check its digest, too.")
@common
def verify_copy(
    options: Options,
    source: str,
    copied: str,
    platforms: Sequence[str],
    selection: Selection | None,
    foreign_layers: bool,
    content: bool,
) -> None:
    """Compare an image and all that belongs to it with its copy, digest for digest; exit 6 when they differ.

    SOURCE is an image, COPIED the image or the repository that should hold the same. Where SOURCE is a repository,
    every tag of both is compared. With --platform the copy need not have the others. What was not compared is named;
    exit 0 says nothing about it.
    """
    chosen = _Comparing(*read_selection(platforms, selection), content, foreign_layers)
    with named(options, [source, copied]) as locate:
        here, there = locate(source, default_tag=""), locate(copied, default_tag="")
        compared = _compare_images(here, there, chosen) if here.selector else _compare_repositories(here, there, chosen)
        recompressed = _recompressed(here, there, compared.differences)
    rows: list[Row] = [
        {"kind": each.kind, "subject": each.subject, "expected": each.expected, "found": each.found}
        for each in compared.differences
    ]
    if options.as_json:
        more = {"same_files": recompressed, "not_compared": omissions.rows(compared.not_compared)}
        print_json({"differences": rows, **more})
    else:
        _print_compared(here, there, rows, compared.not_compared)
        for tag in recompressed:
            console().print(f"{tag}: {SAME_FILES}", markup=False)
    if rows:
        sys.exit(INCOMPLETE)


def _recompressed(here: Located, there: Located, differences: Sequence[Mismatch]) -> list[str]:
    """The tags that name other digests of the same files."""
    from registry_pipelines.registry.platforms import same_content  # for who compares, and finds a difference

    return [
        each.subject
        for each in differences
        if each.kind == "root" and each.expected and each.found
        if same_content(here.place, Digest(each.expected), there.place, Digest(each.found))
    ]


def _print_compared(here: Located, there: Located, rows: Rows, not_compared: Sequence[Omission]) -> None:
    """``exactly`` is said only where nothing was left out."""
    out, what = console(), here.selector or "every tag"
    if rows:
        out.print(rows_table(rows, title=f"{there.place} differs from {here.place}", limit=len(rows)))
    elif not_compared:
        extent = "all that was compared of what"
    else:
        extent = "exactly what"
    if not rows:
        out.print(f"{there.place} holds {extent} {here.place} has of {what}", markup=False, soft_wrap=True)
    print_omissions(not_compared, title="not compared")


@dataclass(frozen=True)
class _Comparing:
    """What of an image is compared."""

    platforms: tuple[Platform, ...]
    selection: Selection
    content: bool
    foreign_layers: bool

    def examine(self, here: Located, there: Located, reference: str) -> Comparison:
        return examine(
            here.place,
            there.place,
            reference,
            platforms=self.platforms,
            selection=self.selection,
            content=self.content,
            foreign_layers=self.foreign_layers,
        )

    def root(self, here: Located) -> Digest:
        """What the copy of an image is called."""
        if self.selection == "rewritten":
            return discover(here.place, here.selector, platforms=self.platforms, selection=self.selection).root.digest
        return here.place.registry.resolve(here.place.repository, here.selector).digest


def _compare_images(here: Located, there: Located, chosen: _Comparing) -> Comparison:
    """One image with its copy. Where the copy is named by a tag or digest, that is what is compared."""
    if not there.selector:
        return chosen.examine(here, there, here.selector)
    pinned = here.place.registry.resolve(here.place.repository, here.selector).digest
    wanted, comparison = chosen.root(here), chosen.examine(here, there, pinned)
    named = _named(there, there.selector)
    if named == wanted:
        return comparison
    return replace(comparison, differences=(Mismatch("root", there.selector, wanted, named), *comparison.differences))


def _compare_repositories(here: Located, there: Located, chosen: _Comparing) -> Comparison:
    """Two repositories, every tag; those named after digests with the images they belong to, the others are named."""
    if there.selector:
        raise InputError("a repository cannot be compared with one image", do="Give SOURCE a tag or digest, too")
    listed = list(here.place.registry.tags(here.place.repository))
    every = [*listed, *hidden_tags(here.place, listed).tags]
    ours = DigestTags.among(here.place, listed).choose(every, list)
    tags = dict.fromkeys(ours.tags)
    comparisons = [chosen.examine(here, there, tag) for tag in tags]
    try:
        copied = list(there.place.registry.tags(there.place.repository))
    except NotFound:
        copied = []
    more = [tag for tag in copied if tag not in tags]
    theirs = DigestTags.among(there.place, copied).choose(more, list)
    compared = {tag for each in comparisons for tag in each.companions}
    passed_over = [
        *omissions.left_over(here.place, ours.passed_over, compared),
        *omissions.left_over(there.place, theirs.passed_over, compared),
    ]
    differences = [each for one in comparisons for each in one.differences]
    differences += [Mismatch("tag", tag, "", _named(there, tag)) for tag in theirs.tags]
    left = [each for one in comparisons for each in one.not_compared]
    return Comparison(tuple(dict.fromkeys(differences)), tuple(dict.fromkeys([*left, *passed_over])))


def _named(located: Located, selector: str) -> str:
    try:
        return located.place.registry.resolve(located.place.repository, selector).digest
    except NotFound:
        return ""


@click.command("sync")
@click.argument("names_or_places", nargs=-1, metavar="[NAME]... | SOURCE TARGET...", shell_complete=names_of("syncs"))
@click.option("--repository", "names", multiple=True, metavar="NAME", help="Only this repository; may be repeated.")
@click.option("--repositories", "globs", multiple=True, metavar="GLOB", help="Only repositories that match.")
@click.option("--tags", "tags", multiple=True, metavar="GLOB", help="Only tags that match; may be repeated.")
@click.option("--semver", default="", metavar="RANGE", help="Only versions in this range: '>=1.2,<2', '^1.4'.")
@click.option("--newest", type=click.IntRange(0), default=0, help="Only so many tags of each repository.")
@PLATFORM
@SELECTION
@FOREIGN_LAYERS
@click.option("--keep-tags", is_flag=True, help="Leave a tag alone that names another digest, and report it.")
@RECEIPT_KEY
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@common
def sync_command(options: Options, /, names_or_places: Sequence[str], dry_run: bool = False, **chosen: Any) -> None:
    """Bring chosen tags of many repositories, with all that belongs to them, to other registries in one plan.

    NAME is a sync of the configuration; all of them without arguments. Or SOURCE is a registry (a configured name or a
    host) and each TARGET another, with a repository prefix after a slash if wanted; then the options choose. Each blob
    leaves the source once, whatever number of targets it has; killed, the same command does the rest.
    """
    names = _configured_names(options, names_or_places)
    if names is None:
        _sync_places(options, names_or_places[0], names_or_places[1:], chosen, dry_run=dry_run)
        return
    if any(chosen.values()):
        raise InputError("a sync of the configuration says itself what is taken", do="Leave the choosing options out")
    if dry_run:
        _plan_configured(options, names)
    else:
        _sync_configured(options, names)


def _configured_names(options: Options, words: Sequence[str]) -> list[str] | None:
    """The syncs that are meant; None when the words are places. No sync has the name of a registry."""
    if len(words) > 1:
        config = options.config_if_any()
        return list(words) if config is not None and config.syncs.keys() >= set(words) else None
    if words and options.find_config() is None:
        raise InputError(
            f"{words[0]!r} alone is no sync: there is no configuration, and no TARGET is named",
            do="Name the SOURCE and its TARGETS, or give --config FILE",
        )
    known = options.config().syncs
    if not words and not known:
        raise InputError("the configuration has no `syncs`", do="Add one, or name a SOURCE and its TARGETS")
    return list(words or known)


def _plan_configured(options: Options, names: Sequence[str]) -> None:
    with options.chain() as chain:
        results = chain.plan_syncs(names)
        plans = {name: Summary(result, chain.config.syncs[name].targets) for name, result in results.items()}
    if options.as_json:
        documents = [{"sync": name, **_sync_document(summary, dry_run=True)} for name, summary in plans.items()]
        print_json({"plans": documents})
    for name, summary in plans.items():
        _show(options, summary, name=name, dry_run=True)
    _exit_with(summary.result.exit_code for summary in plans.values())


def _sync_configured(options: Options, names: Sequence[str]) -> None:
    with options.chain() as chain:
        results = list(chain.syncs(names).values())
    if options.as_json:
        print_results(results)
    for result in results if not options.as_json else ():
        lines = [*result.reasons, *result.notes]
        _print_done(result.subject, result.tables["targets"], result.tables["images"], lines)
        console().print(_sums_line(result.facts, result.bytes_moved, result.seconds), markup=False)
    _exit_with(result.exit_code for result in results)


def _sync_places(
    options: Options, source: str, targets: Sequence[str], chosen: dict[str, Any], *, dry_run: bool
) -> None:
    started, engine = time.monotonic(), options.engine(chosen["key"])
    with options.places([source, *targets]) as places, options.progress() as progress:
        result = sync(
            [_source_of(places, source, targets, chosen)],
            dry_run=dry_run,
            engine=replace(engine, progress=progress),
        )
    if not result.plan.deliveries and not result.failures:
        raise NotFound("nothing is chosen: no tag of any repository matches", where=source, do="Look at the options")
    summary = Summary(result, targets)
    if options.as_json:
        print_json(_sync_document(summary, dry_run=dry_run))
    _show(options, summary, name=source, dry_run=dry_run, seconds=time.monotonic() - started)
    _exit_with([result.exit_code])


def _exit_with(codes: Iterable[int]) -> None:
    if code := exit_code_of_many(codes):
        sys.exit(code)


def _source_of(places: Places, source: str, targets: Sequence[str], chosen: dict[str, Any]) -> Source:
    registry, prefix = places.open(source)
    opened = tuple(OpenTarget(*places.open(target)) for target in targets)
    for target, text in zip(opened, targets, strict=True):
        if target.registry.name == registry.name and not target.prefix:
            raise InputError(f"{text} is the place it takes from", do="Give the target a prefix after a slash")
    platforms, selection = read_selection(chosen["platforms"], chosen["selection"])
    return Source(
        registry,
        opened,
        repositories=tuple(f"{prefix}/{name}" if prefix else name for name in chosen["names"]),
        choose_repositories=Selector(glob=chosen["globs"] or ((f"{prefix}/*",) if prefix else ())),
        never={  # each run would copy the copies
            f"{each.prefix}/*": "this sync writes there itself"
            for each in opened
            if each.registry.name == registry.name
        },
        choose_tags=Selector(glob=chosen["tags"], semver=chosen["semver"], newest=chosen["newest"]),
        platforms=platforms,
        selection=selection,
        move_tags=not chosen["keep_tags"],
        foreign_layers=chosen["foreign_layers"],
    )


def _sync_document(summary: Summary, *, dry_run: bool) -> Row:
    """The whole of it: rows per image and target, and the plan with every step, which is what was applied."""
    result = summary.result
    return {
        "dry_run": dry_run,
        "changed": result.changed,
        "bytes_moved": result.bytes_moved,
        "requests": dict(result.requests),
        **({} if dry_run else {"targets": summary.target_rows(), "totals": summary.totals()}),
        "rows": summary.plan_rows() if dry_run else summary.result_rows(),
        "left_out": summary.left_out_rows(),
        "failures": [{"reference": each.reference, "error": str(each.error)} for each in result.failures],
        "plan": result.plan.to_json(),
    }


def _show(options: Options, summary: Summary, *, name: str, dry_run: bool, seconds: float = 0.0) -> None:
    """Tables for people; nothing with ``--json``."""
    if options.as_json:
        return
    if dry_run:
        _print_plan(name, summary)
        return
    _print_done(name, summary.target_rows(), summary.image_rows(), [*summary.reasons(), *summary.notes()])
    console().print(_sums_line(summary.totals(), summary.result.bytes_moved, seconds), markup=False)


def _print_plan(name: str, summary: Summary) -> None:
    out, plan = console(), summary.result.plan
    rows = [row for row in summary.plan_rows() if row["action"] != "unchanged"]
    if rows:
        rows = [{each: row[each] for each in row if each != "refused"} for row in rows]  # that is told below
        shown = worth_showing(rows, ("drift", "shared", "mount", "unchanged", "relisted", "left_out"))
        out.print(rows_table(shown, title=f"{name}: plan; nothing was changed", limit=len(rows), width=out.width))
    print_lines([*summary.reasons(), *summary.notes()])
    total, mounts = len(plan.deliveries), sum(int(row["mount"]) for row in rows)
    out.print(
        f"{name}: {len(rows)} of {count_text(total, 'copy', 'copies')} to be made; "
        f"{size_text(plan.fetch_bytes)} leave the source, "
        f"{size_text(plan.upload_bytes)} are uploaded, {count_text(mounts, 'blob')} mounted. Nothing was changed.",
        markup=False,
        soft_wrap=True,
    )


def _print_done(name: str, targets: Rows, images: Rows, lines: Sequence[str]) -> None:
    out = console()
    hidden = ("mounted_bytes", "unchanged_bytes", "note")  # the note stands below, in full width
    if any(row["images"] for row in targets):
        shown = worth_showing([{each: row[each] for each in row if each not in hidden} for row in targets], _QUIET)
        out.print(rows_table(shown, title=name, width=out.width))
    if images:
        shown = worth_showing(
            [{each: row[each] for each in row if each not in hidden} for row in images], ("left_out", "resumed_bytes")
        )
        out.print(rows_table(shown, width=out.width))
    print_lines(lines)


_QUIET = ("failed", "drift", "resumed_bytes", "mounted", "unchanged", "manifests", "tags", "bytes_per_second")
"""Columns of the targets that are left out where they are 0 in every row."""


def _sums_line(totals: Mapping[str, Any], bytes_moved: int, seconds: float) -> str:
    rate = f" ({size_text(round(bytes_moved / seconds))}/s)" if bytes_moved and seconds else ""
    parts = [
        f"{totals['copies_changed']} of {count_text(totals['copies'], 'copy', 'copies')} made or completed",
        f"{size_text(bytes_moved)} uploaded in {seconds:.1f} s{rate}",
        f"{count_text(totals['blobs_mounted'], 'blob')} mounted, {totals['blobs_unchanged']} there already",
    ]
    if totals["resumed_bytes"]:
        parts.append(f"{size_text(totals['resumed_bytes'])} were there from a run that did not finish")
    parts += [count_text(totals["requests"], "request")]
    unsigned = totals["receipts"] - totals["receipts_signed"]
    parts += [
        count_text(totals["receipts"], "receipt") + (f", {unsigned} not signed: there was no key" if unsigned else "")
    ]
    words = (("left_out_count", "left out"), ("drift", "drifted"), ("failures", "failed"))
    parts += [f"{totals[name]} {word}" for name, word in words if totals[name]]
    return "; ".join(parts)


COMMANDS = [sync_command, verify_copy]
