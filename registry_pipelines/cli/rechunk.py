"""``rechunk``: an image of any builder with one package a layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import bare_digest, console, print_below, print_lines
from registry_pipelines.cli.references import is_release, named
from registry_pipelines.errors import InputError
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.anatomy.rechunk.model import Drop, Rechunked, RechunkedImage, RechunkOptions
    from registry_pipelines.chain import Chain
    from registry_pipelines.chain.places import Located

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
@click.option(
    "--drop",
    multiple=True,
    type=click.Choice(["caches", "weights"]),
    help="Leave out what lies in caches of package managers, or weights of models; may be repeated.",
)
@click.option(
    "--times",
    type=click.Choice(["fixed", "keep"]),
    help="fixed (unless told): one date for every file, so that images share layers. keep: each file's own.",
)
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="OS/ARCH",
    help="Only this one of an index, others stay as they are; may be repeated.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key of the indexer, which signs what both roots hold; with --verify a public key to believe. The "
    "configuration's unless told.",
)
@click.option("--verify", "verifies", is_flag=True, help="Make nothing: read SOURCE and what it was made of again.")
@common
def rechunk(
    options: Options,
    source: str,
    to: str,
    previous: str,
    drop: tuple[Drop, ...],
    times: str | None,
    platforms: tuple[str, ...],
    key: Path | None,
    verifies: bool,
) -> None:
    """Make an image anew with one package a layer: the same files, and layers that stay where they are.

    Files of a package (pip, conda, npm, dpkg, rpm, apk) share a layer, large packages have one of their own. The next
    release then moves only what changed. What was made is read back and must hold the same tree as the source before
    its tag names it. Killed in the middle, the same command goes on.

    SOURCE as `image:tag` of the configuration: what is done its `rechunk` says, and what is made is a release, or what
    one is converted of. With the configuration's key or `--key` the indexer signs of what it was made and that both
    have the same files; without, no policy takes it for the source.

    `--verify`: both are read again, whoever signed; `--key` is then a public key that is believed. Exit 3: the files
    differ, or nobody believed signed of what it was made.
    """
    config = options.config_if_any()
    given = {"--to": to, "--previous": previous, "--drop": drop, "--times": times, "--platform": platforms}
    if verifies:
        _verify(options, source, given, key)
        return
    if is_release(config, source):
        _configured(options, source, given | {"--key": key})
        return
    from registry_pipelines.anatomy.rechunk.model import RechunkOptions

    told = RechunkOptions(
        drop=drop,
        times="keep" if times == "keep" else "fixed",
        platforms=tuple(map(Platform.parse, platforms)),
    )
    if key is not None or config is not None:
        _signed(options, source, to, previous, told, key)
        return
    goals = [to] if to else []
    with (
        named(options, [source, *([previous] if previous else [])], goals=goals) as locate,
        options.progress() as progress,
    ):
        found = locate(source)
        goal = locate(to, default_tag="") if to else found
        tag = _tag(source, found, goal, to)
        before = locate(previous) if previous else None
        from registry_pipelines.anatomy.rechunk.engine import read_layouts
        from registry_pipelines.anatomy.rechunk.engine import rechunk as rechunk_image
        from registry_pipelines.registry.tags import put_tag
        from registry_pipelines.stream.pushing import has_tag

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


def _verify(options: Options, source: str, given: Mapping[str, Any], key: Path | None) -> None:
    _refuse(given, "makes an image, and --verify makes none")
    from registry_pipelines.chain.rechunk_check import verify_any
    from registry_pipelines.cli.releases import answer

    trusted = options.believed([key] if key else [])
    if trusted is None:
        raise InputError("no key is trusted, so nobody's record says what to compare", do="Name one with --key")
    with named(options, [source]) as locate, options.progress() as progress:
        found = locate(source)
        state = options.state.parent
        result = verify_any(
            found.place, found.selector, subject=source, verifier=trusted, state=state, progress=progress
        )
    answer(options, result)


def _configured(options: Options, source: str, given: Mapping[str, Any]) -> None:
    _refuse(given, "stands in the configuration (`rechunk` of the image)")
    from registry_pipelines.cli.releases import answer

    name, colon, tag = source.partition("@")[0].partition(":")
    if "@" in source or (colon and not tag):
        raise InputError(f"{source!r} names no tag alone, and what is made is named by it", do="Write image:tag")
    with options.chain() as chain:
        result = chain.rechunk(name, tag or _waiting(chain, name))
    answer(options, result)


def _waiting(chain: Chain, name: str) -> str:
    """The newest tag of an image that waits. Raises InputError where none does."""
    waiting = [tag for tag, done in chain.origins(name).items() if not done]
    if not waiting:
        raise InputError(f"nothing of {name} waits to be rechunked", do="Push an image, or write image:tag")
    return waiting[0]


def _signed(options: Options, source: str, to: str, previous: str, told: RechunkOptions, key: Path | None) -> None:
    wanted = [source, *([previous] if previous else [])]
    with named(options, wanted, goals=[to] if to else []) as locate, options.progress() as progress:
        found = locate(source)
        goal = locate(to, default_tag="") if to else found
        lends = locate(previous) if previous else None
        from registry_pipelines.chain.rechunk import rechunk_any
        from registry_pipelines.cli.releases import answer
        from registry_pipelines.cli.streaming import tools_for

        result = rechunk_any(
            found.place,
            found.selector,
            _tag(source, found, goal, to),
            told,
            tools_for(options, key, progress),
            target=goal.place,
            previous=(lends.place, lends.selector) if lends else None,
        )
    answer(options, result)


def _tag(source: str, found: Located, goal: Located, to: str) -> str:
    """The tag of what is made. Raises InputError where none is named."""
    tag = goal.tag if to else found.tag + SUFFIX if found.tag else ""
    if not tag:
        raise InputError(f"no tag is named for what is made of {source}", do="Give --to REGISTRY/REPOSITORY:TAG")
    return tag


def _refuse(given: Mapping[str, Any], why: str) -> None:
    for name in (name for name, value in given.items() if value):
        raise InputError(f"{name} {why}", do=f"Leave {name} out")


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
