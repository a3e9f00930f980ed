"""Bring weights from a registry into a folder.

What the folder has already, under any name, is not fetched. What comes lies in the folder's ``.registry-pipelines``
until all of it is there and was held against its digests; a pull that was killed goes on behind the bytes that it has.
Then the files take their places, and the list of them (``weights.json``) comes last: a folder without it is not whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from registry_pipelines.errors import DiskFull, InputError, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, sync_folder
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.protocol import BUFFER_BYTES
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.weights.hashing import LEFT_OUT, LIST_FILE, digest_of
from registry_pipelines.weights.listed import list_of, read_list, write_list
from registry_pipelines.weights.model import WeightFile
from registry_pipelines.weights.opening import OpenedWeights, distinct
from registry_pipelines.weights.reading import FILES_AT_ONCE, Reading, ReadStopped, wrong_content
from registry_pipelines.weights.staging import LOCK, staged_in

SPARE_BYTES = 16 * 1024 * 1024
"""Left free beside what comes: the list, and folders."""


@dataclass(frozen=True)
class PulledWeights:
    """A folder that has the files of a set now. fetched, kept, copied: how many files came, were there, or were there
    under another name. bytes_fetched: by this run; bytes_resumed: that an earlier one had brought. others: files of the
    folder that are not in the set."""

    folder: Path
    fetched: int
    kept: int
    copied: int
    bytes_fetched: int
    bytes_resumed: int
    others: tuple[str, ...]


@dataclass
class _Have:
    """What a folder has of a set. right: paths with the right content. sources: where each content lies."""

    right: set[str] = field(default_factory=set)
    sources: dict[Digest, Path] = field(default_factory=dict)


def pull_weights(opened: OpenedWeights, folder: Path, *, exact: bool = False, engine: Engine = PLAIN) -> PulledWeights:
    """Have the files of a set in a folder, each whole; the list last.

    exact: refuse a folder with files that are not in the set, before anything comes; else they are kept and told.
    Raises InputError (those files, a folder where a file goes, a symbolic link on the way to one), DigestMismatch (the
    registry gave other bytes; no file was touched), DiskFull, LocalError, StateLocked, the RegistryError family.
    """
    opened.need_raw()
    listed = list_of(opened.weights, opened.descriptor.digest)
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _check_ways(folder, opened.weights.files)
    others = _others(folder, opened.weights.files)
    if exact and others:
        raise InputError(
            f"{count_text(len(others), 'file')} of this folder {'is' if len(others) == 1 else 'are'} not in these "
            f"weights: {', '.join(others[:5])}",
            where=str(folder),
            do="Remove them, name an empty folder, or leave --exact out",
        )
    with staged_in(folder) as staging:
        have = _look(folder, opened.weights.files, engine)
        wrong = [file for file in opened.weights.files if file.path not in have.right]
        missing = [file for file in distinct(tuple(wrong)) if file.digest not in have.sources]
        resumed = _check_room(staging, missing, wrong)
        fetched = _fetch(opened, staging, missing, engine)
        if wrong or read_list(folder) != listed:
            _place(folder, staging, wrong, have)
            write_list(folder, staging, listed)
        with local_errors(staging):
            shutil.rmtree(staging)
    came = {file.digest for file in missing}
    count = sum(file.digest in came for file in wrong)
    return PulledWeights(
        folder,
        fetched=count,
        kept=len(have.right),
        copied=len(wrong) - count,
        bytes_fetched=fetched,
        bytes_resumed=resumed,
        others=tuple(others),
    )


def _check_ways(folder: Path, files: tuple[WeightFile, ...]) -> None:
    """No file goes through a symbolic link, or to where a folder is."""
    for above in sorted({parent for file in files for parent in Path(file.path).parents if parent != Path()}):
        there = folder / above
        if there.is_symlink() or (there.exists() and not there.is_dir()):
            what = "a symbolic link, which may lead out of the folder" if there.is_symlink() else "a file"
            raise InputError(f"this is {what}, and a folder is wanted there", where=str(there), do="Remove it")
    for file in files:
        if (folder / file.path).is_dir() and not (folder / file.path).is_symlink():
            raise InputError(
                "this is a folder, and a file is to be there",
                where=str(folder / file.path),
                do="Remove it, or choose another folder",
            )


def _look(folder: Path, files: tuple[WeightFile, ...], engine: Engine) -> _Have:
    """What is there: files of the set by their names, and others that have a size that is wanted."""
    have, by_path = _Have(), {file.path: file for file in files}
    sizes = {file.size for file in files}
    with local_errors(folder):
        candidates = [(name, path) for name, path in files_below(folder) if path.stat().st_size in sizes]
        candidates += [(name, folder / name) for name in by_path if _is_passed_over(folder, name)]
    with Pool(FILES_AT_ONCE, "look") as pool:
        digests = list(pool.map(digest_of, [path for _, path in candidates]))
    for (name, path), digest in zip(candidates, digests, strict=True):
        have.sources[digest] = path
        if name in by_path and by_path[name].digest == digest:
            have.right.add(name)
            engine.progress.end(name, note="present")
    return have


def _is_passed_over(folder: Path, name: str) -> bool:
    """Whether a file of the set is there, and among those that a push leaves out; other programs push such."""
    path = folder / name
    return name.split("/")[0] in LEFT_OUT and path.is_file() and not path.is_symlink()


def _others(folder: Path, files: tuple[WeightFile, ...]) -> list[str]:
    """Files of the folder that are not in the set."""
    known = {file.path for file in files}
    with local_errors(folder):
        return sorted(name for name, _ in files_below(folder) if name not in known)


def files_below(folder: Path, below: str = "") -> Iterator[tuple[str, Path]]:
    """Regular files; symbolic links are not followed, and what is neither is left alone."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not below and entry.name in LEFT_OUT:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(folder / entry.name, f"{below}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{below}{entry.name}", folder / entry.name


def _partial(staging: Path, file: WeightFile) -> Path:
    """Where a content lies while it comes. Its digest was checked to be one, so it is a name."""
    return staging / f"{file.digest.hex}.part"


def _staged(staging: Path, digest: Digest) -> Path:
    return staging / digest.hex


def _check_room(staging: Path, missing: list[WeightFile], wrong: list[WeightFile]) -> int:
    """Bytes that an earlier pull left here. Raises DiskFull where what is still to be written has no room."""
    with local_errors(staging):
        resumed = 0
        for file in missing:
            for path in (_partial(staging, file), _staged(staging, file.digest)):
                if path.is_file():
                    resumed += min(path.stat().st_size, file.size)
        found = os.statvfs(staging)
    free, needed = found.f_bavail * found.f_frsize, sum(file.size for file in wrong) - resumed
    if needed + SPARE_BYTES > free and needed > 0:
        raise DiskFull(
            f"{size_text(needed)} are to be written, and {size_text(free)} are free",
            where=str(staging.parent),
            do="Free space or choose another folder",
        )
    return resumed


def _fetch(opened: OpenedWeights, staging: Path, missing: list[WeightFile], engine: Engine) -> int:
    """Bring contents into the staging folder; bytes that came. What an earlier pull of other weights left goes."""
    keep = {path.name for file in missing for path in (_partial(staging, file), _staged(staging, file.digest))}
    with local_errors(staging):
        for path in staging.iterdir():
            if path.is_dir() and not path.is_symlink():  # of a push to this folder as a store
                shutil.rmtree(path)
            elif path.name not in keep and path.name != LOCK:
                path.unlink()
    if not missing:
        return 0
    with engine.opened() as state, Pool(FILES_AT_ONCE, "pull") as pool:
        reading = Reading(state, opened.content, engine)
        bring = partial(_bring, reading, staging, engine)
        futures = [pool.submit(bring, file) for file in sorted(missing, key=lambda file: -file.size)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda each: isinstance(each, ReadStopped)):
            raise error
        return sum(future.result() for future in futures)


def _bring(reading: Reading, staging: Path, engine: Engine, file: WeightFile) -> int:
    """One content; bytes that came. Where it fails the others stop, too."""
    try:
        return _have_staged(reading, staging, engine, file)
    except BaseException:
        reading.stop()
        raise


def _have_staged(reading: Reading, staging: Path, engine: Engine, file: WeightFile) -> int:
    """A beginning that turns out wrong at the end (a power cut) is fetched again."""
    done = _staged(staging, file.digest)
    if done.is_file():  # an earlier pull had it, and its digest held
        engine.progress.end(file.path, note="resumed")
        return 0
    partly = _partial(staging, file)
    with local_errors(partly):
        start = min(partly.stat().st_size, file.size) if partly.is_file() else 0
    came, actual = _append(reading, partly, engine, file, start)
    if actual != file.digest.hex and start:
        again, actual = _append(reading, partly, engine, file, 0)
        came += again
    with local_errors(partly):
        if actual != file.digest.hex:
            partly.unlink()
            raise wrong_content(reading.place, file.descriptor, file.path, actual)
        partly.rename(done)
    engine.progress.end(file.path)
    return came


def _append(reading: Reading, partly: Path, engine: Engine, file: WeightFile, start: int) -> tuple[int, str]:
    """Go on behind the bytes that are there; how many came, and the hash of all."""
    hasher = file.digest.hasher()
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with local_errors(partly), os.fdopen(os.open(partly, flags, 0o666), "r+b", buffering=0) as written:
        written.truncate(start)
        buffer = memoryview(bytearray(BUFFER_BYTES)) if start else memoryview(b"")
        while start and (count := written.readinto(buffer)):
            hasher.update(buffer[:count])
        engine.progress.begin(file.path, total_bytes=file.size - start)
        for piece in reading.parts(file.descriptor, start=start):
            hasher.update(piece)
            rest = piece
            while rest:
                rest = rest[written.write(rest) :]
            engine.progress.advance(file.path, len(piece))
        os.fsync(written.fileno())
    return file.size - start, hasher.hexdigest()


def _place(folder: Path, staging: Path, wrong: list[WeightFile], have: _Have) -> None:
    """Put all contents in their places. Until the list is written again, the folder says that it is not whole."""
    with local_errors(folder):
        for file in wrong:  # before anything is replaced: it may be the content of another
            if not _staged(staging, file.digest).is_file():
                _copy(have.sources[file.digest], _staged(staging, file.digest), file)
        (folder / LIST_FILE).unlink(missing_ok=True)
        uses: dict[Digest, list[WeightFile]] = {}
        for file in wrong:
            uses.setdefault(file.digest, []).append(file)
        changed: set[Path] = {folder}
        for digest, same in uses.items():
            staged = _staged(staging, digest)
            for at, file in enumerate(same):
                goal = folder / file.path
                goal.parent.mkdir(parents=True, exist_ok=True)
                changed.update((goal.parent, goal.parent.parent))
                if at + 1 < len(same):
                    beside = staged.with_suffix(f".{at}")
                    _copy(staged, beside, file)
                    beside.replace(goal)
                else:
                    staged.replace(goal)
        for each in changed:
            sync_folder(each)


def _copy(source: Path, target: Path, file: WeightFile) -> None:
    """A copy of a file of this folder, which shares its blocks where the file system can. Raises LocalError where it is
    another content by now."""
    partly = target.with_name(f"{target.name}.copy")
    shutil.copyfile(source, partly, follow_symlinks=False)
    if digest_of(partly) != file.digest:
        raise LocalError("the file changed while it was copied", where=str(source), do="Run the command again")
    with partly.open("rb") as copied:
        os.fsync(copied.fileno())
    partly.rename(target)


__all__ = ["PulledWeights", "files_below", "pull_weights"]
