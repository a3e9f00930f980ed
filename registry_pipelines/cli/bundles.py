"""``bundle``: what a mirror brings, as files across a gap without a wire, and the receipts that come back."""

from __future__ import annotations

import click

from registry_pipelines.cli.bundle_far import load, receipt, verify
from registry_pipelines.cli.bundle_near import create, listing, show


@click.group("bundle")
def bundle_group() -> None:
    """Carry a mirror across an air gap as files, with receipts for the way back."""


for command in (create, show, verify, load, receipt, listing):
    bundle_group.add_command(command)

COMMANDS = [bundle_group]
