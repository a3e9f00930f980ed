"""``stream recordings``: what nodes recorded of real starts, out of their inbox."""

from __future__ import annotations

from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import harmless
from registry_pipelines.cli.references import is_release
from registry_pipelines.errors import InputError

TARGET = (
    "TARGET is a release of the configuration or any image reference; all releases that nodes recorded unless told. "
    "Nodes record with `node serve --record-to`."
)


@click.group("recordings")
def recordings_group() -> None:
    """What nodes recorded of real starts."""


@recordings_group.command("collect", epilog=TARGET, short_help="Take recordings of nodes, and cut packs of them.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=IMAGES)
@click.option("--inbox", metavar="REPOSITORY", help="Where nodes send them; the configuration's unless told.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key of the indexer; the configuration's unless told.",
)
@common
def collect(options: Options, targets: tuple[str, ...], inbox: str | None, key: Path | None) -> None:
    """Take what nodes sent to their inbox, and have the hot packs of these images cut of it, signed by the indexer.

    Nothing in an inbox is believed: of a recording counts what it says of files that the image has. Several nodes'
    lists become one, in the order of the median; what one of three or more alone read is dropped. What was taken is
    deleted, and without a TARGET what is of no release, too. What was dropped is said.

    A release is recorded as `stream record` does it, of an allowing verdict alone; nothing is run that is not run
    there.
    """
    from registry_pipelines.cli.releases import answer_all

    config = options.config_if_any()
    ours = [is_release(config, target) for target in targets]
    if all(ours) and inbox is None and key is None and config is not None:
        with options.chain() as chain:
            results = chain.collect_recordings([chain.find_release(target) for target in targets])
        answer_all(options, results)
        return
    if any(ours) or not targets:
        raise InputError(
            "--inbox and --key are for images that are none of the configuration's"
            if targets
            else "no image is named, and there is no configuration with releases",
            do="Name image references, or leave both options out and write `node.record` into the configuration",
        )
    configured = config.node.record.inbox if config and config.node.record else None
    if inbox is None and configured is None:
        raise InputError("no inbox is named", do="Give --inbox REGISTRY/REPOSITORY, as nodes have it")
    _collect_any(options, targets, inbox or str(configured), key)


def _collect_any(options: Options, targets: tuple[str, ...], inbox: str, key: Path | None) -> None:
    from registry_pipelines.chain.recordings import collect_any
    from registry_pipelines.cli.releases import answer_all
    from registry_pipelines.cli.streaming import tools_for

    results = []
    with options.places([*targets, inbox]) as places, options.progress() as progress:
        box, tools = places.place(inbox), tools_for(options, key, progress)
        for target in targets:
            located = places.locate(target)
            results += collect_any(
                box,
                located.place,
                located.selector,
                tools,
                subject=target,
                log=lambda line: click.echo(harmless(line), err=True),
            )
    answer_all(options, results, nothing="no node recorded a start of it")


COMMANDS = [recordings_group]
