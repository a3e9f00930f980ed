"""``rechunk``: an image of any builder with one package a layer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import bare_digest, console, print_below, print_lines
from registry_pipelines.cli.references import named
from registry_pipelines.errors import InputError
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.progress import count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.anatomy.rechunk.model import Rechunked, RechunkedImage

SUFFIX = "-rechunked"


@click.command("rechunk")
@click.argument("source", shell_complete=IMAGES)
@click.option("--to", default="", metavar="REF", help=f"Where it goes; beside the source, as TAG{SUFFIX}, unless told.")
@click.option(
    "--previous",
    default="",
    metavar="REF",
    help="The last release, rechunked: its packages stay in their layers.",
)
@click.option("--drop", type=click.Choice(["caches"]), help="Leave out what lies in caches of package managers.")
@click.option(
    "--times",
    type=click.Choice(["fixed", "keep"]),
    default="fixed",
    show_default=True,
    help="One date for every file, so that images share layers; or each file's own.",
)
@common
def rechunk(options: Options, source: str, to: str, previous: str, drop: str | None, times: str) -> None:
    """Make an image anew with one package a layer: the same files, and layers that stay where they are.

    Files of a package (pip, conda, npm, dpkg, rpm, apk) share a layer, large packages have one of their own. The next
    release then moves only what changed. What was made is read back and must hold the same tree as the source before
    its tag names it. Killed in the middle, the same command goes on.
    """
    goals = [to] if to else []
    with (
        named(options, [source, *([previous] if previous else [])], goals=goals) as locate,
        options.progress() as progress,
    ):
        found = locate(source)
        goal = locate(to, default_tag="") if to else found
        tag = goal.tag if to else found.tag + SUFFIX if found.tag else ""
        if not tag:
            raise InputError(f"no tag is named for what is made of {source}", do="Give --to REGISTRY/REPOSITORY:TAG")
        before = locate(previous) if previous else None
        from registry_pipelines.anatomy.rechunk.engine import read_layouts
        from registry_pipelines.anatomy.rechunk.engine import rechunk as rechunk_image
        from registry_pipelines.anatomy.rechunk.model import RechunkOptions
        from registry_pipelines.registry.tags import put_tag
        from registry_pipelines.stream.pushing import has_tag

        told = RechunkOptions(drop=("caches",) if drop else (), times="keep" if times == "keep" else "fixed")
        made = rechunk_image(
            found.place,
            found.selector,
            goal.place,
            previous=read_layouts(before.place, before.selector) if before else {},
            options=told,
            state=options.state.parent,
            engine=replace(options.engine(None), progress=progress),
            progress=progress,
        )
        tagged = has_tag(goal.place, tag, made.derived)
        if not tagged:
            put_tag(goal.place, goal.place.registry.get_manifest(goal.place.repository, made.derived), tag)
    if options.as_json:
        document = json.loads(encode_json(made))
        del document["descriptor"]
        print_json({"notes": [], **document, "tag": f"{goal.place}:{tag}", "changed": made.changed or not tagged})
        return
    _show(made, f"{goal.place}:{tag}")


def _show(made: Rechunked, name: str) -> None:
    for image in made.images:
        rows: list[dict[str, Any]] = [
            {
                "layer": each.name,
                "digest": bare_digest(each.digest),
                "compressed": size_text(each.size),
                "unpacked": size_text(each.tar_size),
                "how": each.how,
            }
            for each in image.layers
        ]
        print_below(image.platform, rows)
        print_lines([*_facts(image), *image.notes])
    print_lines(made.notes)
    console().print(f"{name} is {made.derived}, {size_text(made.bytes_sent)} sent", markup=False, soft_wrap=True)


def _facts(image: RechunkedImage) -> list[str]:
    facts = [
        f"{size_text(image.size_before)} before, {size_text(image.size_after)} now",
        f"tree {image.tree}, equal to the source's" + (" without what was dropped" if image.dropped else ""),
    ]
    if image.hidden:
        facts.append(f"{size_text(image.hidden)} that later layers hid are gone")
    if image.rewritten:
        facts.append(f"{count_text(image.rewritten, 'compiled Python module')} name no time of their source any more")
    for each in image.dropped:
        facts.append(f"{each.kind}: {count_text(each.files, 'file')}, {size_text(each.size)} dropped")
    return facts


COMMANDS = [rechunk]
