"""``events``: what registries of clouds tell by themselves."""

from __future__ import annotations

import sys

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.output import show_result
from registry_pipelines.cli.releases import answer


@click.group("events")
def events_group() -> None:
    """Show what registries tell by themselves."""


@events_group.command("check", short_help="Ask the queues, and show what failed and what cannot be read.")
@click.argument("registries", nargs=-1, metavar="[REGISTRY]...")
@common
def check(options: Options, registries: tuple[str, ...]) -> None:
    """Ask the queues of REGISTRY, or of all that have one, and show what they told last: replications and scans that
    failed first, and messages that nobody can read, which lie below the state folder.

    No message is touched. Exit code 7: a queue does not answer.
    """
    with options.chain() as chain:
        result = chain.check_events(registries)
    show_result(result, as_json=options.as_json)
    if result.exit_code:
        sys.exit(result.exit_code)


@events_group.command("show", short_help="Show what waits in a queue, and leave it there.")
@click.argument("registry")
@click.option("--most", type=click.IntRange(1, 100), default=10, show_default=True, help="Messages.")
@common
def show(options: Options, registry: str, most: int) -> None:
    """Show what waits in the queue of REGISTRY, and leave it there: for some seconds the sensor does not see it. SQS
    counts that it was received, and moves a message to its dead-letter queue after as many times as that says."""
    with options.chain() as chain:
        answer(options, chain.show_events(registry, most=most))


COMMANDS = [events_group]
