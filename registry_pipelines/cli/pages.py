"""``report maturity`` and ``report html``: how it all stands, as a table and as pages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_lines, rows_table
from registry_pipelines.errors import EvidenceError
from registry_pipelines.report.maturity import TIERS, Maturity


@click.command("maturity", short_help="Say how good the practice is, in four tiers, and what comes next.")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", shell_complete=IMAGES)
@common
def maturity(options: Options, images: tuple[str, ...]) -> None:
    """Say how good the practice is of each registry and image, in four tiers, with the next step.

    1 private access and lifecycle; 2 slim images and scanning; 3 caches, immutable tags, signing, monitoring;
    4 streaming. Each criterion is yes, no or unknown by evidence of the latest release and by settings that are read
    now; with IMAGE each stands with what it was read from.
    """
    with options.chain() as chain:
        found = chain.maturity(images)
        below = chain.below_tier(found)
    if options.as_json:
        print_json(found.plain())
    else:
        show(found, whole=bool(images))
        print_lines(below)
    if below:
        sys.exit(EvidenceError.exit_code)


def show(found: Maturity, *, whole: bool) -> None:
    """A line for each subject. whole: each criterion, too."""
    out = console()
    tiers = "; ".join(f"{tier} {practice}" for tier, practice in TIERS.items())
    out.print(f"tiers: {tiers}", markup=False, soft_wrap=True)
    rows = [{name: value for name, value in row.items() if name not in ("practice", "do")} for row in found.rows()]
    out.print(rows_table(rows, limit=len(rows)))
    print_lines(f"{row['subject']}: {row['do']}" for row in found.rows() if row["do"])
    for subject in found.subjects if whole else ():
        title = f"{subject.kind} {subject.release or subject.name}: tier {subject.tier}"
        out.print(rows_table(subject.rows(), title=title, limit=len(subject.criteria)))
    print_lines(found.notes)


@click.command("html", short_help="Write pages of how it all stands, which open without a server.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write them here; `report/html` of the state folder unless told.",
)
@common
def html(options: Options, to: Path | None) -> None:
    """Write pages of how it all stands: status, custody of live releases, cost, bytes, lag, pulls, maturity, alerts.

    They open from a disk or an archive: no server, no script, nothing is loaded. What was not measured is called so.
    Pages of releases that are live no more are deleted.
    """
    with options.chain() as chain:
        written = chain.write_pages(to or chain.config.state / "report" / "html")
    if options.as_json:
        print_json({"files": [str(each) for each in written.files], "notes": written.notes})
        return
    click.echo(f"{written.files[0]}: open it in a browser; pages of releases: {len(written.files) - 1}")
    print_lines(written.notes)


COMMANDS = [html, maturity]
