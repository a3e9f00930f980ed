"""``recover``: backups of registries, what they hold, restores and drills; who stands in for a registry."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from registry_pipelines.chain import StageResult
from registry_pipelines.cli.approving import Lasting
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES, REGISTRIES, names_of
from registry_pipelines.cli.output import (
    console,
    print_lines,
    print_next_steps,
    print_results,
    results_table,
    rows_table,
)
from registry_pipelines.errors import EvidenceError
from registry_pipelines.progress import age_text
from registry_pipelines.recover.failover.drill.faults import Fault
from registry_pipelines.recover.failover.drill.kinds import SCHEMES, Kind, Scheme
from registry_pipelines.settings import Duration

BACKUPS = names_of("backups")
FAILOVERS = names_of("failover")
RECORDS = ("route53-change-batch.json", "cloud-dns-record.json", "record.zone")
"""Records that are shown; what is beside them is for programs."""
MOST_ROWS = 200
"""Of a table; a drill with seven clients has 91 pulls, and each of them is what it was done for."""
AT = click.option(
    "--at",
    default="",
    metavar="TIME",
    help="The last moment until then (2026-11-29, 2026-11-29T03:15:00Z); the newest.",
)


@click.group("recover")
def recover() -> None:
    """Back registries up, bring a moment back, and drill that it works."""


@recover.command("backup", short_help="Keep what is new, and sign what every tag names.")
@click.argument("name", required=False, default="", shell_complete=BACKUPS)
@common
def backup(options: Options, name: str) -> None:
    """Keep what is new in the registries of a backup, and sign what every tag names now.

    NAME: a backup of the configuration; needed where there are several. Content that is kept is not sent again. Exit 6
    and others: something could not be read or written; the moment says so and is not whole.
    """
    with options.chain() as chain:
        _show(options, chain.backup(name), "registries")


@recover.command("list", short_help="List the moments of a backup, the newest first.")
@click.argument("name", required=False, default="", shell_complete=BACKUPS)
@common
def list_moments(options: Options, name: str) -> None:
    """List the moments of a backup, the newest first. Exit 3: the newest is older than `objectives.rpo`, or there is
    none."""
    with options.chain() as chain:
        _show(options, chain.moments(name), "moments")


@recover.command("show", short_help="Show what a moment has; write its configuration and settings.")
@click.argument("name", required=False, default="", shell_complete=BACKUPS)
@AT
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write the configuration and the settings of cloud registries there, as they were.",
)
@common
def show(options: Options, name: str, at: str, files: Path | None) -> None:
    """Show the repositories of a moment, and what could not be kept. Exit 3: the moment is not whole."""
    with options.chain() as chain:
        _show(options, chain.moment(name, at=at, files=files), "repositories")


@recover.command("expire", short_help="Let moments go that `keep` does not keep.")
@click.argument("name", required=False, default="", shell_complete=BACKUPS)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
def expire(options: Options, name: str, dry_run: bool) -> None:
    """Let the moments go that the backup's `keep` does not keep, then the content that only they needed; what another
    moment of any backup needs stays. Ended in the middle, it goes on when it is run again.

    Exit 3: something could not be deleted, and is tried again the next time.
    """
    with options.chain() as chain:
        _show(options, chain.expire(name, dry_run=dry_run), "moments")


@recover.command("restore", short_help="Bring images of a moment back, under the tags that they had.")
@click.argument("name", required=False, default="", shell_complete=BACKUPS)
@AT
@click.option("--registry", "registries", multiple=True, shell_complete=REGISTRIES, help="Only what was in it.")
@click.option("--repository", "repositories", multiple=True, metavar="PATTERN", help="Only repositories so named.")
@click.option("--to", default="", shell_complete=REGISTRIES, help="Another registry of the configuration.")
@click.option("--prefix", default="", help="Put in front of the repositories there.")
@click.option("--over", is_flag=True, help="Move tags that name something else there.")
@click.option("--dry-run", is_flag=True, help="Only say what would come back.")
@common
def restore(
    options: Options,
    name: str,
    at: str,
    registries: Sequence[str],
    repositories: Sequence[str],
    to: str,
    prefix: str,
    over: bool,
    dry_run: bool,
) -> None:
    """Bring images of a moment back with all that belonged to them, under the tags that they had; run again, it does
    the rest.

    A tag that names something else where they go is an error before anything moves, unless --over is given.
    """
    from registry_pipelines.chain.restore import Wanted

    wanted = Wanted(at, tuple(registries), tuple(repositories), to, prefix, over)
    with options.chain() as chain:
        _show(options, chain.restore(name, wanted, dry_run=dry_run), "repositories")


@recover.command("drill", short_help="Restore into empty registries here, and check all of it.")
@click.argument("name", required=False, default="", shell_complete=BACKUPS)
@AT
@click.option("--newest", type=click.IntRange(1), default=None, help="Only so many images of each repository.")
@click.option("--start/--no-start", default=True, show_default=True, help="Also start an image that came back.")
@common
def drill(options: Options, name: str, at: str, newest: int | None, start: bool) -> None:
    """Restore a moment into empty registries on this machine, compare every image and read every byte of it, verify
    signatures, and start one. Nothing else is changed, and what came is deleted at the end.

    Exit 3: something is missing, damaged or not signed, or an objective (`rpo`, `rto`) is missed.
    """
    with options.chain() as chain:
        _show(options, chain.drill(name, at=at, newest=newest or 0, start=start), "")


@recover.command("failover-drill", short_help="Pull with real clients while a stand-in of a registry is down.")
@click.argument("name", required=False, default="", shell_complete=FAILOVERS)
@click.option("--image", default="", shell_complete=IMAGES, help="Pull the newest release of this image.")
@click.option(
    "--client",
    "clients",
    multiple=True,
    type=click.Choice([each.value for each in Kind]),
    help="Only this kind of client.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice([each.value for each in Fault]),
    help="Only this way of being down.",
)
@click.option("--scheme", "schemes", multiple=True, type=click.Choice(SCHEMES), help="Only with, or without TLS.")
@click.option(
    "--limit",
    type=Lasting(),
    metavar="DURATION",
    default=None,
    help="End a pull after so long; objectives.rto unless told.",
)
@click.option(
    "--programs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with more clients: containerd and ctr, dockerd and docker.",
)
@click.option("--embedded", is_flag=True, help="Try the clients alone, with an image and registries made for it.")
@common
def failover_drill(
    options: Options,
    name: str,
    image: str,
    clients: Sequence[str],
    faults: Sequence[str],
    schemes: Sequence[Scheme],
    limit: Duration | None,
    programs: Sequence[Path],
    embedded: bool,
) -> None:
    """Pull a digest with every containerd and Docker of this machine while a stand-in of the first registry refuses,
    drops, freezes, stalls, or answers 503, without TLS and with it; and say what each client does and what helps.

    NAME: a section of `failover`; needed where there are several. Stand-ins listen on loopback, clients are daemons of
    the drill's own (as root), and registries are only read. Exit 3: a client misses `objectives`.
    """
    from registry_pipelines.chain.failover_drill import DrillOptions

    wanted = DrillOptions(
        image=image,
        limit_s=limit.total_seconds() if limit else 0.0,
        clients=[*map(Kind, clients)],
        faults=[*map(Fault, faults)],
        schemes=schemes,
        programs=programs,
        embedded=embedded,
    )
    with options.chain() as chain:
        _show(options, chain.failover_drill(name, wanted), "pulls")


def _show(options: Options, result: StageResult, title: str) -> None:
    if options.as_json:
        print_results([result])
    else:
        if title and result.rows:
            console().print(rows_table(result.rows, title=title, limit=MOST_ROWS))
        console().print(results_table([result]))
        print_lines([*_facts(result), *result.reasons, *result.notes])
        print_next_steps(result.next_steps)
    if not result.ok:
        sys.exit(result.exit_code or EvidenceError.exit_code)


def _facts(result: StageResult) -> list[str]:
    if result.stage == "failover-drill":
        return _failed_over(result)
    if "rto_s" not in result.facts:
        return []
    rto, rpo = float(result.facts["rto_s"]), float(result.facts.get("rpo_s", 0))
    return [
        f"RTO {rto:.1f} s, until all was back; RPO {age_text(rpo)}, the age of the moment",
        f"signatures verified: {result.facts['signatures']}; started: {result.facts['started']}",
    ]


def _failed_over(result: StageResult) -> list[str]:
    over, by_hand = result.facts["by_itself"], result.facts["by_hand"]
    return [
        f"{over} failed over by themselves, the slowest in {float(result.facts['rto_s']):.1f} s; {by_hand} only after "
        f"the registry was taken out by hand, the slowest pull then {float(result.facts['by_hand_s']):.1f} s",
        *result.alerts,
    ]


@recover.command("failover", short_help="Say what nodes would do without a registry; write their files.")
@click.argument("name", required=False, default="", shell_complete=FAILOVERS)
@click.option("--image", "images", multiple=True, metavar="IMAGE", help="Look at this one alone; may stand again.")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), default=None, help="Folder for the files.")
@click.option("--dry-run", is_flag=True, help="Only look; write nothing.")
@common
def failover(options: Options, name: str, images: Sequence[str], to: Path | None, dry_run: bool) -> None:
    """Ask the registries of a fail-over whether they can serve, and say what nodes would get from which of them, now
    and when one more is gone; then write the files of that order, and print the records of its name.

    NAME: a section of `failover`; needed where there are several. IMAGE: `app`, `app:v1.2.0`, or a reference as
    workloads write it; what channels name, what runs and what mirrors brought unless told. Nothing is changed in a
    cloud or a name server. Exit 3: with --dry-run where a registry is down or an image has no second place, else where
    it has no place at all. Exit 7: no registry can serve, and nothing was written.
    """
    if not dry_run and to is None:
        raise click.UsageError("Say where the files go with --to FOLDER, or only look with --dry-run.")
    with options.chain() as chain:
        result = chain.failover(name, images=images, to=to, dry_run=dry_run)
    if not options.as_json:
        out = console()
        for title in ("health", "order", "nodes", "dns", "files"):
            if result.tables.get(title):
                out.print(rows_table(result.tables[title], title=title))
        for record in result.tables.get("records", ()):
            if record["file"] in RECORDS:
                out.print(f"{record['file']}:\n{record['content']}", markup=False, highlight=False)
    _show(options, result, "images")


COMMANDS = [recover]
