"""``node probe``: what of lazy images the kernel of a node can carry."""

from __future__ import annotations

import os

import click

from registry_pipelines.cli.context import Options
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import harmless


def show(options: Options) -> bool:
    """Print it. Whether there is a carrier."""
    from registry_pipelines.stream.lazy.probing import probe

    found = probe(options.state.parent / "lazy")
    if options.as_json:
        parts = [part._asdict() for part in found.parts]
        print_json(
            {
                "kernel": found.kernel,
                "file_system": found.file_system,
                "carriers": list(found.carriers),
                "parts": parts,
            }
        )
    else:
        width = max(len(part.name) for part in found.parts)
        for part in found.parts:
            came = f"{'yes' if part.works else 'NO '}  {part.tried}: {part.came}"
            follows = f"; {part.without}" if part.without else ""
            click.echo(harmless(f"{part.name.ljust(width)}  {came}{follows}"))
        carriers = ", ".join(found.carriers) or "none, so images are pulled"
        click.echo(harmless(f"Linux {found.kernel}, files on {found.file_system}; carriers: {carriers}"))
        if os.geteuid() != 0:
            click.echo("this is not root, and most of it needs that: run it as root, as the agent", err=True)
    return bool(found.carriers)
