"""The far side's commands of ``bundle``: look at media, load them, confirm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import BELIEVED_KEYS, Options, common
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import names_of
from registry_pipelines.cli.output import console, rows_table
from registry_pipelines.cli.releases import answer_all
from registry_pipelines.errors import InputError

if TYPE_CHECKING:
    from registry_pipelines.chain.result import StageResult
    from registry_pipelines.chain.session import Session
    from registry_pipelines.evidence.model import Verifier

MEDIA = click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
NAME = click.argument("name", shell_complete=names_of("mirrors"))


@click.command("verify", short_help="Read all that is on media, and compare it with the signed documents.")
@MEDIA
@BELIEVED_KEYS
@click.option(
    "--request",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write down which parts are to be made again; `bundle create --again` takes it.",
)
@common
def verify(options: Options, folders: tuple[Path, ...], keys: tuple[Path, ...], request: Path | None) -> None:
    """Read all that is on media (one DIR each, or several copies), and compare it with the signed documents.

    Parts are known by their content, so one with another name is found, on whichever medium. Nothing is written but
    FILE. Exit code 6: something is missing or damaged. Exit code 3: a bundle is not signed by whom it should be.
    """
    from registry_pipelines.chain import bundle_media

    session = open_session(options)
    with options.progress() as progress:
        result = bundle_media.verify(
            folders, whom_to_believe(session, keys), progress, session=session, request=request
        )
    if not options.as_json:
        show_tables(result, "parts")
    answer_all(options, [result], not_ok=INCOMPLETE)


def show_tables(result: StageResult, *further: str) -> None:
    """Print a result's rows, and those of its further tables that have any."""
    out = console()
    out.print(rows_table([dict(row) for row in result.rows]))
    for name in further:
        if result.tables.get(name):
            out.print(rows_table([dict(row) for row in result.tables[name]], title=name.replace("_", " ")))


def open_session(options: Options) -> Session | None:
    """The configuration's session; None without a configuration."""
    config = options.config_if_any()
    if config is None:
        return None
    from registry_pipelines.chain.session import Session
    from registry_pipelines.progress import Silent

    return Session(config, Silent())


def whom_to_believe(session: Session | None, keys: tuple[Path, ...]) -> Callable[[str], Verifier]:
    """Who is believed for the bundles of a mirror: the keys given, else as the configuration says of the mirror."""
    from registry_pipelines.chain.bundle_media import believed_signers
    from registry_pipelines.evidence.keys import load_verifier

    def believed(mirror: str) -> Verifier:
        if keys:
            return load_verifier(keys)
        if session is None:
            raise InputError("nobody is believed", do="Name the near side's public key with --key, or a configuration")
        return believed_signers(session, session.mirror(mirror))

    return believed


@click.command("load", short_help="Load the bundles on media into a mirror's private registry.")
@NAME
@MEDIA
@click.option(
    "--number", "numbers", type=click.IntRange(min=1), multiple=True, help="Only this bundle; may be repeated."
)
@click.option("--move-back", is_flag=True, help="Let tags move also to what an earlier bundle says.")
@click.option(
    "--receipt",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the receipt at the end: a *.json, or a folder.",
)
@common
def load(
    options: Options,
    name: str,
    folders: tuple[Path, ...],
    numbers: tuple[int, ...],
    move_back: bool,
    receipt: Path | None,
) -> None:
    """Load the bundles on media (one DIR each) into the private registry of mirror NAME.

    Everything is read and verified before anything is written; tags come last, and never move from what a later bundle
    set to what an earlier one says. Bundles may come in any order and twice. After an interruption the same command
    goes on. Exit code 6: something is missing, damaged, or a base was not loaded; then nothing was written.
    """
    with options.chain() as chain:
        result = chain.load_bundles(name, folders, numbers=numbers, move_back=move_back, receipt=receipt)
    if not options.as_json:
        show_tables(result, "kept")
    answer_all(options, [result], not_ok=INCOMPLETE)


@click.command("receipt", short_help="Write what the private registry has, signed, for the way back.")
@NAME
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A *.json, or a folder for it."
)
@common
def receipt(options: Options, name: str, to: Path) -> None:
    """Write what the private registry has of all that bundles of mirror NAME brought, signed, for the way back.

    Everything is asked of the registry now. The near side's next bundle leaves out what the receipt confirms.
    """
    with options.chain() as chain:
        result = chain.bundle_receipt(name, to)
    answer_all(options, [result])
