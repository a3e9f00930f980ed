"""The command line: a thin door to the library. Each command's module is named after what it is about."""

from __future__ import annotations

import click

from registry_pipelines import __version__
from registry_pipelines.cli import configuration, contents, demonstration, images, releases, retention, serving, syncing
from registry_pipelines.cli.errors import exit_code_table


@click.group(epilog=exit_code_table(), context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="registry-pipelines")
def main() -> None:
    """The container-image supply chain: build, scan, sign, promote, replicate, mirror, collect.

    Every command takes --json (one document on stdout; progress and messages on stderr) and ends with a documented
    exit code. An image may be written with a configured registry's name in front: us-east-1/ml/forecaster:prod.
    """


for group in (demonstration, serving, images, syncing, contents, releases, retention, configuration):
    for command in group.COMMANDS:
        main.add_command(command)
