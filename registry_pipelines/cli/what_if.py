"""``report transfer`` and ``report what-if``: what moves and what that costs, and what would change it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.cli.context import Options, SizeType, common
from registry_pipelines.cli.names import IMAGES, REGISTRIES
from registry_pipelines.cli.output import console, print_lines, print_results, rows_table
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.oci.files import write_file
from registry_pipelines.settings import Size

if TYPE_CHECKING:
    from registry_pipelines.chain.what_if import Answer, Through

_SENTENCES = ("arithmetic", "arithmetic_once", "unknown", "size_of")
"""Columns that are told below the tables, where they have the room."""
_PRICES = click.option(
    "--prices", type=click.Path(path_type=Path), metavar="FILE", help="A price book of your own (JSON)."
)
_PULLS = click.option(
    "--pulls",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Pulls as CSV: registry,repository,pulls and, where known, digest, tag, edge.",
)
_DAYS = click.option(
    "--days", type=click.IntRange(1, 455), default=30, show_default=True, help="Whose pulls count, up to now."
)


@click.command("transfer", short_help="Say what pulls and copies of images cost a month, by edge.")
@click.argument("registries", nargs=-1, metavar="[REGISTRY]...", shell_complete=REGISTRIES)
@_DAYS
@_PULLS
@_PRICES
@common
def transfer(options: Options, registries: tuple[str, ...], days: int, pulls: Path | None, prices: Path | None) -> None:
    """What images on the move cost a month: pulls over the edges of `report.edges`, and copies to targets.

    Pulls are counted by --pulls, else by the events that `report audit` keeps, else by CloudWatch (ECR). What is not
    known is listed and in no sum. Exit 7: a source of pulls did not answer.
    """
    with options.chain() as chain:
        result = chain.transfer(registries, days=days, pulls=pulls, prices=prices)
    _show(options, result, "repositories")


def _show(options: Options, result: StageResult, *tables: str) -> None:
    if options.as_json:
        print_results([result])
    else:
        out = console()
        out.print(f"{result.subject}: {result.action}", markup=False, soft_wrap=True)
        if result.rows:
            out.print(rows_table(_short(result.rows), title=result.stage))
        for name in tables:
            if rows := result.tables.get(name):
                out.print(rows_table(_short(rows), title=name))
        lines = [line for row in result.rows for line in _sums(row)]
        print_lines([*lines, *result.reasons, *result.notes])
    if not result.ok:
        sys.exit(result.exit_code or EvidenceError.exit_code)


def _sums(row: Mapping[str, Scalar]) -> list[str]:
    """The arithmetic of a row, as sentences."""
    name = row.get("edge") or row.get("case") or ""
    monthly, once = row.get("arithmetic"), row.get("arithmetic_once")
    return [*([f"{name}: {monthly} a month"] if monthly else []), *([f"{name}: {once} once"] if once else [])]


def _short(rows: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Scalar]]:
    """Without sentences, which stand below the table."""
    empty = {name for name in ("usd_once",) if not any(row.get(name) for row in rows)}
    hidden = {*_SENTENCES, *empty}
    return [{name: value for name, value in row.items() if name not in hidden} for row in rows]


@click.group("what-if", short_help="Say what a change would cost or save, before it is made.")
def what_if() -> None:
    """Say what a change would cost or save, with the arithmetic, before anything is done."""


_FROM = click.option(
    "--from",
    "inventory",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A stored inventory (.parquet) in place of the registry.",
)
_SVG = click.option(
    "--svg", type=click.Path(path_type=Path), metavar="FILE", help="Write the break-even's picture here."
)
_TIMES = click.option(
    "--times", type=click.FloatRange(0), metavar="N", help="Pulls a month, in place of what counts them."
)
_PLATFORM = click.option(
    "--platform", default="", metavar="OS/ARCH", help="Platform that is looked at; an index's first unless told."
)
_THROUGH = click.Choice(["public", "nat", "s3-gateway", "interface-endpoint"])


@what_if.command("retention", short_help="What retention rules would free and save.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.option(
    "--rules",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML with `retention:`, whose rules are tried in place of the configuration's.",
)
@_FROM
@_PRICES
@common
def retention(options: Options, registry: str, rules: Path | None, inventory: Path | None, prices: Path | None) -> None:
    """What the retention rules of REGISTRY would free, and save a month: the bytes that no image shares which stays.

    It is the plan that `collect plan` makes, which is not kept here; nothing is deleted. Exit 3: something about a
    repository is unclear, so that nothing of it would go.
    """
    with options.chain() as chain:
        told = chain.what_if_retention(registry, rules=rules, inventory=inventory, prices=prices)
    _answer(options, told, None, "rule", "team", "repository")


@what_if.command("replica", short_help="From how many pulls on a replica is worth it.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.argument("region")
@click.option("--through", type=_THROUGH, help="The way of layers to the nodes now; that of the region's edges.")
@click.option("--within", type=_THROUGH, help="Their way with the replica; the same unless told.")
@click.option("--size", type=SizeType(), metavar="SIZE", help="Bytes of a pull, as 5GB.")
@click.option("--held", type=SizeType(), metavar="SIZE", help="Bytes that the replica keeps.")
@click.option("--moved", type=SizeType(), metavar="SIZE", help="Bytes that releases bring there in a month.")
@_TIMES
@_DAYS
@_PULLS
@_FROM
@_PRICES
@_SVG
@common
def replica(
    options: Options,
    registry: str,
    region: str,
    through: Through | None,
    within: Through | None,
    size: Size | None,
    held: Size | None,
    moved: Size | None,
    times: float | None,
    days: int,
    pulls: Path | None,
    inventory: Path | None,
    prices: Path | None,
    svg: Path | None,
) -> None:
    """From how many pulls a month on a replica of REGISTRY in REGION is worth it: its storage and what releases bring
    there, against the crossings that pulls save.

    Unless told, the registry's content is read, releases are those of the configuration's images, and pulls are those
    over the edges of `report.edges` to that region.
    """
    from registry_pipelines.chain.what_if import Told

    given = Told(
        size=size if size is None else float(size),
        held=held if held is None else float(held),
        moved=moved if moved is None else float(moved),
        times=times,
    )
    with options.chain() as chain:
        told = chain.what_if_replica(
            registry,
            region,
            through=through,
            within=within,
            told=given,
            days=days,
            pulls=pulls,
            inventory=inventory,
            prices=prices,
        )
    _answer(options, told, svg)


@what_if.command("archive", short_help="What ECR's archive class would save.")
@click.argument("registry", shell_complete=REGISTRIES)
@click.option(
    "--unpulled-days", type=click.IntRange(1), default=90, show_default=True, help="What nobody pulled for so long."
)
@click.option("--retrieved", type=SizeType(), metavar="SIZE", help="Bytes a month that would be brought back.")
@_FROM
@_PRICES
@_SVG
@common
def archive(
    options: Options,
    registry: str,
    unpulled_days: int,
    retrieved: Size | None,
    inventory: Path | None,
    prices: Path | None,
    svg: Path | None,
) -> None:
    """What the archive class of ECR would save for images of REGISTRY that nobody pulled for a time.

    Below 150 TB in the archive it saves nothing; what is archived is billed for 90 days at least, and paid for again
    when it is brought back.
    """
    with options.chain() as chain:
        told = chain.what_if_archive(
            registry,
            unpulled_days=unpulled_days,
            retrieved=None if retrieved is None else float(retrieved),
            inventory=inventory,
            prices=prices,
        )
    _answer(options, told, svg)


@what_if.command("base", short_help="What moving images to another base comes to.")
@click.argument("old")
@click.argument("new")
@click.option("--scanned", is_flag=True, help="Each new image is scanned, and paid for.")
@_PRICES
@common
def base(options: Options, old: str, new: str, scanned: bool, prices: Path | None) -> None:
    """What moving images from base OLD to base NEW comes to: bytes that are shared before and after, and what rebuilds
    push.

    OLD, NEW: registry/repository:tag or @digest. Looked at are the newest release of each image of the configuration,
    and those that channels name.
    """
    with options.chain() as chain:
        told = chain.what_if_base(old, new, scanned=scanned, prices=prices)
    _answer(options, told, None, "images")


@what_if.command("rechunk", short_help="What layers of a package each would change.")
@click.argument("image", shell_complete=IMAGES)
@click.option("--releases", "last", type=click.IntRange(2, 50), default=3, show_default=True, help="The last so many.")
@_PLATFORM
@click.option(
    "--nodes", type=click.IntRange(0), metavar="N", help="Nodes that fetch each release, over `report.edges`."
)
@_PRICES
@common
def rechunk(options: Options, image: str, last: int, platform: str, nodes: int | None, prices: Path | None) -> None:
    """What layers of a package each would change of IMAGE: what a release moves, and what the last releases take.

    Of releases that were rechunked it is measured; else it is planned by what is in the layers, which are read once.
    """
    with options.chain() as chain:
        told = chain.what_if_rechunk(image, last=last, platform=platform, nodes=nodes, prices=prices)
    _answer(options, told, None, "releases")


@what_if.command("streaming", short_help="What streaming an image would change on the wire.")
@click.argument("image", shell_complete=IMAGES)
@click.option("--tag", default="", metavar="TAG", help="Of a release; the newest unless told.")
@_PLATFORM
@_TIMES
@_DAYS
@_PULLS
@_PRICES
@common
def streaming(
    options: Options,
    image: str,
    tag: str,
    platform: str,
    times: float | None,
    days: int,
    pulls: Path | None,
    prices: Path | None,
) -> None:
    """What streaming IMAGE would change on the wire: the bytes that a measured start fetched, times its pulls.

    Measured is what `stream measure` signed. Where nodes fetch the rest meanwhile, all bytes move, only later.
    """
    with options.chain() as chain:
        told = chain.what_if_streaming(
            image, tag=tag, platform=platform, times=times, days=days, pulls=pulls, prices=prices
        )
    _answer(options, told, None)


def _answer(options: Options, told: Answer, svg: Path | None, *tables: str) -> None:
    """Print it, and write its picture. Raises InputError: there is none to write."""
    if svg is not None:
        if not told.picture:
            raise InputError("there is no break-even to draw", do="See what is not known, without --svg")
        write_file(svg, told.picture.encode())
    _show(options, told.result, *tables)


COMMANDS = [transfer, what_if]
