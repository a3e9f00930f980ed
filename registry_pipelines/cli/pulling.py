"""``stream pull``: an image fetched whole, into a folder or a container runtime."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import harmless
from registry_pipelines.cli.references import named
from registry_pipelines.errors import InputError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.chain.places import Located
    from registry_pipelines.progress import Progress
    from registry_pipelines.stream.lazy.image import NodeImage
    from registry_pipelines.stream.pull.pulling import Pulled
    from registry_pipelines.stream.pull.runtimes import Runtime

_MEANING = {
    "owners": "not given to the owners that the image names",
    "set-ID bits": "without the set-ID bits that would make them start as another user",
    "devices": "not made: devices",
    "attributes": "without some extended attributes",
}


@click.command("pull", short_help="Fetch an image whole and unpack it: into a folder, containerd or Docker.")
@click.argument("target", shell_complete=IMAGES)
@click.option("--to", "goal", required=True, metavar="DIR|containerd|docker", help="Where it goes.")
@click.option("--platform", metavar="OS/ARCH", help="Of an index; this machine's unless told.")
@click.option("--address", metavar="SOCKET", help="containerd's; as ctr has it unless told.")
@click.option("--namespace", metavar="NAME", help="containerd's; as ctr has it (default) unless told.")
@click.option("--snapshotter", metavar="NAME", help="containerd's; its default unless told.")
@common
def pull(
    options: Options,
    target: str,
    goal: str,
    platform: str | None,
    address: str | None,
    namespace: str | None,
    snapshotter: str | None,
) -> None:
    """Fetch an image whole and unpack it. TARGET is a release of the configuration or any image reference.

    DIR gets the image's root file system, and has its name when all of it was verified: each layer against its digest
    and its diffID. Layers come several at once, over several connections where those bring more. A pull that was killed
    goes on where its last whole layer ended; what it has is kept beside DIR until then (.DIR.pull). Without root, what
    only root may set is left out and counted.

    containerd and docker get the image through ctr and docker, and need not reach the registry. A folder of one of
    these names is written ./containerd.
    """
    for_containerd = {"--address": address, "--namespace": namespace, "--snapshotter": snapshotter}
    if goal != "containerd" and (given := [name for name, value in for_containerd.items() if value]):
        raise InputError(f"{given[0]} is about containerd", do="Write --to containerd, or leave it out")
    wanted = Platform.parse(platform) if platform else None
    with named(options, [target]) as locate, options.progress() as progress:
        located = locate(target)
        if goal == "containerd":
            from registry_pipelines.stream.pull.runtimes import Containerd

            runtime = Containerd(address or "", namespace or "", snapshotter or "")
            pulled = _to_runtime(located, wanted, runtime, progress)
        elif goal == "docker":
            from registry_pipelines.stream.pull.runtimes import Docker

            pulled = _to_runtime(located, wanted, Docker(), progress)
        else:
            pulled = _to_folder(options, located, wanted, Path(goal), progress)
    _show(options, target, pulled)


def _image(located: Located, platform: Platform | None) -> NodeImage:
    """The one of the platform. Raises InputError, for an image without an index, too, that is for another one."""
    from registry_pipelines.stream.lazy.image import image_for

    image = image_for(located.place, located.selector, platform)
    there = image.config.platform
    if platform is not None and not platform.matches(there):
        raise InputError(
            f"the image is for {there}, and {platform} was asked for",
            where=str(located.place),
            do="Leave --platform out, or name an image that is for it",
        )
    return image


def _to_folder(
    options: Options, located: Located, platform: Platform | None, folder: Path, progress: Progress
) -> Pulled:
    from registry_pipelines.stream.pull.pulling import pull_to_folder

    image = _image(located, platform)
    return pull_to_folder(image, folder, state=options.state.parent, progress=progress)


def _to_runtime(located: Located, platform: Platform | None, runtime: Runtime, progress: Progress) -> Pulled:
    from registry_pipelines.stream.pull.runtimes import pull_to_runtime

    image = _image(located, platform)
    ending = f":{located.tag}" if located.tag else f"@{located.digest}"
    return pull_to_runtime(image, f"{located.place}{ending}", runtime, progress=progress)


def _show(options: Options, target: str, pulled: Pulled) -> None:
    if options.as_json:
        print_json({"pull": {**asdict(pulled), "target": target}})
        return
    known = [f"{pulled.kept_layers} of an earlier try"] if pulled.kept_layers else []
    known += [f"{pulled.stored_layers} that were here"] if pulled.stored_layers else []
    layers = count_text(pulled.layers, "layer") + (f" ({', '.join(known)})" if known else "")
    files = f", {count_text(pulled.files, 'file')}" if pulled.files else ""
    click.echo(
        harmless(
            f"{target} {pulled.image} is in {pulled.to}: {layers}{files}, "
            f"fetched {size_text(pulled.fetched_bytes)} in {pulled.seconds:.1f} s"
        )
    )
    for what, count in pulled.left_out.items():
        click.echo(f"{count_text(count, 'file')} {_MEANING[what]}", err=True)
    for note in pulled.notes:
        click.echo(harmless(note), err=True)


COMMANDS = [pull]
