"""Images that ``node serve`` knows before they are pulled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options
from registry_pipelines.errors import InputError

if TYPE_CHECKING:  # loaded where it is used
    from registry_pipelines.node.announcing import Announcing
    from registry_pipelines.node.images import NodeImages
    from registry_pipelines.node.model import Node

ANNOUNCE = click.option(
    "--announce",
    "announce",
    multiple=True,
    metavar="REF",
    help="An image that is known before it is pulled, besides those of the configuration (`node.announce`): for a "
    "containerd that does not say which image a layer is of. May be repeated.",
)


def settings_of(options: Options) -> Node:
    """What the configuration says of this machine's images; without one all as it is unless told."""
    from registry_pipelines.node.model import Node

    config = options.config_if_any()
    return config.node if config is not None else Node()


def references(options: Options, more: Sequence[str]) -> list[str]:
    """Of the command line and of the configuration. Raises InputError: some of the former are none."""
    from registry_pipelines.chain.node import announced
    from registry_pipelines.node.model import IMAGE

    wrong = []
    for each in more:
        try:
            IMAGE.check(each)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong), where="--announce")
    return announced(options.config_if_any(), more)


def announcing(
    options: Options, images: NodeImages, wanted: Sequence[str], state: Path, say: Callable[[str], object]
) -> Announcing:
    """A context that looks at them, and makes them known."""
    from registry_pipelines.node.announcing import Announcing

    again_s = settings_of(options).announce.again.total_seconds()
    known = Announcing(wanted, images.look, state=state, log=say, again_s=again_s)
    images.know(known.having)
    return known


__all__ = ["ANNOUNCE", "announcing", "references", "settings_of"]
