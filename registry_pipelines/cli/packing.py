"""``stream pack``: a hot pack from a recording that is there."""

from __future__ import annotations

from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import harmless
from registry_pipelines.cli.references import named

TARGET = (
    "TARGET is a release of the configuration or any image reference. Layers that this machine has no record of are "
    "fetched whole, and held against their diffIDs."
)


@click.command("pack", epilog=TARGET, short_help="Cut an image's hot pack from a recording.")
@click.argument("target", shell_complete=IMAGES)
@click.option(
    "--recording",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What a start reads, of this image or of another one that has the same files; what is attached unless told.",
)
@click.option(
    "--like",
    multiple=True,
    metavar="TAG",
    help="Another image of the repository: its recording counts where this one has none, and its pack may lend the "
    "parts of layers that stayed; may be repeated.",
)
@click.option("--platform", metavar="OS/ARCH", help="For a recording of another image; this machine's unless told.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key of the indexer; the configuration's unless told.",
)
@common
def pack(
    options: Options, target: str, recording: Path | None, like: tuple[str, ...], platform: str | None, key: Path | None
) -> None:
    """Cut the pages that a recorded start reads out of an image's layers, and attach them to the image, signed by the
    indexer: a hot pack, from which nodes start before they fetch anything else. The image is not run, and no digest
    changes.
    """
    from registry_pipelines.chain.packing import pack_any
    from registry_pipelines.cli.recording import read_recording
    from registry_pipelines.cli.releases import answer
    from registry_pipelines.cli.streaming import tools_for
    from registry_pipelines.oci.platforms import Platform

    told = read_recording(recording) if recording else None
    wanted = Platform.parse(platform) if platform else None
    with named(options, [target]) as locate, options.progress() as progress:
        located = locate(target)
        result = pack_any(
            located.place,
            located.selector,
            told,
            tools_for(options, key, progress),
            subject=target,
            like=like,
            platform=wanted,
            log=lambda line: click.echo(harmless(line), err=True),
        )
    answer(options, result)


COMMANDS = [pack]
