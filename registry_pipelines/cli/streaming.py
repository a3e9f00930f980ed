"""``stream``: images that start before they are fetched whole; for releases of the configuration and for any image."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import BELIEVED_KEYS, Options, SizeType, common
from registry_pipelines.cli.later import LaterGroup
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_lines, print_results, rows_table
from registry_pipelines.cli.references import is_release, named
from registry_pipelines.errors import ContentError, InputError
from registry_pipelines.progress import Progress, size_text
from registry_pipelines.settings import Size
from registry_pipelines.stream.model import (
    DEFAULT_MIN_LAYER_SIZE,
    DEFAULT_SPAN_SIZE,
    DERIVED_FORMATS,
    Stream,
    StreamFormat,
    problems,
)

if TYPE_CHECKING:  # loaded where it is used: what only checks an image needs neither
    from registry_pipelines.chain import Chain
    from registry_pipelines.chain.result import StageResult
    from registry_pipelines.chain.stream import Tools
    from registry_pipelines.config import Config

TARGET = (
    "TARGET is a release of the configuration (image:tag, image@digest, its key, or the image alone when it has one "
    "release), or any image reference."
)


class _Commands(LaterGroup):
    later = {
        "mount": "lazy",
        "run": "lazy",
        "status": "lazy",
        "measure": "measuring",
        "pack": "packing",
        "pull": "pulling",
        "bench": "streambench",
        "record": "recording",
        "recordings": "node_recordings",
    }


@click.group("stream", cls=_Commands)
def stream_group() -> None:
    """Let images start before they are fetched whole: SOCI, eStargz."""


def _answer(options: Options, result: StageResult) -> None:
    from registry_pipelines.cli.releases import answer

    answer(options, result)


_SPAN_SIZE = click.option(
    "--span-size",
    type=SizeType(),
    metavar="SIZE",
    help=f"Uncompressed bytes between two points of a SOCI index; {DEFAULT_SPAN_SIZE} unless told.",
)
_MIN_LAYER_SIZE = click.option(
    "--min-layer-size",
    type=SizeType(),
    metavar="SIZE",
    help=f"Smaller layers get no SOCI index; {DEFAULT_MIN_LAYER_SIZE} unless told.",
)
_PRIORITIZE = click.option(
    "--prioritize",
    multiple=True,
    metavar="PATH",
    help="A file that a start reads, to be fetched first; may be repeated.",
)
_KEY = click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key of the indexer; the configuration's unless told.",
)


@stream_group.command("index", epilog=TARGET, short_help="Make a SOCI index beside an image; no digest changes.")
@click.argument("target", shell_complete=IMAGES)
@_SPAN_SIZE
@_MIN_LAYER_SIZE
@_PRIORITIZE
@_KEY
@common
def index(
    options: Options,
    target: str,
    span_size: Size | None,
    min_layer_size: Size | None,
    prioritize: tuple[str, ...],
    key: Path | None,
) -> None:
    """Index an image, so that a node starts it before it has fetched it whole: a SOCI index for each platform, which
    refers to it and is signed by the indexer. No digest changes. Layers that get none are listed with the reason.

    What an image of the configuration has in its `stream` holds in place of options.
    """
    told = {"span_size": span_size, "min_layer_size": min_layer_size, "prioritize": prioritize or None}
    given = {name: value for name, value in told.items() if value is not None}
    config = options.config_if_any()
    if is_release(config, target):
        with options.chain() as chain:
            release = chain.find_release(target)
            _refuse_what_is_configured(chain.config, release.image, given, key)
            result = chain.index(release, wanted(given))
        _answer(options, result)
        return
    from registry_pipelines.chain.stream import index_any

    stream = wanted(given)
    with options.places([target]) as places, options.progress() as progress:
        located = places.locate(target)
        result = index_any(located.place, located.selector, stream, tools_for(options, key, progress))
    _answer(options, result)


@stream_group.command("convert", epilog=TARGET, short_help="Make a SOCI v2 or eStargz image of another one.")
@click.argument("target", shell_complete=IMAGES)
@click.option(
    "--format",
    "form",
    type=click.Choice(DERIVED_FORMATS),
    help="What is made; that of the configuration unless told. soci-v1 is what `stream index` makes.",
)
@_SPAN_SIZE
@_MIN_LAYER_SIZE
@_PRIORITIZE
@_KEY
@common
def convert(
    options: Options,
    target: str,
    form: StreamFormat | None,
    span_size: Size | None,
    min_layer_size: Size | None,
    prioritize: tuple[str, ...],
    key: Path | None,
) -> None:
    """Make an image of another one that a node starts before it has fetched it whole. It has a digest of its own, the
    tag `<tag>-<format>` in the same repository, and a signed record of what it was made of.

    soci-v2: the same layers, and manifests that name their index. estargz: layers in pieces. Of an image of the
    configuration with such a `stream.format` it is the release; IMAGE alone is then the newest that is not converted.
    """
    told = {"format": form, "span_size": span_size, "min_layer_size": min_layer_size, "prioritize": prioritize or None}
    given = {name: value for name, value in told.items() if value is not None}
    config = options.config_if_any()
    if is_release(config, target):
        with options.chain() as chain:
            name, tag = _origin(chain, target)
            if form is None:
                _refuse_what_is_configured(chain.config, name, given, key)
            result = chain.convert(name, tag, wanted(given) if form else None)
        _answer(options, result)
        return
    if form is None:
        raise InputError("--format is missing", do=f"Write one of {', '.join(DERIVED_FORMATS)}")
    from registry_pipelines.chain.stream import convert_any

    stream = wanted(given)
    with options.places([target]) as places, options.progress() as progress:
        located = places.locate(target)
        if not located.tag:
            raise InputError(f"{target!r} has no tag, and what is made is named by it", do="Write the tag, too")
        tools = tools_for(options, key, progress)
        result = convert_any(located.place, located.selector, located.tag, stream, tools)
    _answer(options, result)


def wanted(given: Mapping[str, Any]) -> Stream:
    """What options say, held against what goes together. Raises InputError."""
    stream = Stream(**given)
    for field, problem in problems(stream):
        raise InputError(f"--{field.replace('_', '-')} {problem}")
    return stream


def _origin(chain: Chain, text: str) -> tuple[str, str]:
    """Image and tag of what is to be converted. Raises InputError."""
    name, colon, tag = text.partition("@")[0].partition(":")
    if "@" in text or (colon and not tag):
        raise InputError(f"{text!r} names no tag alone, and what is made is named by it", do="Write image:tag")
    if tag:
        return name, tag
    origins = chain.origins(name)
    waiting = [each for each, done in origins.items() if not done]
    if waiting or not origins:
        return name, waiting[0] if waiting else chain.find_release(name).tag
    raise InputError(f"everything of {name} is converted", do="Write image:tag")


def _refuse_what_is_configured(config: Config, name: str, given: Mapping[str, Any], key: Path | None) -> None:
    if key is not None:
        raise InputError("an image of the configuration is signed with the configuration's key", do="Leave --key out")
    if given and config.images[name].stream is not None:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise InputError(
            f"images.{name}.stream of the configuration says this", do=f"Change it there; leave {option} out"
        )


def tools_for(options: Options, key: Path | None, progress: Progress) -> Tools:
    """For an image that is none of the configuration's. Raises InputError: no key is named, or it cannot be read."""
    from registry_pipelines.chain.stream import Tools

    unsigned = "no key of the indexer is named, and nobody believes an index that is not signed"
    signer = options.signer(key, "indexer", unsigned=unsigned)
    engine = replace(options.engine(None), progress=progress)
    return Tools(state=options.state.parent, signer=signer, engine=engine, progress=progress)


@stream_group.command("check", epilog=TARGET, short_help="Say what keeps an image from starting early.")
@click.argument("target", shell_complete=IMAGES)
@click.option("--every-span", is_flag=True, help="Read layers whole through their indexes, in place of a sample.")
@BELIEVED_KEYS
@common
def check(options: Options, target: str, every_span: bool, keys: tuple[Path, ...]) -> None:
    """Say what keeps an image from starting before it is fetched whole: on nodes with the SOCI or the stargz
    snapshotter, on Fargate and on GKE. Nothing is written.

    An index is held against its layers: a few pieces of each are fetched and compared. Whose signature counts the
    configuration says, or `--key`.

    Severities: error (what was made for it is broken, or cannot be trusted), warning (layers are fetched whole),
    unknown (only somebody else can tell), hint. Exit 6: an error.
    """
    from registry_pipelines.chain.stream import check as checked

    config, trusted = options.config_if_any(), options.believed(keys)
    name = target.partition("@")[0].partition(":")[0]
    stream = config.images[name].stream if config and is_release(config, target) else None
    with named(options, [target]) as locate:
        located = locate(target)
        result = checked(
            *(located.place, located.selector),
            subject=target,
            verifier=trusted,
            stream=stream,
            every_span=every_span,
        )
    if options.as_json:
        print_results([result])
    else:
        _show_check(result)
    if not result.ok:
        sys.exit(result.exit_code or ContentError.exit_code)


_CHECK_COLUMNS = ("severity", "reader", "platform", "layer", "what")


def _pack_text(pack: Mapping[str, Any]) -> str:
    """A platform's hot pack in a sentence."""
    if pack["state"] in ("fresh", "inherited"):
        of = (
            "this image"
            if pack["state"] == "fresh"
            else f"{pack['recorded'][:19]}, {pack['pages_found']:.0%} of it here"
        )
        gpu = " on a GPU" if pack["gpu"] else ""
        return f"hot pack of {size_text(pack['stored_bytes'])}, signed, cut from a start{gpu} of {of}"
    told = {
        "none": "no hot pack",
        "unverified": "whether its hot pack can be trusted is not known: no indexer's key was given",
        "not believed": "its hot pack is not signed by a key that is believed",
        "damaged": "its hot pack is damaged",
    }
    return told[pack["state"]]


def _show_check(result: StageResult) -> None:
    out = console()
    out.print(f"{result.subject} {result.digest}: {result.action}", markup=False, soft_wrap=True)
    for pack in result.tables["packs"]:
        out.print(f"{pack['platform']}: {_pack_text(pack)}", markup=False, soft_wrap=True)
    if result.rows:
        rows = [{name: row[name] for name in _CHECK_COLUMNS} for row in result.rows]
        out.print(rows_table(rows, limit=len(rows)))
    print_lines(
        dict.fromkeys(f"{str(row['what']).partition(':')[0]}: {row['why']}. {row['do']}" for row in result.rows)
    )


COMMANDS = [stream_group]
