"""``node size``: the disk that a node's images need."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import BELIEVED_KEYS, Options, SizeType, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import console, harmless, rows_table
from registry_pipelines.cli.references import whole
from registry_pipelines.errors import InputError, RegistryPipelinesError, exit_code_of_many
from registry_pipelines.node.sizing import GIB, WAYS, WRITABLE, UnreadImage, Way
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.settings import Size

if TYPE_CHECKING:
    from registry_pipelines.chain.places import Places
    from registry_pipelines.node.image_sizes import Named
    from registry_pipelines.node.sizing import ImageSize, NodeDisk, NodeSize

MAX_LIST_BYTES = 16 << 20
"""Of ``--from``."""
MOST_NOTES = 20
"""Images that an error names: with more of them something else is wrong."""
MOST_IMAGES = 1000
"""kubelet tells its API server of 50; a list that is longer is none of a node's."""


@click.command("size", short_help="Compute the disk that a node's images need.")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    metavar="FILE",
    help="A file with an image on each line, or of `usage --save`; - for stdin.",
)
@click.option("--platform", default="", metavar="OS/ARCH", help="Of the nodes; this machine's unless told.")
@BELIEVED_KEYS
@click.option(
    "--way",
    type=click.Choice(list(WAYS)),
    default="filled",
    show_default=True,
    help="How the nodes get them: pulled whole; served lazily and filled later, as `node serve` does; never filled.",
)
@click.option(
    "--writable",
    type=SizeType(),
    default=f"{WRITABLE // GIB}GiB",
    show_default=True,
    metavar="SIZE",
    help="What containers write beside volumes, with their logs.",
)
@click.option(
    "--disk",
    "given_gib",
    type=click.IntRange(min=1, max=65_536),
    metavar="GIB",
    help="A disk that is there: its thresholds, and whether the images fit.",
)
@common
def size(
    options: Options,
    images: tuple[str, ...],
    source: Path | None,
    platform: str,
    keys: tuple[Path, ...],
    way: Way,
    writable: Size,
    given_gib: int | None,
) -> None:
    """Compute the disk for the container runtime of a node that is to keep these images, and at what fill kubelet
    clears images there. Without an image: those of the configuration, at their channel tags.

    \b
    kubectl get pods -A -o jsonpath='{range .items[*].spec.containers[*]}{.image}{"\\n"}{end}' |
      sort -u | registry-pipelines node size --from - --json >size.json
    registry-pipelines node setup karpenter --size size.json --to here

    Each layer counts once. A disk holds all images, what containers write, and the largest image once more: a new
    release comes while the old one runs. Sizes that no registry tells are estimated, and marked. Nothing is fetched but
    manifests, configs, and some bytes of layers and indexes. An image that cannot be read counts as nothing, and is
    said.

    Exit 6: some images could not be read.
    """
    from registry_pipelines.node.image_sizes import image_sizes
    from registry_pipelines.node.sizing import NodeSize, disk
    from registry_pipelines.oci.platforms import Platform

    wanted = Platform.parse(platform) if platform else Platform.here()
    verifier = options.believed(keys)
    texts = _texts(options, images, source)
    with options.places(list(texts.values())) as places:
        named, unread = _located(places, texts)
        sizes, failed = image_sizes(named, platform=wanted, verifier=verifier)
    unread |= failed
    if not sizes:
        raise _none_of(unread)
    disks = {each: disk(sizes, way=each, writable=int(writable), given_gib=given_gib) for each in WAYS}
    found = NodeSize(
        platform=str(wanted),
        images=sizes,
        disk=disks[way],
        others=tuple(each for name, each in disks.items() if name != way),
        unread=tuple(
            UnreadImage(name=name, error=type(each).__name__, what=each.what, exit_code=each.exit_code)
            for name, each in unread.items()
        ),
    )
    if options.as_json:
        print_json(json.loads(encode_json(found)))
    else:
        _show(found)
    if code := exit_code_of_many([*(0 for _ in sizes), *(each.exit_code for each in found.unread)]):
        sys.exit(code)


def _lines(path: Path) -> list[str]:
    """An image on each line, before a space; or what ``usage --save`` kept."""
    if str(path) == "-":
        raw = sys.stdin.buffer.read(MAX_LIST_BYTES + 1)
    else:
        with local_errors(path), path.open("rb") as file:
            raw = file.read(MAX_LIST_BYTES + 1)
    if len(raw) > MAX_LIST_BYTES:
        raise InputError(f"a list of images has {MAX_LIST_BYTES >> 20} MiB at most", where=str(path))
    if raw.lstrip().startswith(b"{"):
        from registry_pipelines.inventory.usage.files import read_bytes

        return [use.image for use in read_bytes(raw, where=str(path)).uses if use.image]
    words = (line.split() for line in raw.decode(errors="replace").splitlines())
    return [first for first, *_ in filter(None, words) if not first.startswith("#")]


def _texts(options: Options, images: Sequence[str], source: Path | None) -> dict[str, str]:
    """What was named, with the reference that it means."""
    config = options.config_if_any()
    found = {each: whole(config, each) for each in images}
    # Lines are from clusters, and follow their rules: no image of the configuration is meant.
    found |= {each: each for each in (_lines(source) if source is not None else ())}
    if not images and source is None and config is not None:
        found = {
            f"{name}:{image.channel}": f"{image.registry}/{image.repository}:{image.channel}"
            for name, image in config.images.items()
        }
    if not found:
        raise InputError("no image is named", do="Name images, give --from FILE, or have a configuration with some")
    if len(found) > MOST_IMAGES:
        raise InputError(
            f"no node has {count_text(len(found), 'image')}; it takes {MOST_IMAGES} at most", where=str(source or "")
        )
    return found


def _located(places: Places, texts: Mapping[str, str]) -> tuple[list[Named], dict[str, RegistryPipelinesError]]:
    """And those that are no references: a cluster's list has what its containers say, whatever that is."""
    from registry_pipelines.node.image_sizes import Named

    named: list[Named] = []
    wrong: dict[str, RegistryPipelinesError] = {}
    for name, text in texts.items():
        try:
            located = places.locate(text)
        except RegistryPipelinesError as error:
            wrong[name] = error
        else:
            named.append(Named(name, located.place, located.selector))
    return named, wrong


def _none_of(unread: Mapping[str, RegistryPipelinesError]) -> RegistryPipelinesError:
    """The first one's error, with a line about each of the others."""
    first, *others = unread.items()
    for name, error in others[:MOST_NOTES]:
        first[1].add_note(f"{name}: {error}")
    if len(others) > MOST_NOTES:
        first[1].add_note(f"and {len(others) - MOST_NOTES} more, of which none can be read")
    return first[1]


def _show(found: NodeSize) -> None:
    out = console()
    out.print(rows_table([_row(each) for each in found.images], title=f"images for {found.platform}"))
    disks = sorted([found.disk, *found.others], key=lambda each: list(WAYS).index(each.way))
    out.print(rows_table([_disk_row(each) for each in disks], title="disk of the container runtime"))
    for line in told(found):
        click.echo(harmless(line))


def _row(image: ImageSize) -> dict[str, Any]:
    mark = "" if image.exact else "about "
    first = f"{'' if image.packed else 'about '}{size_text(image.first)}" if image.form else ""
    return {
        "image": image.name,
        "compressed": size_text(image.compressed),
        "unpacked": f"{mark}{size_text(image.unpacked)}",
        "served lazily": image.form or "no",
        "read at its start": first,
    }


def _disk_row(disk: NodeDisk) -> dict[str, Any]:
    return {
        "way": disk.way,
        "images": size_text(disk.images),
        "a new release": size_text(disk.largest),
        "writable": size_text(disk.writable),
        "disk": f"{disk.volume_gib} GiB{'' if disk.fits else ', too small'}",
        "cleared from": f"{disk.gc_high_percent} %",
        "down to": f"{disk.gc_low_percent} %",
    }


def told(found: NodeSize) -> list[str]:
    """In sentences: what the numbers are for, and what is not known."""
    disk = found.disk
    lines = [
        f"{count_text(len(found.images), 'image')}, {WAYS[disk.way]}: {disk.volume_gib} GiB; kubelet clears images "
        f"from {disk.gc_high_percent} % down to {disk.gc_low_percent} %"
    ]
    if not disk.fits:
        lines.append("they do not fit: kubelet will clear images that the node needs, or pulls will fail")
    lines += [f"{each.name} could not be read, and has no room there: {each.what}" for each in found.unread]
    if guessed := [each.name for each in found.images if not each.exact]:
        lines.append(f"the unpacked size of {count_text(len(guessed), 'image')} is estimated: no registry tells it")
    if pulled := [each.name for each in found.images if not each.form]:
        lines.append(
            f"{count_text(len(pulled), 'image')} cannot be served lazily and counts as pulled: {', '.join(pulled)}"
        )
    return lines
