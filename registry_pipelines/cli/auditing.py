"""``report custody``: the whole life of a digest, with who says so."""

from __future__ import annotations

from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, harmless, print_alerts, print_lines
from registry_pipelines.cli.references import is_release
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.report.custody import CHAPTERS, Custody


@click.command("custody", short_help="Tell the whole life of a release or an image, with who says so.")
@click.argument("reference", metavar="RELEASE|REFERENCE", shell_complete=IMAGES)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page here.")
@common
def custody(options: Options, reference: str, html: Path | None) -> None:
    """Tell the whole life of a digest: source, builder, packages, findings, verdicts, people, channels, where it went.

    Each statement stands with its evidence, and whether a trusted key signed that; what nobody signed is called a
    claim. RELEASE is image:tag, image@digest, its key, or the image alone when it has one release; a digest that was
    deleted is taken, too, and copies of it are asked. The page of --html is one file that opens without a server.
    """
    is_release(options.config_if_any(), reference)  # a slip of the pen is no image of Docker Hub
    with options.chain() as chain:
        found = chain.custody(reference)
    if html is not None:
        from registry_pipelines.report.html.custody import custody_page

        with local_errors(html):
            html.parent.mkdir(parents=True, exist_ok=True)
            write_file(html, custody_page(found).encode())
    if options.as_json:
        print_json(found.plain())
        return
    show(found)
    if html is not None:
        click.echo(f"the page is written: {html}", err=True)


def show(found: Custody) -> None:
    """The page as text: a chapter below the other."""
    out = console()
    print_alerts(found.alerts)
    out.print(f"{found.name}: {found.sentence}", markup=False, soft_wrap=True, style="bold")
    for chapter, title in CHAPTERS.items():
        out.print(f"\n{title}", style="bold", markup=False)
        statements = found.chapter(chapter)
        if not statements:
            out.print(f"  {found.missing.get(chapter, 'nothing is known')}", markup=False, style="dim")
        for each in statements:
            when = f"{each.time}  " if each.time else ""
            evidence = f", evidence {each.evidence[:19]}" if each.evidence else ""
            out.print(harmless(f"  {when}{each.says}").replace("\n", " "), markup=False, soft_wrap=True)
            for line in each.details:
                out.print(harmless(f"    - {line}").replace("\n", " "), markup=False, soft_wrap=True)
            out.print(f"    [{each.proof()}{evidence}]", markup=False, soft_wrap=True, style="dim")
    print_lines(found.notes)


COMMANDS = [custody]
