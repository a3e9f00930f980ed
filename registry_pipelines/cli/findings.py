"""``findings``: what a scan found, in the forms that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console
from registry_pipelines.cli.releases import answer
from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import write_file


@click.command("findings")
@click.argument("release", shell_complete=IMAGES)
@click.option(
    "--format",
    "form",
    type=click.Choice(["sarif", "openvex"]),
    default="sarif",
    help="SARIF 2.1.0 for code scanning pages and editors (the default), or an OpenVEX document.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it here; to stdout unless told.")
@click.option("--author", default="", metavar="NAME", help="Who says it in an OpenVEX document; you unless told.")
@click.option("--attest", is_flag=True, help="Sign the OpenVEX document as the person, and attach it to the release.")
@common
def findings(options: Options, release: str, form: str, output: Path | None, author: str, attest: bool) -> None:
    """Write the findings of a release for other programs: SARIF, OpenVEX. It was scanned before (`scan`); exceptions
    and VEX of its policy are applied."""
    if form != "openvex" and (author or attest):
        raise InputError("--author and --attest are for --format openvex")
    if output is None and options.as_json and not attest:
        raise InputError("with --json the document goes into a file", do="Give --output FILE")
    with options.chain() as chain:
        found = chain.find_release(release)
        document = chain.sarif(found) if form == "sarif" else chain.openvex(found, author=author)
        result = chain.attest_openvex(found, document) if attest else None
    if output is not None:
        write_file(output, document)
    elif result is None:
        click.echo(document.decode())
    if result is not None:
        answer(options, result)
    elif output is not None and options.as_json:
        print_json({"file": str(output), "bytes": len(document), "format": form})
    elif output is not None:
        console().print(f"{output}: {form}, {len(document)} bytes", markup=False, soft_wrap=True)


COMMANDS = [findings]
