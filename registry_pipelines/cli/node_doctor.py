"""``node doctor``: what keeps this node from serving images before they are fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.node_announce import settings_of
from registry_pipelines.cli.node_setup import root_option, socket_option
from registry_pipelines.cli.output import console, harmless
from registry_pipelines.errors import exit_code_of_many

if TYPE_CHECKING:
    from registry_pipelines.node.examining.model import Finding

CONTAINERD = Path("/run/containerd/containerd.sock")
_WORDS = {"ok": "ok    ", "note": "note  ", "failed": "FAILED"}
_STYLES = {"ok": None, "note": "yellow", "failed": "red"}


@click.command("doctor", short_help="Say what keeps this node from serving images before they are fetched.")
@root_option("As of `node serve`.")
@socket_option("As of `node serve`.")
@click.option(
    "--containerd",
    type=click.Path(path_type=Path),
    default=CONTAINERD,
    show_default=True,
    metavar="PATH",
    help="containerd's own socket.",
)
@click.option(
    "--containerd-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its configuration; the file that it was started with unless told.",
)
@click.option(
    "--image", "images", multiple=True, metavar="REF", help="Ask its registry; of each known one unless told."
)
@common
def doctor(
    options: Options,
    root: Path,
    socket_path: Path,
    containerd: Path,
    containerd_config: Path | None,
    images: Sequence[str],
) -> None:
    """Look at all that has to be right before this node serves images that are not fetched: user, kernel, disks and
    clock; the agent and its socket; containerd's version, and whether it knows the agent and says which image a layer
    is of; and the registries of images that the agent knows, where containerd's `hosts.toml` files have them, with this
    user's credentials. As root.

    Each finding says what, where, and what to do. Nothing is changed.

    Exit 0: nothing keeps it. Exit 4 to 9: what failed; 6 where that is several things.
    """
    from registry_pipelines.chain.node_doctor import Node, examine_this_node
    from registry_pipelines.chain.node_places import NodePlaces
    from registry_pipelines.registry.protocol import Place

    node = Node(root, socket_path, options.state.parent / "lazy", containerd, containerd_config)
    with options.places(list(images)) as places:
        as_read = NodePlaces(places, settings_of(options).hosts, lambda line: click.echo(harmless(line), err=True))

        def locate(image: str) -> tuple[Place, str]:
            return as_read.place(image), places.locate(image).selector

        found = list(_shown(options, examine_this_node(node, images, locate)))
    if options.as_json:
        print_json({"findings": [each._asdict() for each in found]})
    if code := exit_code_of_many(each.exit_code for each in found if each.state == "failed"):
        sys.exit(code)


def _shown(options: Options, found: Iterator[Finding]) -> Iterator[Finding]:
    """Each as it is found: a registry that hangs is seen to hang."""
    for each in found:
        if not options.as_json:
            _print(each)
        yield each


def _print(each: Finding) -> None:
    out = console()
    where = f" ({each.where})" if each.where else ""
    line = harmless(f"{_WORDS[each.state]}  {each.about}: {each.what}{where}")
    out.print(line, markup=False, soft_wrap=True, style=_STYLES[each.state])
    if each.do:
        out.print(harmless(f"        do: {each.do}"), markup=False, soft_wrap=True)


COMMANDS = [doctor]
