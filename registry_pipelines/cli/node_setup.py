"""``node setup``: files for the other programs of a node."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from registry_pipelines.cli.context import BELIEVED_KEYS, Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import harmless
from registry_pipelines.node.hosts_files import FOLDER as HOSTS
from registry_pipelines.node.setup import CARRIES, FORMS, Form, Setup, write
from registry_pipelines.node.sizing import read_size
from registry_pipelines.node.where import ROOT, SOCKET
from registry_pipelines.oci.files import local_errors, write_file

Command = Callable[..., Any]


def socket_option(told: str) -> Callable[[Command], Command]:
    """``--socket``, of all commands that are about the agent."""
    kind = click.Path(path_type=Path)
    return click.option(
        "--socket", "socket_path", type=kind, default=SOCKET, show_default=True, metavar="PATH", help=told
    )


def root_option(told: str) -> Callable[[Command], Command]:
    """``--root``, likewise."""
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--root", type=kind, default=ROOT, show_default=True, metavar="DIR", help=told)


@click.command("setup", short_help="Write what containerd, Docker, Kubernetes or a cloud's nodes are told.")
@click.argument("form", type=click.Choice(list(FORMS)), metavar="FORM")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the files are written.",
)
@socket_option("As of `node serve`.")
@root_option("As of `node serve`.")
@click.option("--image", default="", metavar="REF", help="kubernetes: the product's own image, which the pods run.")
@BELIEVED_KEYS
@click.option(
    "--size",
    "size_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="What `node size --json` wrote: its size of a disk and thresholds go into the files.",
)
@common
def setup(
    options: Options,
    form: Form,
    folder: Path,
    socket_path: Path,
    root: Path,
    image: str,
    keys: tuple[Path, ...],
    size_file: Path | None,
) -> None:
    """Write the files by which other programs of a node use `node serve` as the snapshotter `registry-pipelines`, in
    one of these forms. They are for review: nothing else is changed, and where each goes is said on stderr.

    \b
    {forms}

    The unit runs the program that wrote it, with the configuration of --config and the keys of --key where they are
    given. `kubernetes`, `eks` and `karpenter` carry these files with them.
    """
    size = read_size(size_file) if size_file is not None else None
    config = options.config_file.absolute() if options.config_file is not None else None
    # Where it is kept counts only on another machine, and a configuration need not be readable here.
    told = options.config() if config is not None and form in CARRIES else None
    written = write(
        form,
        Setup(
            program=Path(sys.executable).with_name("registry-pipelines"),
            socket=socket_path,
            root=root,
            config=config,
            state=told.state if told else None,
            hosts=told.node.hosts if told else (HOSTS,),
            keys=tuple(key.absolute() for key in keys),
            image=image,
            disk=size.disk if size is not None else None,
        ),
    )
    for name, content in written.files.items():
        path = folder / name
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
    notes = [
        *written.notes,
        *(f"no room is computed for {each.name}: {each.what}" for each in (size.unread if size else ())),
    ]
    paths = [str(folder / name) for name in written.files]
    if options.as_json:
        print_json({"files": paths, "notes": notes})
        return
    for path_text in paths:
        click.echo(harmless(path_text))
    for note in notes:
        click.echo(harmless(note), err=True)


_WIDTH = max(map(len, FORMS))
setup.help = cleandoc(setup.help or "").format(
    forms="\n".join(f"{form.ljust(_WIDTH)}  {what}" for form, what in FORMS.items())
)
