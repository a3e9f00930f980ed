"""``tag``: one more name for an image, in its own repository."""

from __future__ import annotations

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import show_result
from registry_pipelines.cli.references import located


@click.command("tag")
@click.argument("source", shell_complete=IMAGES)
@click.argument("tag")
@click.option("--move", is_flag=True, help="Also where the tag names another image so far.")
@common
def tag(options: Options, source: str, tag: str, move: bool) -> None:
    """Give an image one more tag in its repository, by digest.

    SOURCE is a release of the configuration, or any image. Tags that stand for releases of the configuration, or are a
    channel, are refused: the first never move, the second move by promotion. Exit 6: the tag is to stay.
    """
    with located(options, [source]) as ([found], chain):
        if chain is not None:
            result = chain.tag(found, tag, move=move)
        else:
            from registry_pipelines.chain.tagging import tag_image

            result = tag_image(found, tag, move=move, session=None)
    show_result(result, as_json=options.as_json)


COMMANDS = [tag]
