"""``node``: images on a machine that runs containers."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from registry_pipelines import interrupts
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json_now
from registry_pipelines.cli.output import harmless
from registry_pipelines.node.serving import ROOT, SOCKET


@click.group("node")
def node() -> None:
    """Keep the images of a node for its container runtime."""


@node.command("serve", short_help="Be a snapshotter of containerd's.")
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    metavar="PATH",
    help="Where containerd asks; only root may.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT,
    show_default=True,
    metavar="DIR",
    help="Folder for all layers and what containers write; on ext4 or XFS.",
)
@common
def serve(options: Options, socket_path: Path, root: Path) -> None:
    """Be a snapshotter of containerd's (1.6 to 2.x), until Ctrl-C or TERM: keep layers and what containers write.

    containerd's configuration names the socket, under a name that pulls and containers then choose:

    \b
    [proxy_plugins.registry-pipelines]
      type = "snapshot"
      address = "/run/registry-pipelines/snapshots.sock"
      capabilities = ["remap-ids"]

    It can end and start again while containers run; containers that start meanwhile fail. Needs root and the extra
    `node`.
    """
    from registry_pipelines.node.serving import served

    def say(line: str) -> None:
        click.echo(harmless(line), err=True)

    with served(socket_path, root, log=say):
        interrupts.mark_wanted()
        if options.as_json:
            print_json_now({"url": f"unix://{socket_path}"})
        else:
            click.echo(harmless(f"snapshots of {root} are served on {socket_path}"))
        threading.Event().wait()


COMMANDS = [node]
