"""``inspect`` and ``copy``: any image, with or without a configuration."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
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
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.output import console, print_json, print_lines, rows_table, worth_showing
from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, Manifest, read_image_config
from registry_pipelines.progress import size_text
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer import omissions
from registry_pipelines.transfer.closure import Closure, discover
from registry_pipelines.transfer.copy import copy_closure
from registry_pipelines.transfer.platforms import Selection
from registry_pipelines.transfer.results import CopyResult
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import SyncResult

MAX_CONFIG_BYTES = 16 * 1024 * 1024
"""As for image configs everywhere: real ones stay below 1 MiB."""

COPY_COLUMNS = ("target", "state", "bytes", "blobs", "mounted", "seconds", "note")

Row = dict[str, Any]


@click.command("inspect")
@click.argument("reference")
@common
def inspect(options: Options, reference: str) -> None:
    """Show what belongs to an image: platforms, layers, and the evidence that refers to it."""
    with options.places([reference]) as places:
        located = places.locate(reference)
        closure = discover(located.place, located.selector)
        found = describe(closure)
    if options.as_json:
        print_json(found)
        return
    out = console()
    out.print(f"{found['reference']}\n  {found['digest']}  {found['media_type']}", markup=False)
    out.print(f"  {size_text(found['size_bytes'])} in {found['blobs']} blobs and {found['manifests']} manifests")
    for title, rows in (
        ("images", found["images"]),
        ("layers", found["layers"]),
        ("evidence", found["evidence"]),
        ("cosign tags", found["digest_tags"]),
        ("a copy leaves out", found["left_out"]),
    ):
        if rows:
            out.print(rows_table(rows, title=title))


def describe(closure: Closure) -> dict[str, Any]:
    """A closure as plain values: images with their platforms, layers, evidence, cosign tags."""
    images: list[Row] = []
    layers: list[Row] = []
    evidence: list[Row] = []
    signatures = set(closure.digest_tags.values())
    for stored in closure.manifests:
        if stored.digest in signatures:
            continue  # cosign's `.sig` looks like an image; it is listed by its tag
        content = stored.content()
        subject = closure.subjects.get(stored.digest)
        if subject is not None:
            evidence.append(_evidence_row(stored.digest, content, subject))
        elif isinstance(content, Manifest) and content.is_image:
            platform = _platform(closure.source, content)
            images.append({"platform": platform, "digest": stored.digest, "layers": len(content.layers)})
            layers += [
                {"platform": platform, "digest": layer.digest, "size": layer.size, "media_type": layer.media_type}
                for layer in content.layers
            ]
    return {
        "reference": f"{closure.source}{'@' if ':' in closure.reference else ':'}{closure.reference}",
        "digest": closure.root.digest,
        "media_type": closure.root.media_type,
        "size_bytes": closure.size_bytes,
        "blobs": len(closure.blobs),
        "manifests": len(closure.manifests),
        "images": images,
        "layers": layers,
        "evidence": evidence,
        "digest_tags": [{"tag": tag, "digest": digest} for tag, digest in closure.digest_tags.items()],
        "left_out": omissions.rows(closure.omissions),
    }


def _evidence_row(digest: Digest, content: Manifest | Index, subject: Digest) -> Row:
    kind = content.kind if isinstance(content, Manifest) else content.artifact_type
    notes = content.annotations or {}
    predicate = notes.get("dev.sigstore.bundle.predicateType") or notes.get("in-toto.io/predicate-type") or ""
    return {"kind": kind, "says it is": predicate, "digest": digest, "about": subject}


def _platform(place: Place, manifest: Manifest) -> str:
    try:
        raw = read_blob(place, manifest.config, limit=MAX_CONFIG_BYTES)
        return str(read_image_config(raw).platform)
    except (ContentError, NotFound) as error:
        return f"unreadable: {error.what}"


@click.command("copy")
@click.argument("source")
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
    signer, (chosen, kind) = options.receipt_signer(key), read_selection(platforms, selection)
    with options.places([source, *targets]) as places, options.progress() as progress:
        located = places.locate(source)
        # One copy for all targets that get the same tags, so that the source is read once for them.
        groups: dict[tuple[str, ...], list[Place]] = {}
        for target in targets:
            goal = places.locate(target, default_tag="")
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
                progress=progress,
                state=options.state,
                journal_url=options.journal_url,
                signer=signer,
                dry_run=dry_run,
            )
            for wanted, group in groups.items()
        ]
    if dry_run:
        _show_plans(options, results)
    else:
        _show_copies(options, results)


def _show_plans(options: Options, results: Sequence[CopyResult]) -> None:
    if options.as_json:
        print_json([result.plan.to_json() for result in results])
    for result in results if not options.as_json else ():
        told = Summary(SyncResult(result.plan), [str(place) for place in result.plan.deliveries[0].job.targets])
        shown = worth_showing(told.plan_rows(), ("drift", "refused", "shared", "relisted", "left_out"))
        out = console()
        out.print(rows_table(shown, title="plan; nothing was changed", limit=len(shown), width=out.width))
        print_lines([*told.reasons(), *told.notes()])
    if any(delivery.refused for result in results for delivery in result.plan.deliveries):
        sys.exit(INCOMPLETE)


def _show_copies(options: Options, results: Sequence[CopyResult]) -> None:
    done = [target for result in results for target in result.per_target]
    rows: list[Row] = [target.row() for target in done]
    ok, digest = all(target.ok for target in done), results[0].root.digest
    receipts = [target.receipt for target in done if target.receipt is not None]
    signed = sum(receipt.signed for receipt in receipts)
    if options.as_json:
        changed = any(target.changed for target in done)
        requests = sum((Counter(result.requests) for result in results), Counter[str]())
        told = {
            "left_out": omissions.rows(results[0].left_out),
            "receipts": len(receipts),
            "receipts_signed": signed,
            "requests": dict(requests),
        }
        print_json({"ok": ok, "digest": digest, "changed": changed, "targets": rows, **told})
    else:
        shown = [{**row, "note": target.trouble} for row, target in zip(rows, done, strict=True)]
        console().print(rows_table([{name: row[name] for name in COPY_COLUMNS} for row in shown], title=digest))
        print_lines(dict.fromkeys(f"left out: {target.left_out_note}" for target in done if target.left_out))
        if signed < len(receipts):
            console().print(f"{len(receipts) - signed} receipts are not signed: there was no key", markup=False)
    if not ok:
        sys.exit(INCOMPLETE)


COMMANDS = [inspect, copy]
