"""``pin``: the images of a Dockerfile by digest."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import print_lines
from registry_pipelines.oci.files import write_file


@click.command("pin", short_help="Write the images of a Dockerfile by digest, and through the configuration's caches.")
@click.argument("dockerfile", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Change the file; else its new text is printed.")
@common
def pin(options: Options, dockerfile: Path, write: bool) -> None:
    """Write the images of a Dockerfile by digest, and through the configuration's caches: those of FROM and COPY
    --from.

    Tags are looked at by HEAD, which no quota counts. Stages of the file, scratch, and what a variable without default
    decides stay as they are.
    """
    from registry_pipelines.chain.pin import pin as pinned

    with options.places([]) as places:
        text, found = pinned(places, dockerfile)
    if write:
        write_file(dockerfile, text.encode())
    if options.as_json:
        print_json({"text": text, "images": [msgspec.structs.asdict(each) for each in found], "written": write})
    elif write:
        became = [f"is {each.now}" if each.now else f"stays: {each.why}" for each in found]
        print_lines(f"line {each.line}: {each.written} {now}" for each, now in zip(found, became, strict=True))
    else:
        click.echo(text, nl=False)


COMMANDS = [pin]
