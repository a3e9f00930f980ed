"""The near side's commands of ``bundle``: make one, make parts once more, say what was made and what is on a medium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.bundle_far import MEDIA, NAME, open_session, show_tables, whom_to_believe
from registry_pipelines.cli.context import BELIEVED_KEYS, Options, SizeType, common
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.releases import answer_all
from registry_pipelines.errors import InputError

if TYPE_CHECKING:
    from registry_pipelines.mirror.bundle.request import WantedParts
    from registry_pipelines.settings import Size

RECEIPTS = click.option(
    "--receipt",
    "receipts",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A receipt that came back from the far side; it is kept for later bundles, too.",
)

MAX_PARTS = 200_000
"""As many files as a medium may have that is read (``bundle.media``)."""


@click.command("create", short_help="Write a mirror's next bundle onto media.")
@NAME
@click.option(
    "--to",
    "folders",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    required=True,
    metavar="DIR",
    help="Folder on a medium; several are filled one after the other.",
)
@click.option("--part-size", type=SizeType(), metavar="SIZE", help="Of a file; the mirror's `part_size` unless told.")
@click.option("--full", is_flag=True, help="Leave nothing out, whatever receipts say.")
@click.option("--with-tool", is_flag=True, help="Bring this program along, as the mirror says.")
@RECEIPTS
@click.option("--restart", is_flag=True, help="Give a half made bundle up, and make a new one.")
@click.option(
    "--again", "number", type=click.IntRange(min=1), metavar="NUMBER", help="Parts of this bundle, once more."
)
@click.option("--parts", metavar="3,7", help="Which parts of --again.")
@click.option(
    "--request",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Parts that the far side asks for again, as its `bundle verify --request` wrote it.",
)
@common
def create(
    options: Options,
    name: str,
    folders: tuple[Path, ...],
    part_size: Size | None,
    full: bool,
    with_tool: bool,
    receipts: tuple[Path, ...],
    restart: bool,
    number: int | None,
    parts: str | None,
    request: Path | None,
) -> None:
    """Write the next bundle of mirror NAME onto media: all it brings, less what receipts of the far side confirm.

    What is in the DMZ registry is taken (without one, what the sources have), with all evidence; held and unreadable
    images are left out and named. When a medium is full, or after an interruption, the same command goes on with the
    rest, also in another DIR. The signed document is written last. Exit code 6: something could not be read; the rest
    is in the bundle.
    """
    with options.chain() as chain:
        if number is not None or parts is not None or request is not None:
            if restart or full or with_tool or receipts or part_size is not None or len(folders) > 1:
                raise InputError("--again takes one --to, and nothing that makes a new bundle")
            if request is None:
                results = [chain.bundle_again(name, *_parts_of(number, parts), folders[0])]
            else:
                wanted = _requested(request, name, number, parts)
                results = [
                    chain.bundle_again(name, each.number, each.parts, folders[0], line=each.line) for each in wanted
                ]
        else:
            results = [
                chain.create_bundle(
                    name,
                    folders,
                    part_size=part_size,
                    full=full,
                    with_tool=with_tool,
                    receipts=receipts,
                    restart=restart,
                )
            ]
    if not options.as_json:
        for result in results:
            show_tables(result, "left_out")
    answer_all(options, results, not_ok=INCOMPLETE)


def _parts_of(number: int | None, text: str | None) -> tuple[int, list[int]]:
    """A bundle's number, and ``3,7-9`` as numbers of its parts. Raises InputError."""
    if number is None or text is None:
        raise InputError("parts are made again of one bundle", do="Write --again NUMBER --parts 3,7")
    numbers: list[int] = []
    try:
        for piece in text.split(","):
            first, dash, last = piece.strip().partition("-")
            named = range(int(first), int(last if dash else first) + 1)
            if not named or named.stop > MAX_PARTS:
                raise ValueError(piece)
            numbers += named
    except ValueError as error:
        raise InputError(f"{text[:80]!r} names no parts", do="Write --again NUMBER --parts 3,7") from error
    return number, numbers


def _requested(request: Path, name: str, number: int | None, parts: str | None) -> list[WantedParts]:
    """The parts of each bundle that a request of this mirror asks for."""
    from registry_pipelines.mirror.bundle.request import read_request

    if number is not None or parts is not None:
        raise InputError("--request says which parts, so --again and --parts do not go with it")
    wanted = [each for each in read_request(request).bundles if each.mirror == name and each.parts]
    if not wanted:
        raise InputError(
            f"no parts of {name} are asked for",
            where=str(request),
            do="Files of the tool come again with the next bundle (--with-tool)",
        )
    return wanted


@click.command("show", short_help="Show what the bundles on media hold, by their documents.")
@MEDIA
@BELIEVED_KEYS
@common
def show(options: Options, folders: tuple[Path, ...], keys: tuple[Path, ...]) -> None:
    """Show what the bundles on media hold (one DIR each), by their documents; no part is read.

    No key is needed: whether a signature is believed is said where there is a key or a configuration to ask.
    """
    from registry_pipelines.chain import bundle_list

    session = open_session(options)
    result = bundle_list.show(folders, whom_to_believe(session, keys) if keys or session else None)
    if not options.as_json:
        show_tables(result, "bundles", "left_out")
    answer_all(options, [result])


@click.command("list", short_help="List the bundles made of a mirror, and what the far side confirmed.")
@NAME
@RECEIPTS
@common
def listing(options: Options, name: str, receipts: tuple[Path, ...]) -> None:
    """List the bundles that were made of mirror NAME here, and what receipts of the far side confirmed.

    With --receipt FILE a receipt that came back is taken in first.
    """
    with options.chain() as chain:
        result = chain.bundles(name, receipts=receipts)
    if not options.as_json:
        show_tables(result, "receipts")
    answer_all(options, [result])
