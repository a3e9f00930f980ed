"""Hold weights against their list: all files of a set in a registry, or those of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.files import local_errors
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.weights.hashing import LIST_FILE, STAGING_FOLDER, digest_of
from registry_pipelines.weights.image_form import ImageForm
from registry_pipelines.weights.in_store import StoredFiles
from registry_pipelines.weights.listed import ListedFile, read_list
from registry_pipelines.weights.model import WeightFile
from registry_pipelines.weights.opening import OpenedWeights, distinct
from registry_pipelines.weights.pull import files_below
from registry_pipelines.weights.reading import FILES_AT_ONCE, Reading
from registry_pipelines.weights.to_image import faults_of_image

State = Literal["ok", "missing", "other content", "not listed"]


@dataclass(frozen=True)
class VerifiedFile:
    """A file, and how it stands. ``not listed``: the folder has it and its list does not; that is told, and no fault:
    a file system may hold more than weights."""

    path: str
    size: int
    state: State


@dataclass(frozen=True)
class VerifiedWeights:
    """manifest: digest of the artifact that the files were held against. bytes_read: all of them."""

    manifest: str
    files: tuple[VerifiedFile, ...]
    bytes_read: int

    @property
    def ok(self) -> bool:
        """Whether every listed file is whole."""
        return all(file.state in ("ok", "not listed") for file in self.files)


def verify_stored(opened: OpenedWeights, *, engine: Engine = PLAIN) -> VerifiedWeights:
    """Read every file of a set in a registry or a store and hold it against its digest; all of them, whatever is found.
    A registry has files with one content once, a store has each. Raises the RegistryError family where one does not
    answer."""
    if opened.image is not None:
        return _image(opened, opened.image, engine)
    registry = opened.place.registry
    files = list(opened.weights.files) if isinstance(registry, StoredFiles) else distinct(opened.weights.files)
    with engine.opened() as state, Pool(FILES_AT_ONCE, "verify") as pool:

        def stored(file: WeightFile) -> State:
            place = registry.alone(file.path) if isinstance(registry, StoredFiles) else opened.place
            return _stored(Reading(state, place, engine), engine, file)

        states = list(pool.map(stored, files))
    by_path = {file.path: each for file, each in zip(files, states, strict=True)}
    by_digest = {file.digest: each for file, each in zip(files, states, strict=True)}
    rows = tuple(
        VerifiedFile(file.path, file.size, by_path.get(file.path, by_digest[file.digest]))
        for file in opened.weights.files
    )
    return VerifiedWeights(str(opened.descriptor.digest), rows, sum(file.size for file in files))


def _image(opened: OpenedWeights, image: ImageForm, engine: Engine) -> VerifiedWeights:
    """Whole layers are read: they must have the listed files and nothing else, for so a runtime unpacks them."""
    layers = opened.manifest.layers
    faults = faults_of_image(engine.place(opened.place), layers, image, engine.progress)
    rows = tuple(
        VerifiedFile(file.path, file.size, cast(State, faults.get(file.path, "ok"))) for file in opened.weights.files
    )
    return VerifiedWeights(
        str(opened.descriptor.digest), rows, sum({each.digest: each.size for each in layers}.values())
    )


def _stored(reading: Reading, engine: Engine, file: WeightFile) -> State:
    hasher = file.digest.hasher()
    engine.progress.begin(file.path, total_bytes=file.size)
    try:
        for piece in reading.parts(file.descriptor):
            hasher.update(piece)
            engine.progress.advance(file.path, len(piece))
    except NotFound:
        return "missing"
    except ContentError:
        return "other content"
    engine.progress.end(file.path)
    return "ok" if hasher.hexdigest() == file.digest.hex else "other content"


def verify_folder(folder: Path) -> VerifiedWeights:
    """Hold a folder's files against its ``weights.json``. Raises InputError where there is none, ManifestInvalid for
    one that is no such list, LocalError."""
    if not folder.is_dir():
        raise InputError("this is no folder", where=str(folder))
    listed = read_list(folder)
    if listed is None:
        half = (folder / STAGING_FOLDER).is_dir()
        raise InputError(
            f"there is no {LIST_FILE}: " + ("a pull into it did not end" if half else "nobody listed these files"),
            where=str(folder),
            do="Run `registry-pipelines weights pull REF --to FOLDER`",
        )
    with Pool(FILES_AT_ONCE, "verify") as pool:
        states: Sequence[State] = list(pool.map(partial(_in_folder, folder), listed.files))
    rows = [VerifiedFile(each.path, each.size, state) for each, state in zip(listed.files, states, strict=True)]
    known = {each.path for each in listed.files}
    with local_errors(folder):
        more = [(name, path.stat().st_size) for name, path in files_below(folder) if name not in known]
    rows += [VerifiedFile(name, size, "not listed") for name, size in sorted(more)]
    return VerifiedWeights(listed.manifest, tuple(rows), sum(each.size for each in listed.files))


def _in_folder(folder: Path, listed: ListedFile) -> State:
    path = folder / listed.path
    with local_errors(path):
        if path.is_symlink() or not path.is_file():
            return "missing"
        if path.stat().st_size != listed.size:
            return "other content"
    return "ok" if digest_of(path).hex == listed.sha256 else "other content"


__all__ = ["VerifiedFile", "VerifiedWeights", "verify_folder", "verify_stored"]
