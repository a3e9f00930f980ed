"""``inspect``: what an image is, which client starts what of it, and what may go wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import (
    console,
    rows_table,
    worth_showing,
)
from registry_pipelines.cli.references import named
from registry_pipelines.evidence.model import key_name
from registry_pipelines.evidence.predicates import RECHUNK_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, encode_json
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.choices import Choice, differing
from registry_pipelines.registry.image_warnings import footer_warnings, more_warnings, warnings_of
from registry_pipelines.registry.platforms import Entry, read_entries
from registry_pipelines.registry.warning_kinds import ImageWarning
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.discovery import discover

Row = dict[str, Any]

WARNING_COLUMNS = ("warning", "about", "text", "do")
"""In tables; the sources are in the JSON."""


@click.command("inspect")
@click.argument("reference", shell_complete=IMAGES)
@click.option("--footers", is_flag=True, help="Read the last 51 bytes of each gzip layer, where eStargz ends.")
@click.option(
    "--anatomy",
    is_flag=True,
    help="What is inside: every file's class, package and bytes, what later layers hide, and what need not be there.",
)
@click.option(
    "--libraries", is_flag=True, help="Which shared libraries its files need and nothing brings; with --anatomy."
)
@click.option("--platform", default="", metavar="OS/ARCH", help="Of --anatomy; this machine's unless told.")
@click.option("--files", "all_files", is_flag=True, help="List every file, not only the largest; with --anatomy.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a PNG: packages by class as areas, and a bar for each layer; with --anatomy.",
)
@click.option(
    "--shared",
    is_flag=True,
    help="What other images of its registry have, too: layers, and files of layers that were read; with --anatomy.",
)
@click.option(
    "--inventory",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE.parquet",
    help="Of --shared: a stored inventory with all manifests, instead of asking the registry.",
)
@click.option(
    "--releases",
    type=click.IntRange(2, 200),
    metavar="N",
    help="How often each layer changed over the last N releases, and what a release moved; with --anatomy.",
)
@click.option(
    "--link", type=click.FloatRange(0.001), default=10.0, show_default=True, metavar="GBIT", help="Of wire seconds."
)
@common
def inspect(
    options: Options,
    reference: str,
    footers: bool,
    anatomy: bool,
    libraries: bool,
    platform: str,
    all_files: bool,
    picture: Path | None,
    shared: bool,
    inventory: Path | None,
    releases: int | None,
    link: float,
) -> None:
    """Show what belongs to an image: every entry of its index, which client starts which of them where they differ,
    warnings of what cannot start, layers, and the evidence that refers to it.

    With --anatomy, what is inside one platform's image. Each layer is streamed once and nothing is unpacked; layers
    that were read before (--anatomy, or a scan and an index) are not fetched again."""
    if (libraries or platform or all_files or picture or shared or releases) and not anatomy:
        raise click.UsageError("--libraries, --platform, --files, --picture, --shared and --releases go with --anatomy")
    if inventory and not shared:
        raise click.UsageError("--inventory goes with --shared")
    with named(options, [reference]) as locate:
        located = locate(reference)
        closure = discover(located.place, located.selector)
        document = describe(closure, footers=footers)
        document["rechunked"] = _rechunked(options, closure, document["evidence"])
        if anatomy:
            from registry_pipelines.cli.anatomy import anatomy_of, show

            found = anatomy_of(
                options, located.place, located.selector, platform=platform, link_gbit=link, all_files=all_files
            )
            if shared or releases:
                from registry_pipelines.cli.anatomy import beside_others

                found = beside_others(options, reference, located, found, shared, inventory, releases)
            if picture is not None:
                from registry_pipelines.anatomy.picture import draw

                with local_errors(picture):
                    picture.write_bytes(draw(found))
            document["anatomy"] = json.loads(encode_json(found))
        if libraries:
            from registry_pipelines.cli.anatomy import libraries_of, show_libraries

            linked = libraries_of(options, located.place, found)
            document["libraries"] = json.loads(encode_json(linked))
    if options.as_json:
        print_json(document)
        return
    if anatomy:
        show(found, all_files=all_files)
        if libraries:
            show_libraries(linked)
        return
    out = console()
    pieces = f"{count_text(document['blobs'], 'blob')} and {count_text(document['manifests'], 'manifest')}"
    for line in (
        document["reference"],
        f"  {document['digest']}",
        f"  {document['media_type']}, {size_text(document['size_bytes'])} in {pieces}",
    ):
        out.print(line, markup=False, soft_wrap=True)
    shown = [{name: row[name] for name in WARNING_COLUMNS} for row in document["warnings"]]
    for title, rows in (
        ("entries", worth_showing(document["entries"], ("os_version",))),
        ("who starts what", document["starts"]),
        ("warnings", shown),
        ("layers", document["layers"]),
        ("evidence", worth_showing(document["evidence"], ("says it is",))),
        ("rechunked", document["rechunked"]),
        ("cosign tags", document["digest_tags"]),
        ("a copy leaves out", document["left_out"]),
    ):
        if rows:
            out.print(rows_table(rows, title=title))


def describe(closure: Closure, *, footers: bool = False) -> Row:
    """A closure as plain values: entries with their platforms, what starts which, warnings, layers, evidence, cosign
    tags. footers: read the ends of gzip layers too."""
    known = {stored.digest: stored for stored in closure.manifests}
    entries = read_entries(closure.source, known[closure.root.digest], known=known)
    evidence = [
        _evidence_row(stored.digest, stored.content(), closure.subjects[stored.digest])
        for stored in closure.manifests
        if stored.digest in closure.subjects
    ]
    warnings = [*warnings_of(closure.source, entries), *_more(closure, entries, evidence)]
    if footers:
        warnings += footer_warnings(closure.source, entries)
    return {
        "reference": f"{closure.source}{'@' if ':' in closure.reference else ':'}{closure.reference}",
        "digest": closure.root.digest,
        "media_type": closure.root.media_type,
        "size_bytes": closure.size_bytes,
        "blobs": len(closure.blobs),
        "manifests": len(closure.manifests),
        "entries": [row for entry in entries for row in _entry_rows(entry)],
        "starts": [row for asked in differing(entries) for row in _start_rows(asked)],
        "warnings": [each.row() for each in warnings],
        "layers": [row for entry in entries if entry.kind == "image" for row in _layer_rows(entry)],
        "evidence": evidence,
        "digest_tags": [{"tag": tag, "digest": digest} for tag, digest in closure.digest_tags.items()],
        "left_out": omissions.rows(closure.omissions),
    }


def _more(closure: Closure, entries: Sequence[Entry], evidence: Sequence[Row]) -> list[ImageWarning]:
    return more_warnings(closure.source, entries, referrers=[(row["about"], row["kind"]) for row in evidence])


def _entry_rows(entry: Entry) -> list[Row]:
    """One row for each line that names it, as clients read them; one for a plain manifest, none for the top index."""
    if entry.listed:
        return [_entry_row(entry, line) for line in entry.listed]
    return [_entry_row(entry, None)] if entry.kind != "index" else []


def _entry_row(entry: Entry, line: Descriptor | None) -> Row:
    platform = line.platform if line else entry.configured
    size = entry.descriptor.size
    if isinstance(entry.content, Manifest):
        size += entry.content.config.size + sum(layer.size for layer in entry.content.layers)
    return {
        "platform": str(platform) if platform else "none",
        "os_version": platform.os_version if platform else "",
        "config_says": str(entry.configured) if entry.kind == "image" else "",
        "kind": entry.kind,
        "digest": entry.digest,
        "bytes": size,
    }


def _start_rows(choices: Sequence[Choice]) -> list[Row]:
    """What is started, with the clients that start it."""
    clients: dict[tuple[str, str], list[str]] = {}
    for choice in choices:
        clients.setdefault((choice.entry.digest if choice.entry else "", choice.why), []).append(choice.client.name)
    return [
        {"platform": str(choices[0].platform), "starts": digest or f"nothing: {why}", "clients": "; ".join(names)}
        for (digest, why), names in clients.items()
    ]


def _layer_rows(entry: Entry) -> list[Row]:
    return [
        {"platform": str(entry.platform), "digest": layer.digest, "size": layer.size, "media_type": layer.media_type}
        for layer in entry.manifest.layers
    ]


def _evidence_row(digest: Digest, content: Manifest | Index, subject: Digest) -> Row:
    kind = content.kind if isinstance(content, Manifest) else content.artifact_type
    notes = content.annotations or {}
    predicate = notes.get("dev.sigstore.bundle.predicateType") or notes.get("in-toto.io/predicate-type") or ""
    return {"kind": kind, "says it is": predicate, "digest": digest, "about": subject}


def _rechunked(options: Options, closure: Closure, evidence: Sequence[Row]) -> list[Row]:
    """What an image that was rechunked was made of, as somebody signed who is believed here: a row for each platform;
    and one row that says so where nobody is."""
    if RECHUNK_TYPE not in {row["says it is"] for row in evidence if row["about"] == closure.root.digest}:
        return []
    records = []
    if (trusted := options.believed([])) is not None:
        from registry_pipelines.evidence.attestations import read_attestations
        from registry_pipelines.stream.rechunk_record import read_rechunks

        known = read_attestations(closure.source, closure.root.digest, trusted, predicate_type=RECHUNK_TYPE)
        records = read_rechunks(known, closure.root.digest)[0]
    rows = [
        {
            "platform": each.platform,
            "origin": record.origin,
            "origin_tree": each.origin_tree,
            "tree": each.tree,
            "same_tree": each.same_tree,
            "times": record.times,
            "signed_by": key_name(attestation.key_id),
        }
        for record, attestation in records
        for each in record.platforms
    ]
    nothing = {"platform": "", "origin": "", "origin_tree": "", "tree": "", "same_tree": False, "times": ""}
    return rows or [{**nothing, "signed_by": "nobody whose key is trusted here"}]


COMMANDS = [inspect]
