"""``wheels``: Python packages for builds that reach no index."""

from __future__ import annotations

from pathlib import Path

import click

from registry_pipelines.cli.context import PLATFORM, Options, common
from registry_pipelines.cli.names import IMAGES, names_of
from registry_pipelines.errors import InputError


@click.group("wheels")
def wheels_group() -> None:
    """Bring the wheels that a build needs to where no index is."""


@wheels_group.command("push", short_help="Choose wheels, and store them in a registry, signed.")
@click.argument("reference", metavar="REFERENCE")
@click.option(
    "--requirements", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Which wheels: pip's file."
)
@click.option("--image", default="", metavar="NAME", shell_complete=IMAGES, help="Those of this image's `build`.")
@PLATFORM
@click.option("--python", "version", default="", metavar="VERSION", help="Python they are for; this one unless told.")
@click.option("--libc", default="", metavar="NAME", help="C library they are for: glibc-2.31, musl-1.2.")
@click.option(
    "--wheels", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Choose from this, ask no index."
)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="NAME",
    shell_complete=names_of("packages"),
    help="Choose from these package indexes of the configuration.",
)
@common
def push(
    options: Options,
    reference: str,
    requirements: Path | None,
    image: str,
    platforms: tuple[str, ...],
    version: str,
    libc: str,
    wheels: Path | None,
    indexes: tuple[str, ...],
) -> None:
    """Choose wheels as a build does, and store them at REFERENCE (REGISTRY/REPOSITORY:TAG), signed by the
    builder's key.

    With --requirements for this machine and Python, or for each --platform with --libc. Wheels that are there already
    are not sent again. They cross an air gap as an artifact of a mirror (`artifacts`); `build.wheels_from` of an image
    takes them there.
    """
    if image and (platforms or version or libc):
        raise InputError("the build of an image says itself what its wheels are for", do="Leave those options out")
    from registry_pipelines.chain.wheels import Asked

    with options.chain() as chain:
        result = chain.push_wheels(reference, Asked(image, requirements, wheels, platforms, version, libc, indexes))
    from registry_pipelines.cli.releases import answer

    answer(options, result)


@wheels_group.command("pull", short_help="Bring wheels into a folder for pip.")
@click.argument("reference", metavar="REFERENCE")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", required=True, help="Folder."
)
@common
def pull(options: Options, reference: str, folder: Path) -> None:
    """Bring the wheels at REFERENCE into a folder, once a key that is believed for builds vouches for them.

    Then: pip install --no-index --find-links DIR --require-hashes -r DIR/requirements.txt. Exit 3: nobody who is
    believed vouches for them.
    """
    with options.chain() as chain:
        result = chain.pull_wheels(reference, folder)
    from registry_pipelines.cli.releases import answer

    answer(options, result)


COMMANDS = [wheels_group]
