"""The signature of a folder, ``model.sig`` beside its files: made, and held against what is there."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.threads import Pool
from registry_pipelines.weights.hashing import SIGNATURE_FILE, THREADS, Identity, changed, find_files, read_folder
from registry_pipelines.weights.oms.bundles import Believed, believe, sign_model
from registry_pipelines.weights.oms.statement import NEVER_SIGNED, Range, SignedModel
from registry_pipelines.weights.paths import fault_of
from registry_pipelines.weights.staging import put_beside
from registry_pipelines.weights.wholeness import check_whole

SHOWN = 10
"""Files that an error names; it counts the others."""


@dataclass(frozen=True)
class SignedFolder:
    """A signature that was written. outside: links that counted as the files they name, and lead out of the folder."""

    signature: Path
    files: int
    size: int
    key_id: str
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifiedFolder:
    """A folder that is as it was signed. files, size (bytes): what is signed. unsigned: files that are there and that
    the signature leaves out, by its own word or the specification's; nobody vouches for them."""

    believed: Believed
    files: int
    size: int
    unsigned: tuple[str, ...]


def sign_folder(
    folder: Path,
    signer: Signer,
    *,
    signature: Path | None = None,
    follow_links: bool = False,
    certificates: Sequence[bytes] = (),
    progress: Progress | None = None,
) -> SignedFolder:
    """Sign all files of a folder. signature: where to write it, ``model.sig`` in the folder unless told; one that is
    there is replaced, in one step. certificates: as in :func:`~.bundles.sign_model`. follow_links: as in
    :func:`~registry_pipelines.weights.hashing.read_folder`, which says what is raised, as do
    :func:`~registry_pipelines.weights.wholeness.check_whole` and key services.
    """
    check_whole(find_files(folder, follow_links=follow_links))
    read = read_folder(folder, follow_links=follow_links, progress=progress)
    links = {path for path, origin in read.origins.items() if origin.path.is_symlink()}
    inside = folder.resolve()
    outside = tuple(sorted(path for path in links if not read.origins[path].path.resolve().is_relative_to(inside)))
    target = signature or folder / SIGNATURE_FILE
    digests = {file.path: file.digest.hex for file in read.weights.files}
    if target.resolve().parent == inside and target.name in digests:
        raise InputError("a file of the model has this name", where=str(target), do="Name another file for --signature")
    name = inside.name or "model"
    raw = sign_model(digests, signer, name=name, links=bool(links), certificates=certificates)
    if target.resolve().parent == inside:
        put_beside(folder, target.name, raw)
    else:
        with local_errors(target):
            write_file(target, raw)
    return SignedFolder(target, len(digests), read.weights.size, signer.key_id, outside)


def verify_folder(
    folder: Path, verifier: Verifier, *, signature: Path | None = None, progress: Progress | None = None
) -> VerifiedFolder:
    """Hold a folder against its signature. signature: as in :func:`sign_folder`.

    Raises SignatureInvalid: no signature, one of somebody else, or files that changed, are missing, or are there and
    not signed; all are counted, and the first are named. InputError for no folder, ContentError for a file that changed
    meanwhile, LocalError.
    """
    if not folder.is_dir():
        raise InputError("this is no folder", where=str(folder), do="Name the folder that has the model's files")
    target = signature or folder / SIGNATURE_FILE
    believed = believe(_read(target), verifier, where=str(target))
    model = believed.model
    there = {name: path for name, path in _walk(folder, "", model) if not _same_file(path, target)}
    listed = {name: path for name, path in there.items() if name in model.files}
    unsigned = sorted(there.keys() - model.files.keys())
    problems = [f"{name} is missing" for name in sorted(model.files.keys() - there.keys())]
    left_out = [name for name in unsigned if model.leaves_out(name) or _is_empty(there[name], model)]
    problems += [f"{name} is not signed" for name in unsigned if name not in left_out]
    hash_it = partial(_holds, model, progress or Silent())
    with Pool(THREADS, "hash") as pool:
        sizes = dict(zip(listed, pool.map(hash_it, list(listed), list(listed.values())), strict=True))
    problems += [f"{name} has other content" for name, size in sizes.items() if size is None]
    if problems:
        raise not_as_signed(problems, where=str(folder))
    return VerifiedFolder(believed, len(listed), sum(size or 0 for size in sizes.values()), tuple(left_out))


def not_as_signed(problems: list[str], *, where: str) -> SignatureInvalid:
    """The error about files that are not what was signed."""
    more = f", and {count_text(len(problems) - SHOWN, 'more')}" if len(problems) > SHOWN else ""
    return SignatureInvalid(
        f"these are not the files that were signed: {'; '.join(problems[:SHOWN])}{more}",
        where=where,
        do="Fetch the weights again, or have who may sign them sign them as they are",
    )


def _read(target: Path) -> bytes:
    with local_errors(target):
        if not target.is_file():
            raise SignatureInvalid(
                "there is no signature", where=str(target), do="Sign: registry-pipelines weights sign FOLDER"
            )
        with target.open("rb") as file:
            return file.read(MAX_BUNDLE_BYTES + 1)


def _walk(folder: Path, below: str, model: SignedModel) -> Iterator[tuple[str, Path]]:
    """Every file, also those that are left out. Raises SignatureInvalid for what no signature can hold."""
    with local_errors(folder), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            name, path = f"{below}{entry.name}", folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(path, f"{name}/", model)
            elif model.leaves_out(name) and name not in model.files:
                yield name, path
            elif fault := fault_of(name):
                raise SignatureInvalid(f"the name {name!r} {fault}; no signature names it", where=str(folder))
            elif entry.is_symlink() and not (model.links and path.is_file()):
                what = ", and to no file" if model.links else ", and the signature is about files alone"
                raise SignatureInvalid(f"this is a symbolic link{what}", where=str(path))
            elif not path.is_file():
                raise SignatureInvalid("this is neither a file nor a folder", where=str(path))
            else:
                yield name, path


def _same_file(path: Path, target: Path) -> bool:
    return path.name == target.name and path.resolve() == target.resolve()


def _is_empty(path: Path, model: SignedModel) -> bool:
    with local_errors(path):
        return model.sharded and path.stat().st_size == 0


def _holds(model: SignedModel, progress: Progress, name: str, path: Path) -> int | None:
    """The bytes of a file that is as it was signed; None for another one."""
    task = f"hash {name}"
    with local_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise changed(path)
            progress.begin(task, total_bytes=before.st_size)
            same = _size_fits(model.files[name], before.st_size) and all(
                _digest(stream, each, model.hash_type, task, progress) == each.digest for each in model.files[name]
            )
            if Identity.of(os.fstat(descriptor)) != Identity.of(before):
                raise changed(path)
    progress.end(task)
    return before.st_size if same else None


def _size_fits(ranges: tuple[Range, ...], size: int) -> bool:
    return ranges[-1].stop in (None, size)


def _digest(stream: object, wanted: Range, hash_type: str, task: str, progress: Progress) -> str:
    hashed, buffer = hashlib.new(hash_type), memoryview(bytearray(BUFFER_BYTES))
    left = (1 << 63) if wanted.stop is None else wanted.stop - wanted.start
    while left and (count := stream.readinto(buffer[: min(left, BUFFER_BYTES)])):  # type: ignore[attr-defined]
        hashed.update(buffer[:count])
        progress.advance(task, count)
        left -= count
    return hashed.hexdigest()


__all__ = ["NEVER_SIGNED", "SignedFolder", "VerifiedFolder", "not_as_signed", "sign_folder", "verify_folder"]
