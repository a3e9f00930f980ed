"""``report maturity`` and ``report html``: how it all stands, as a table and as pages."""

from __future__ import annotations

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_lines, rows_table
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
    if options.as_json:
        print_json(found.plain())
        return
    show(found, whole=bool(images))


def show(found: Maturity, *, whole: bool) -> None:
    """A line for each subject. whole: each criterion, too."""
    out = console()
    out.print(", ".join(f"{tier}: {practice}" for tier, practice in TIERS.items()), markup=False, soft_wrap=True)
    rows = [{name: value for name, value in row.items() if name not in ("practice", "do")} for row in found.rows()]
    out.print(rows_table(rows, limit=len(rows)))
    print_lines(f"{row['subject']}: {row['do']}" for row in found.rows() if row["do"])
    for subject in found.subjects if whole else ():
        title = f"{subject.kind} {subject.release or subject.name}: tier {subject.tier}"
        out.print(rows_table(subject.rows(), title=title, limit=len(subject.criteria)))
    print_lines(found.notes)


COMMANDS = [maturity]
