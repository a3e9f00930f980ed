"""Make the next advisory set of files: archives that somebody fetched, or another machine's whole set."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from registry_pipelines.errors import AdvisoriesMissing
from registry_pipelines.oci.files import local_errors
from registry_pipelines.scan.advisory_sets import BEING_FILLED, Part, Piece, changing, file_name
from registry_pipelines.scan.listings import newest_of, read_archive
from registry_pipelines.scan.updating import Updated, before, finish, piece_of


def import_archives(archives: Mapping[str, Path], state: Path, *, now: datetime) -> Updated:
    """Take files that somebody fetched: ecosystem to its ``all.zip``. The set's other ecosystems stay as they are.

    Raises AdvisoriesMissing: no archive of that ecosystem, damaged; StateLocked, DiskFull, LocalError (no such file).
    """
    with changing(state) as partial, _whole_or_gone(partial, *(file_name(each, "") for each in archives)):
        old, _ = before(state)
        pieces = []
        for ecosystem, archive in archives.items():
            folder = _emptied(partial / file_name(ecosystem, ""))
            target = folder / file_name(ecosystem, ".zip")
            with local_errors(folder):
                shutil.copyfile(archive, target)
            times = read_archive(target, where=archive.name)
            _speaks_of(target, ecosystem, archive.name)
            pieces.append(piece_of(ecosystem, [target], times, complete=newest_of(times), origin=archive.name))
        kept = [part for part in (old.description.parts if old else ()) if part.ecosystem not in archives]
        there = [Piece(part, old.folder) for part in kept] if old else []
        done = finish(state, [*pieces, *there], now=now, old=old)
        done.fetched = {piece.part.ecosystem: piece.part.origin for piece in pieces}
        done.fetched |= {part.ecosystem: "kept" for part in kept}
        return done


def take(state: Path, fill: Callable[[Path], Sequence[Part]], *, now: datetime) -> Updated:
    """Use a whole set that ``fill`` puts into an empty folder; nothing of the set before stays. Raises what ``fill``
    raises, AdvisoriesMissing, StateLocked, DiskFull, LocalError."""
    with changing(state) as partial, _whole_or_gone(partial, "imported"):
        folder = _emptied(partial / "imported")
        parts = fill(folder)
        old, _ = before(state)
        done = finish(state, [Piece(part, folder) for part in parts], now=now, old=old)
        if old and done.set.description.newest < old.description.newest:
            done.notes.append(f"the set that was in use is newer: as of {old.description.newest}")
        done.fetched = {part.ecosystem: part.origin for part in parts}
        return done


def _speaks_of(archive: Path, ecosystem: str, name: str) -> None:
    """Raise unless records of an archive are about the ecosystem: a file by the wrong name would be data for nobody."""
    with zipfile.ZipFile(archive) as opened:
        wanted = f'"{ecosystem}'.encode()
        if any(wanted in opened.read(member) for member in opened.infolist() if member.filename.endswith(".json")):
            return
    raise AdvisoriesMissing(
        f"no record in it is about {ecosystem}", where=name, do="Name the ecosystem whose all.zip it is"
    )


@contextmanager
def _whole_or_gone(partial: Path, *names: str) -> Iterator[None]:
    """Leave nothing of an import that fails: on a full disk it is in the way, and no other import goes on with it. What
    an interrupted update brought of other ecosystems stays."""
    try:
        yield
    except BaseException:
        for name in (*names, BEING_FILLED):
            shutil.rmtree(partial / name, ignore_errors=True)
        with suppress(OSError):
            partial.rmdir()  # where nothing else is in it
        raise


def _emptied(folder: Path) -> Path:
    with local_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return folder
