"""``weights find`` and ``out``: weights that are baked into images; ``mount``: how programs get them instead."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_lines, rows_table, show_result
from registry_pipelines.cli.references import named
from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.weights.model import MOUNT_FORMS

if TYPE_CHECKING:
    from registry_pipelines.anatomy.baked.finding import Baked, BakedFile
    from registry_pipelines.chain.places import Located
    from registry_pipelines.progress import Progress
    from registry_pipelines.weights.model import MountForm, WeightFile

_IMAGE, _TOOL = "registry.example.com/team/app:v1", "registry.example.com/tools/registry-pipelines:v1"
_EXAMPLES = {_IMAGE: "name the program's by --image", _TOOL: "name one that has this program by --tool"}

_PLATFORM = click.option("--platform", default="", metavar="OS/ARCH", help="Of the image; this machine's unless told.")


@click.command("find", short_help="Find weights that are baked into an image.")
@click.argument("image", metavar="IMAGE|RELEASE", shell_complete=IMAGES)
@_PLATFORM
@common
def find(options: Options, image: str, platform: str) -> None:
    """Find weights of models in the layers of an image by what the files are, names are a hint alone: their format,
    bytes, tensors and layer, what the image would have without them, and which instruction to change.

    Each layer is streamed once, nothing is unpacked, and what a scan or an anatomy read is not read again. Files of
    1 MiB and more count. Pickles are named, and never loaded.
    """
    with named(options, [image]) as locate, options.progress() as progress:
        found = _find(options, locate(image), platform, progress)
    if options.as_json:
        print_json(json.loads(encode_json(found)))
        return
    _show(found)


def _find(options: Options, located: Located, platform: str, progress: Progress) -> Baked:
    from registry_pipelines.anatomy.baked.finding import find_weights
    from registry_pipelines.oci.platforms import Platform

    wanted = Platform.parse(platform) if platform else None
    return find_weights(located.place, located.selector, state=_state(options), platform=wanted, progress=progress)


def _state(options: Options) -> Path:
    config = options.config_if_any()
    return config.state if config else options.state.parent


def _show(found: Baked) -> None:
    out = console()
    out.print(found.image, markup=False, soft_wrap=True)
    for title, rows in (
        ("weights", [_row(each) for each in found.files]),
        ("what goes with them", [_row(each) for each in found.companions]),
    ):
        if rows:
            out.print(rows_table(rows, title=title))
    print_lines(sentences(found))


def _row(each: BakedFile) -> dict[str, Any]:
    told = {
        "path": each.path if each.path == each.name else f"{each.name} -> {each.path}",
        "format": each.format + (" (by name)" if each.by_name else ""),
        "bytes": size_text(each.size),
        "layer": each.layer,
        "tensors": " ".join(f"{count} {name}" for name, count in each.dtypes.items()),
        "": "pickle" if each.pickle else "",
        "hidden": each.gone,
    }
    return told if each.format else {name: told[name] for name in ("path", "bytes", "layer")}


def sentences(found: Baked) -> list[str]:
    """What the tables do not say, for people."""
    if not found.files:
        return ["no weights were found", *(f"not looked at: {each}" for each in found.unread)]
    rest = f"{size_text(found.code)} of {size_text(found.compressed)} as stored"
    told = [
        f"without {size_text(found.weights)} of weights the image has {rest}, {size_text(found.code_unpacked)} of "
        f"{size_text(found.unpacked)} unpacked (an estimate where layers are compressed)",
        *(f"layer {each.number}: {each.do}" for each in found.layers),
    ]
    if found.pickles:
        told.append(f"{count_text(found.pickles, 'file')} of pickles: whoever loads one may run what it holds")
    if found.hides:
        told.append(
            f"a volume at {found.folder} hides other files of the image: {', '.join(found.hides)}; mount it at a "
            "folder of its own, and tell the program"
        )
    elif found.folder:
        told.append(f"mounted at {found.folder} the program finds them where they were")
    return [*told, *(f"not looked at: {each}" for each in found.unread)]


@click.command("out", short_help="Bring weights out of an image, to a registry or a folder.")
@click.argument("image", metavar="IMAGE|RELEASE", shell_complete=IMAGES)
@click.option("--to", "goal", required=True, metavar="REF|FOLDER", help="REGISTRY/REPOSITORY:TAG, or a folder (./out).")
@click.option("--path", "paths", multiple=True, metavar="PATH", help="Only what is here in the image; may be repeated.")
@_PLATFORM
@common
def out(options: Options, image: str, goal: str, paths: tuple[str, ...], platform: str) -> None:
    """Bring the weights that an image has baked in out of its layers, with what goes with them (configs, tokenizers,
    lists of shards): to a registry as weights, like `weights push` of the same files, or into a folder with its
    weights.json.

    What begins with `/` or `.` is a folder, else REF. Files are streamed from the layers, and the image stays what it
    is: `weights find` says which lines of its Dockerfile to change, `rechunk --drop weights` makes an image without
    them. Killed in the middle, the same command goes on behind the layers that were finished.
    """
    from registry_pipelines.anatomy.baked.moving import chosen, move_to_folder, move_to_registry
    from registry_pipelines.registry.tags import told_replaced

    began, is_folder = time.monotonic(), goal.startswith(("/", "."))
    goals = [] if is_folder else [goal]
    with named(options, [image], goals=goals) as locate, options.progress() as progress:
        target = None if is_folder else locate(goal, default_tag="")
        if target is not None and (not target.tag or target.digest):
            raise InputError("weights are stored under a tag", where=goal, do="Write REGISTRY/REPOSITORY:TAG")
        located = locate(image)
        found = _find(options, located, platform, progress)
        files, state = chosen(found, paths), _state(options)
        if target is None:
            where = goal
            moved = move_to_folder(located.place, found, files, Path(goal), state=state, progress=progress)
        else:
            where = f"{target.place}:{target.tag}"
            moved = move_to_registry(
                located.place,
                found,
                files,
                target.place,
                target.tag,
                state=state,
                engine=options.engine(None),
                progress=progress,
            )
    result = StageResult(
        stage="weights",
        subject=where,
        action=f"brought {count_text(len(files), 'file')} out of {located.place}" if moved.changed else "unchanged",
        digest=moved.manifest.digest,
        changed=moved.changed,
        bytes_moved=moved.sent,
        seconds=time.monotonic() - began,
        facts={
            "files": len(files),
            "size_bytes": moved.weights.size,
            "image_bytes": found.compressed,
            "code_bytes": found.code,
            "folder": found.folder,
        },
        notes=[*told_replaced(moved.replaced), *sentences(found)],
    )
    show_result(result, as_json=options.as_json)


@click.command("mount", short_help="Print Kubernetes objects that bring weights to a program.")
@click.argument("source", metavar="REF|ADDRESS", shell_complete=IMAGES)
@click.option("--form", required=True, type=click.Choice(MOUNT_FORMS), help="How they come.")
@click.option("--path", required=True, metavar="PATH", help="Where the program finds them, as /models/llama.")
@click.option("--image", default=_IMAGE, show_default=True, metavar="IMAGE", help="Of the program.")
@click.option(
    "--tool",
    default=_TOOL,
    show_default=True,
    metavar="IMAGE",
    help="An image with this program, which pulls and guards.",
)
@click.option("--name", default="model", show_default=True, metavar="NAME", help="What objects are called.")
@click.option("--region", default="", metavar="REGION", help="Of an S3 bucket.")
@click.option("--to", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write there, not to stdout.")
@common
def mount(
    options: Options,
    source: str,
    form: MountForm,
    path: str,
    image: str,
    tool: str,
    name: str,
    region: str,
    file: Path | None,
) -> None:
    """Print Kubernetes objects that bring weights to a program: of a registry (REF, by digest) as an image volume, by
    an init container that pulls them, or on disks that a job fills (EBS, Persistent Disk); of a bucket
    (s3://BUCKET/PREFIX, gs://BUCKET/PREFIX) through the CSI drivers of S3 and Cloud Storage.

    A guard, an init container, keeps the program from starting without its files: an API server before 1.35 drops image
    volumes without a word. What else there is to know stands as a comment above the objects.
    """
    from registry_pipelines.weights.mounting import Wanted, snippet
    from registry_pipelines.yaml_text import to_yaml

    files: tuple[WeightFile, ...] = ()
    is_image = False
    if "://" not in source:
        from registry_pipelines.weights.opening import open_weights

        with named(options, [source]) as locate:
            located = locate(source)
            opened = open_weights(located.place, located.selector)
            opened.need_raw()
            source, files, is_image = str(opened), opened.weights.files, opened.image is not None
    wanted = Wanted(form, source, path, image, tool, name, files, region, is_image)
    made = snippet(wanted)
    notes = [
        *made.notes,
        *(f"{given} is no image yet: {do}" for given, do in _EXAMPLES.items() if given in (image, tool)),
    ]
    head = "\n".join(notes)
    texts = [to_yaml(each, comment="" if number else head).decode() for number, each in enumerate(made.objects)]
    text = "---\n".join(texts)
    if file is not None:
        with local_errors(file):
            write_file(file, text.encode())
    if options.as_json:
        where = str(file) if file else ""
        print_json({"objects": list(made.objects), "notes": notes, "file": where})
    elif file is None:
        click.echo(text, nl=False)
    else:
        console().print(f"written to {file}", markup=False, soft_wrap=True)
        print_lines(notes)


COMMANDS = [find, out, mount]
