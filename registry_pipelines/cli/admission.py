"""``serve-admission`` and ``admission``: what may start in clusters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines import interrupts
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json, print_json_now
from registry_pipelines.cli.output import harmless
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.promote.admission.model import FORMS, Form

if TYPE_CHECKING:
    from registry_pipelines.promote.admission.judging import Decision
    from registry_pipelines.promote.admission.review import Request


@click.command("serve-admission")
@common
def serve_admission(options: Options) -> None:
    """Answer API servers that ask what may start in a cluster, until Ctrl-C or TERM.

    Where and by which rules the section `admission` says; each refusal is a line on stderr.
    """
    from registry_pipelines.registry.embedded.running import serve

    with options.chain() as chain, chain.admission_webhook(None if options.quiet else _told) as server:
        interrupts.mark_wanted()
        serve([server], ready=lambda servers: _announce(options, servers[0].url))


@click.command("admission")
@click.argument("form", type=click.Choice(list(FORMS)), metavar="FORM")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@common
def admission(options: Options, form: Form, folder: Path) -> None:
    """Write the rules about what may start in clusters in another program's form, into a folder.

    {forms}
    """
    with options.chain() as chain:
        files = chain.admission_files(form)
    for name, content in files.items():
        path = folder / name
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
    if options.as_json:
        print_json({"files": [str(folder / name) for name in files]})
    else:
        for name in files:
            click.echo(str(folder / name))


admission.help = (admission.help or "").format(forms="\n\n".join(f"{form}: {what}." for form, what in FORMS.items()))


def _announce(options: Options, url: str) -> None:
    if options.as_json:
        print_json_now({"url": url})
    else:
        click.echo(f"{url} answers what may start")


def _told(asked: Request, decision: Decision) -> None:
    """A line for each image that may not start, and each warning."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = f"{asked.operation} {asked.kind.kind} {asked.namespace}/{asked.name}"
    lines = [f"{moment} refused {about}: {each}" for each in decision.refusals]
    lines += [f"{moment} allowed {about}: {each}" for each in decision.warnings if decision.allowed]
    for line in lines:
        click.echo(harmless(line), err=True)


COMMANDS = [serve_admission, admission]
