"""``report audit``: who did what, and what nothing explains; ``report custody``: the whole life of a digest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines import interrupts
from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json, print_json_now
from registry_pipelines.cli.names import IMAGES, REGISTRIES
from registry_pipelines.cli.output import (
    console,
    harmless,
    print_alerts,
    print_lines,
    print_next_steps,
    print_results,
    rows_table,
)
from registry_pipelines.cli.references import is_release
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import condensed
from registry_pipelines.report.audit.model import ACTIONS
from registry_pipelines.report.custody import CHAPTERS, Custody
from registry_pipelines.settings import Duration

if TYPE_CHECKING:
    from datetime import timedelta

    from registry_pipelines.report.audit.counts import By


class _Length(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has no arguments
    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta | None:
        """A length of time as the configuration has it."""
        if not isinstance(value, str):
            return value
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("audit", short_help="Show who pushed, deleted, pulled and changed settings, and what nothing explains.")
@click.option("--since", type=_Length(), default=None, metavar="7d", help="How far back; `report.audit.window`.")
@click.option(
    "--by",
    type=click.Choice(["who", "action", "repository", "day"]),
    default="action",
    show_default=True,
    help="Count by.",
)
@click.option("--registry", default="", shell_complete=REGISTRIES, metavar="PATTERN", help="Only registries so named.")
@click.option("--repository", default="", metavar="PATTERN", help="Only repositories so named.")
@click.option("--action", type=click.Choice(ACTIONS), default=None, help="Only this.")
@click.option("--who", default="", metavar="PATTERN", help="Only callers so named.")
@click.option("--team", default="", help="Only repositories of a team of `report.teams`.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Read only this log now (several).")
@click.option("--kept", is_flag=True, help="Read no log: only what is kept.")
@click.option(
    "--acknowledge", "alerts", multiple=True, metavar="ALERT", help="Sign that an alert is no harm (several)."
)
@click.option("--reason", default="", help="Why it is none; with --acknowledge.")
@click.option("--person", default="", metavar="NAME", help="Who says so; the account of this process.")
@common
def audit(
    options: Options,
    since: timedelta | None,
    by: By,
    registry: str,
    repository: str,
    action: str | None,
    who: str,
    team: str,
    sources: Sequence[str],
    kept: bool,
    alerts: Sequence[str],
    reason: str,
    person: str,
) -> None:
    """Read what is new in the logs of `report.audit.sources`, keep it, and show who did what. With one of --registry,
    --repository, --action, --who and --team single events are listed, too: `--action delete --team vision` is what was
    deleted of a team.

    Every channel that moved without a promotion, every deletion without a signed plan and every push by somebody who is
    not in `report.audit.pushers` is an alert. Exit 3: an alert stands open; others: a log could not be read.
    """
    from registry_pipelines.chain.audit import Wanted

    if reason and not alerts:
        raise InputError("--reason is for an alert", do="Give --acknowledge ALERT, too")
    # No registry is served for it: evidence is asked for where it is up.
    with options.chain() as chain:
        if alerts:
            from registry_pipelines.promote.person import Person

            result = chain.acknowledge_alerts(alerts, reason, Person.named(person, "claimed") if person else None)
        else:
            wanted = Wanted(
                since=since, by=by, registry=registry, repository=repository, action=action or "", who=who, team=team
            )
            result = chain.audit(wanted, read=not kept, sources=sources)
    if options.as_json:
        print_results([result])
    else:
        _show_audit(result)
    if not result.ok:
        sys.exit(result.exit_code or EvidenceError.exit_code)


def _show_audit(result: StageResult) -> None:
    out = console()
    standing = [row for row in result.tables.get("alerts", ()) if not row["acknowledged"]]
    print_alerts([f"{row['alert']}: {row['said']}" for row in standing])
    if result.rows:
        out.print(rows_table(result.rows, title="who did what" if "done" in result.rows[0] else "acknowledged"))
    if events := result.tables.get("events"):
        out.print(rows_table(events, title="events, the newest first"))
    if read := result.tables.get("sources"):
        out.print(rows_table(read, title="logs"))
    out.print(result.action, markup=False)
    print_lines([*(each for each in result.reasons if "could not be read" in each), *result.notes])
    print_next_steps(result.next_steps)


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
            for line in condensed(each.details):
                out.print(harmless(f"    - {line}").replace("\n", " "), markup=False, soft_wrap=True)
            out.print(f"    [{each.proof()}{evidence}]", markup=False, soft_wrap=True, style="dim")
    print_lines(found.notes)


@click.command("receive", short_help="Take the notifications of a docker-registry, until Ctrl-C or TERM.")
@click.argument("source", metavar="SOURCE")
@common
def receive(options: Options, source: str) -> None:
    """Take what a docker-registry, a Harbor or another registry of CNCF Distribution tells of itself, and keep it until
    `report audit` reads it; until Ctrl-C or TERM. SOURCE: a log of kind `notifications` of `report.audit.sources`."""
    from registry_pipelines.chain import Chain
    from registry_pipelines.registry.embedded.running import serve

    server = Chain(options.config()).receiver(source)
    interrupts.mark_wanted()
    serve([server], ready=lambda servers: _announce(options, servers[0].url))


def _announce(options: Options, url: str) -> None:
    if options.as_json:
        print_json_now({"url": url})
    else:
        click.echo(f"{url} takes notifications")


COMMANDS = [audit, custody, receive]
