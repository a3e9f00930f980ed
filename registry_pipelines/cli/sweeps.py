"""``sweep``: a whole fleet in 256 parts."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import show_result
from registry_pipelines.errors import EvidenceError
from registry_pipelines.settings import Duration

KINDS = click.Choice(["drift", "lag", "cost"])


@click.group("sweep", short_help="Look at a whole fleet in 256 parts: drift, lag, cost.")
def sweep_group() -> None:
    """Look at a whole fleet in 256 parts: drift, lag, cost.

    Each part is done by one process at a time, and several processes share the work.

    `drift`: whether each target has what the source has. `lag`: how far targets are behind. `cost`: what registries
    hold and what that costs. What advisories say anew is a sweep of its own: `rescan`.
    """


@sweep_group.command("run", short_help="Sweep all parts, or one.")
@click.argument("kind", type=KINDS)
@click.option("--bucket", metavar="00..ff", help="This part alone.")
@click.option("--since", metavar="DURATION", help="Pass over what was wholly swept so shortly ago, as 12h: to go on.")
@click.option("--most", type=click.IntRange(min=1), metavar="N", help="Compare N releases of a part at most.")
@common
def run(options: Options, kind: str, bucket: str | None, since: str | None, most: int | None) -> None:
    """Look at the fleet, and keep what is found: a Parquet file for each part, with a signed statement about it.

    Several processes share the work: a part that another one has is passed over. Exit 3: something is wrong. Exit 7:
    something could not be read.
    """
    from registry_pipelines.chain.buckets import BUCKETS

    if bucket is not None and bucket not in BUCKETS:
        raise click.BadParameter("a bucket is two hexadecimal digits, 00 to ff", param_hint="--bucket")
    began = _before(since)
    with options.chain() as chain:
        result = chain.sweep(kind, bucket=bucket or "", since=began, most=most)
    _answer(options, result)


@sweep_group.command("show", short_help="Show what the last sweep of each part found, together.")
@click.argument("kind", type=KINDS)
@click.option("--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write all rows to this file, too.")
@common
def show(options: Options, kind: str, parquet: Path | None) -> None:
    """Put together what is kept of all parts, once each is held against its signed statement. No registry is asked.

    Exit 3: something is wrong. Exit 7: parts are missing, or something could not be read.
    """
    with options.chain() as chain:
        result = chain.swept(kind, parquet=parquet)
    _answer(options, result)


def _answer(options: Options, result: StageResult) -> None:
    show_result(result, as_json=options.as_json)
    if not result.ok:
        sys.exit(result.exit_code or EvidenceError.exit_code)


def _before(text: str | None) -> datetime | None:
    """When it was so long ago."""
    try:
        return datetime.now(UTC) - Duration.parse(text) if text else None
    except OverflowError as error:
        raise click.BadParameter(f"{text!r} ago there were no dates", param_hint="--since") from error
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error


COMMANDS = [sweep_group]
