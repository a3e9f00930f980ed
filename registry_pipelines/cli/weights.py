"""``weights``: files of models as artifacts of a registry, and back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.cli.context import NamedPath, Options, common
from registry_pipelines.cli.later import LaterGroup
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, print_lines, print_results, rows_table, show_result
from registry_pipelines.cli.references import named
from registry_pipelines.cli.weights_signing import (
    Signers,
    believed_keys,
    check_folder,
    check_signed,
    left_out,
    put_beside,
    signed_by,
    signers_options,
)
from registry_pipelines.errors import ContentError, InputError
from registry_pipelines.progress import count_text
from registry_pipelines.weights.paths import SIGNATURE_FILE, is_store
from registry_pipelines.weights.wholeness import gaps

if TYPE_CHECKING:
    from registry_pipelines.chain.places import Located
    from registry_pipelines.oci.platforms import Platform
    from registry_pipelines.transfer.engine import Engine
    from registry_pipelines.weights.hashing import Folder
    from registry_pipelines.weights.opening import OpenedWeights

Row = Mapping[str, Scalar]

REFERENCE = (
    "REF is weights in a registry, or an image or release that has some attached; or s3://BUCKET/PREFIX, "
    "gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or a folder that begins with / or ./, as `push` wrote them."
)


class _Weights(LaterGroup):
    later = {
        "find": "weights_baked",
        "out": "weights_baked",
        "mount": "weights_baked",
        "sign": "weights_signing",
        "sync": "weights_stores",
    }


@click.group("weights", cls=_Weights)
def weights() -> None:
    """Keep the weights of models in registries, beside the images that need them."""


FORM = click.option(
    "--form",
    type=click.Choice(["artifact", "image"]),
    default="artifact",
    show_default=True,
    help="What it is in a registry: ModelPack's artifact, or a plain image, which containerd mounts as a volume, too.",
)
PLATFORM = click.option(
    "--platform",
    default="",
    metavar="OS/ARCH",
    help="Of the nodes that mount it, with --form image; linux/amd64 unless told.",
)


def image_wanted(form: str, platform: str) -> Platform | None:
    """For which nodes an image is wanted; None where none is."""
    from registry_pipelines.oci.platforms import Platform

    if form == "image":
        return Platform.parse(platform or "linux/amd64")
    if platform:
        raise InputError("--platform is of an image, and an artifact has none", do="Add --form image")
    return None


@contextmanager
def _opened(options: Options, reference: str) -> Iterator[tuple[OpenedWeights, Engine]]:
    """Weights of a registry or a store, and what they are read with."""
    from registry_pipelines.weights.opening import open_weights

    engine = options.engine(None)
    if is_store(reference):
        from registry_pipelines.cli.weights_stores import open_at

        with options.progress() as progress:
            yield open_at(options, reference), replace(engine, progress=progress)
        return
    with named(options, [reference]) as locate, options.progress() as progress:
        found = locate(reference)
        yield open_weights(found.place, found.selector), replace(engine, progress=progress)


@weights.command("push", short_help="Send a folder of weights to a registry.")
@click.argument("folder", type=NamedPath(path_type=Path))
@click.argument("reference", metavar="REF")
@click.option("--follow-links", is_flag=True, help="Take a symbolic link to a file for the file.")
@FORM
@PLATFORM
@common
def push(options: Options, folder: Path, reference: str, follow_links: bool, form: str, platform: str) -> None:
    """Send all files of a folder to REF (REGISTRY/REPOSITORY:TAG), each as one uncompressed blob of a ModelPack model.
    REF may be a store (s3://BUCKET/PREFIX, gs://, az://, or a folder that begins with / or ./): there the files lie as
    they are, with a list of them that lands last. With --form image it is a plain image whose layers are the files, for
    image volumes of any Kubernetes; all other commands read it as they read the artifact.

    What the repository has already is not sent, so of a model of which two shards changed two are. A signature beside
    the files (model.sig) goes along. The same files make the same digest. Killed in the middle, the same command sends
    the rest; the tag is set last. Exit 6: a file changed while it was read; 8: a download that broke off left a half
    model there.
    """
    from registry_pipelines.cli.weights_stores import push_source

    push_source(options, folder, reference, follow_links, image_wanted(form, platform))


def told_of(read: Folder) -> list[str]:
    """What a person should know of a folder that was read."""
    pickles = sorted(path for path, what in read.formats.items() if what.pickle)
    unknown = sorted(path for path, what in read.formats.items() if what.name == "unknown")
    left_out = [name for name in read.left_out if name != SIGNATURE_FILE]  # what becomes of it is told behind
    return [
        *([f"left out, which is no part of a model: {', '.join(left_out)}"] if left_out else []),
        *(f"{path}: whoever loads it may run what it holds (pickle)" for path in pickles),
        *(f"{path}: its format is not known, and it counts as weights" for path in unknown),
        *gaps(read.formats),
    ]


def _counts(blobs: Counter[str]) -> str:
    """``2 copied, 38 present``."""
    return ", ".join(f"{blobs[each]} {each}" for each in ("copied", "mounted", "present") if blobs[each]) or "nothing"


@weights.command("pull", epilog=REFERENCE, short_help="Bring weights into a folder.")
@click.argument("reference", metavar="REF", shell_complete=IMAGES)
@click.option("--to", "folder", type=NamedPath(path_type=Path), required=True, metavar="FOLDER", help="Where to.")
@click.option("--exact", is_flag=True, help="Refuse a folder that has files which are not in these weights.")
@signers_options
@common
def pull(options: Options, reference: str, folder: Path, exact: bool, signers: Signers) -> None:
    """Bring the files of REF into a folder, held against their digests, with a list of them (weights.json).

    What the folder has already is not fetched, under whatever name it is there. Files take their places when all of
    them are here, the list comes last. Killed in the middle, the same command fetches the rest. Other files stay.
    With --signed nothing comes unless somebody who is believed signed these files, by a key or a certificate, and the
    signature lies beside them (model.sig).
    """
    from registry_pipelines.weights.pull import pull_weights

    began, verifier = time.monotonic(), believed_keys(options, signers)
    with _opened(options, reference) as (opened, engine):
        signature = check_signed(opened, verifier) if verifier else None
        done = pull_weights(opened, folder, exact=exact, engine=engine)
        if signature is not None:
            put_beside(opened, signature, folder)
    others = count_text(len(done.others), "file") if done.others else ""
    is_new = bool(done.fetched or done.copied)
    result = StageResult(
        stage="weights",
        subject=str(folder),
        action=f"{done.fetched} fetched, {done.copied} copied, {done.kept} kept" if is_new else "unchanged",
        digest=opened.descriptor.digest,
        changed=is_new,
        bytes_moved=done.bytes_fetched,
        seconds=time.monotonic() - began,
        facts={
            "files": len(opened.weights.files),
            "size_bytes": opened.weights.size,
            "fetched": done.fetched,
            "copied": done.copied,
            "kept": done.kept,
            "resumed_bytes": done.bytes_resumed,
            "others": len(done.others),
        },
        notes=[
            *([f"{others} of the folder not in these weights, and kept: {', '.join(done.others[:5])}"] * bool(others)),
            *(signed_by(signature, signers) if signature and signature.certified else ()),
            *(left_out(signature.unsigned) if signature else []),
        ],
    )
    show_result(result, as_json=options.as_json)


@weights.command("ls", epilog=REFERENCE, short_help="List the files of weights.")
@click.argument("reference", metavar="REF", shell_complete=IMAGES)
@click.option("--tensors", is_flag=True, help="The tensors of its safetensors files: one range of each file is read.")
@common
def ls(options: Options, reference: str, tensors: bool) -> None:
    """List the files of REF, or its tensors; only the list is read."""
    with _opened(options, reference) as (opened, _):
        rows = _tensor_rows(opened) if tensors else _file_rows(opened)
    size = opened.weights.size
    result = StageResult(
        stage="weights",
        subject=str(opened.place),
        action=f"listed {count_text(len(rows), 'tensor' if tensors else 'file')}",
        digest=opened.descriptor.digest,
        facts={"files": len(opened.weights.files), "size_bytes": size},
        rows=rows,
        notes=[f"attached to {opened.manifest.subject.digest}"] if opened.manifest.subject else [],
    )
    _show_rows(options, result)


def _file_rows(opened: OpenedWeights) -> list[Row]:
    return [
        {"path": file.path, "size": file.size, "kind": file.kind, "type": file.media_type, "digest": str(file.digest)}
        for file in opened.weights.files
    ]


def _tensor_rows(opened: OpenedWeights) -> list[Row]:
    from registry_pipelines.weights.tensors import all_tensors

    return [
        {
            "tensor": tensor.name,
            "dtype": tensor.dtype,
            "shape": "x".join(map(str, tensor.shape)),
            "size": tensor.stop - tensor.start,
            "file": tensor.file.path,
        }
        for tensor in all_tensors(opened)
    ]


def _show_rows(options: Options, result: StageResult) -> None:
    """All rows: a list of shards is read as a whole."""
    if options.as_json:
        print_results([result])
        return
    out = console()
    out.print(f"{result.subject}@{result.digest}", markup=False, soft_wrap=True)
    if result.rows:
        out.print(rows_table(result.rows, limit=len(result.rows)))
    print_lines([result.action, *result.reasons, *result.notes])


@weights.command("verify", short_help="Hold weights against their list.")
@click.argument("target", type=NamedPath(), metavar="REF|FOLDER", shell_complete=IMAGES)
@signers_options
@click.option("--signature", type=click.Path(path_type=Path), metavar="FILE", help="Of a folder, with --signed.")
@common
def verify(options: Options, target: str, signers: Signers, signature: Path | None) -> None:
    """Read all files of weights in a registry, or of a folder that was pulled, and hold them against their digests.

    What names a folder that is here is a folder, else REF. A folder is held against its weights.json: that finds what
    was damaged or did not fully come, and no forger, who would write another list. With --signed a folder is held
    against its signature instead (model.sig), also one that another program made, and REF against both. Exit 6: a file
    is missing or has other content; 3: these are not the files that somebody signed who is believed. A certificate
    must be valid now, unless a timestamp that is believed says that it signed while it was.
    """
    from registry_pipelines.weights.verify import verify_folder, verify_stored

    began, here, verifier = time.monotonic(), Path(target), believed_keys(options, signers)
    if signature is not None and not (verifier and here.is_dir()):
        raise InputError("--signature is of a folder, with --signed", where=str(signature))
    notes: list[str] = []
    if here.is_dir():
        if verifier:
            show_result(check_folder(options, here, verifier, signature, signers), as_json=options.as_json)
            return
        found, where = verify_folder(here), str(here)
    else:
        with _opened(options, target) as (opened, engine):
            if verifier:
                by = check_signed(opened, verifier)
                notes = [*signed_by(by, signers), *left_out(by.unsigned)]
            found, where = verify_stored(opened, engine=engine), str(opened.place)
    bad = [file for file in found.files if file.state != "ok"]
    good = len(found.files) - len(bad)
    result = StageResult(
        stage="weights",
        subject=where,
        action=f"{count_text(good, 'file is', 'files are')} whole",
        digest=found.manifest,
        bytes_moved=0 if here.is_dir() else found.bytes_read,
        seconds=time.monotonic() - began,
        facts={"files": len(found.files), "whole": good, "read_bytes": found.bytes_read},
        rows=[{"path": file.path, "size": file.size, "state": file.state} for file in bad],
        reasons=[f"{file.path}: {file.state}" for file in bad if file.state != "not listed"],
        notes=notes,
        ok=found.ok,
        exit_code=0 if found.ok else ContentError.exit_code,
    )
    _show_rows(options, result)
    if not found.ok:
        raise SystemExit(ContentError.exit_code)


@weights.command("read", epilog=REFERENCE, short_help="Bring one tensor of weights.")
@click.argument("reference", metavar="REF", shell_complete=IMAGES)
@click.argument("tensor")
@click.option("--to", "file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Written whole.")
@common
def read(options: Options, reference: str, tensor: str, file: Path) -> None:
    """Bring one tensor of REF by two ranges, the header of its file and its bytes, and write it as a safetensors file.

    A part of a file cannot be held against the file's digest: the bytes are what the registry gave. `pull` and `verify`
    hold whole files against theirs.
    """
    from registry_pipelines.weights.tensors import find_tensor, write_tensor

    began = time.monotonic()
    with _opened(options, reference) as (opened, _):
        found = find_tensor(opened, tensor)
        written = write_tensor(opened, found, file)
    result = StageResult(
        stage="weights",
        subject=f"{opened.place} {tensor}",
        action=f"read into {file}",
        digest=opened.descriptor.digest,
        changed=True,
        bytes_moved=found.stop - found.start,
        seconds=time.monotonic() - began,
        facts={
            "dtype": found.dtype,
            "shape": "x".join(map(str, found.shape)),
            "file": found.file.path,
            "first_byte": found.start,
            "written_bytes": written,
        },
        notes=["held against no digest: it is a part of a file"],
    )
    show_result(result, as_json=options.as_json)


@weights.command("attach", short_help="Make weights part of what belongs to an image.")
@click.argument("image", metavar="IMAGE|RELEASE", shell_complete=IMAGES)
@click.argument("reference", metavar="WEIGHTS")
@common
def attach(options: Options, image: str, reference: str) -> None:
    """Attach WEIGHTS, which are in a registry or a store, to an image: the same manifest with the image as its subject,
    in the image's repository.

    Their signatures are attached to it, too. Copies, mirrors, bundles and backups of the image then take both along,
    and `collect` keeps them as long as the image. Within a registry no file is sent. Attaching twice changes nothing.
    """
    from registry_pipelines.weights.attach import attach_weights

    began, engine = time.monotonic(), options.engine(None)
    names = [image] if is_store(reference) else [image, reference]
    with named(options, names) as locate, options.progress() as progress:
        goal = locate(image)
        opened = _weights_at(options, reference, locate)
        done = attach_weights(goal.place, goal.selector, opened, engine=replace(engine, progress=progress))
    result = StageResult(
        stage="weights",
        subject=f"{goal.place}@{done.subject.digest}",
        action=f"attached, {_counts(done.blobs)}" if done.changed else "unchanged",
        digest=done.descriptor.digest,
        changed=done.changed,
        bytes_moved=done.bytes_sent,
        seconds=time.monotonic() - began,
        facts={
            "files": len(opened.weights.files),
            "size_bytes": opened.weights.size,
            "signatures": done.signatures,
        },
    )
    show_result(result, as_json=options.as_json)


def _weights_at(options: Options, reference: str, locate: Callable[..., Located]) -> OpenedWeights:
    from registry_pipelines.weights.opening import open_weights

    if is_store(reference):
        from registry_pipelines.cli.weights_stores import open_at

        return open_at(options, reference)
    source = locate(reference)
    return open_weights(source.place, source.selector)


COMMANDS = [weights]
