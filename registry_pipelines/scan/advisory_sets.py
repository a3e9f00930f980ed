"""Advisory sets in the state folder: what was fetched or imported, whole or not at all.

A set is a folder below ``advisories/sets``: for each ecosystem its records as OSV exports them (``PyPI.zip``), those
that were fetched one by one since (``PyPI.changes.zip``), the list of both (``PyPI.csv``), and ``.set.json``, which
says where each came from. The file ``advisories/current`` names the one in use, and is replaced last; a set that is
named there never changes but for the time until which it is known to be complete. The folder is a source of
:class:`~registry_pipelines.scan.advisories.AdvisoryStore`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec

from registry_pipelines.errors import AdvisoriesMissing, ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import held_alone, local_errors, sync_folder, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.times import read_time

DESCRIPTION = ".set.json"
"""Hidden, so that it is not taken for a record."""

MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024
"""A few hundred bytes for each of some 40 ecosystems, and the names of records that could not be had."""

ABANDONED_S = 86_400.0
"""An index takes seconds, a minute for all of OSV."""

KEPT_SETS = 2
"""The one in use, and the one before: a scan may be reading it."""

ECOSYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
"""A folder of the export; what is fetched is kept in one of the same name."""

BEING_FILLED = "set"
"""Below ``partial``: the folder that becomes the next set."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9%._-]{0,120}\.(zip|csv)")
_SET_NAME = re.compile(r"osv-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}")


class SetFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a set. name: without folders."""

    name: str
    digest: Digest
    size: int


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ecosystem of a set."""

    ecosystem: str
    """As the export's folder is called: ``Debian`` for ``Debian:12``."""
    files: tuple[SetFile, ...]
    records: int
    malicious: int
    """How many of the records are about malicious packages."""
    newest: str
    """``modified`` of the newest record, RFC 3339, UTC."""
    complete: str
    """The time until which nothing was missing, RFC 3339, UTC: when the export was asked last; of a file that somebody
    fetched by hand the date of its newest record."""
    origin: str
    """The export's address, or the file's name."""
    etag: str = ""
    """Of the export's ``all.zip``, where the export keeps no list of its records."""
    singles: int = 0
    """Records that were fetched one by one since the ``all.zip``."""
    missing: tuple[str, ...] = ()
    """Records that the export lists and could not give; they are asked for again."""


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``.set.json``."""

    version: int = 1
    parts: tuple[Part, ...]

    @classmethod
    def decode(cls, raw: bytes, *, where: str) -> Description:
        """Read the JSON form. Raises AdvisoriesMissing."""
        try:
            description = decode_json(raw, cls, where=where, what="description of an advisory set")
        except ManifestInvalid as error:
            raise AdvisoriesMissing(error.what, where=where, do="Run `registry-pipelines advisories update`") from error
        names = [file.name for part in description.parts for file in part.files]
        odd = [name for name in names if not _FILE_NAME.fullmatch(name)]
        times = [read_time(text) for part in description.parts for text in (part.newest, part.complete)]
        odd += [part.ecosystem for part in description.parts if not ECOSYSTEM.fullmatch(part.ecosystem)]
        odd += [part.ecosystem for part in description.parts if not _can_be_counted(part)]
        if description.version != 1 or not names or odd or len(set(names)) < len(names) or None in times:
            raise AdvisoriesMissing(
                "the description of the advisory set is none of this build",
                where=where,
                do="Make it with this version: `registry-pipelines advisories export`",
            )
        return description

    def encode(self) -> bytes:
        """Deterministic JSON."""
        return encode_json(self)

    @property
    def digest(self) -> Digest:
        """Of the records: what reports name. The same as that of the folder as a source of advisories."""
        archives = (file for part in self.parts for file in part.files if file.name.endswith(".zip"))
        lines = [f"{file.digest.hex} {file.name!r}\n" for file in sorted(archives, key=lambda file: file.name)]
        return Digest(f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}")

    @property
    def newest(self) -> str:
        """How new the whole is: the newest record's date, or the earlier time until which its oldest part is complete.
        So neither an export that stands still nor one part that is no longer fetched looks new."""
        return min(max(part.newest for part in self.parts), *(part.complete for part in self.parts))


def _can_be_counted(part: Part) -> bool:
    sizes = [file.size for file in part.files]
    return 0 <= part.malicious <= part.records and part.singles >= 0 and min(sizes, default=0) >= 0


@dataclass(frozen=True)
class AdvisorySet:
    """A set that is in place."""

    folder: Path
    description: Description

    @property
    def files(self) -> list[SetFile]:
        """All of its files."""
        return [file for part in self.description.parts for file in part.files]

    def is_whole(self) -> bool:
        """Whether every file is what it was; reads them all."""
        try:
            return all(described_file(self.folder / file.name) == file for file in self.files)
        except OSError:
            return False

    def part(self, ecosystem: str) -> Part | None:
        """One of its ecosystems."""
        return next((part for part in self.description.parts if part.ecosystem == ecosystem), None)


def root_of(state: Path) -> Path:
    """Where sets and their indexes live."""
    return state / "advisories"


def file_name(ecosystem: str, ending: str) -> str:
    """The name of an ecosystem's file: ``Red%20Hat.zip``."""
    return f"{quote(ecosystem, safe='')}{ending}"


def folder_of(ecosystem: str) -> str:
    """The export's folder of an ecosystem: ``Debian`` of ``Debian:12``."""
    return ecosystem.partition(":")[0]


def current_set(state: Path) -> AdvisorySet | None:
    """The set in use; None before the first. Raises AdvisoriesMissing for one of which a file is not there, or not of
    its size; what is in the files is checked where they are read."""
    chosen = named_set(state)
    for file in chosen.files if chosen else ():
        try:
            size = (chosen.folder / file.name).stat().st_size if chosen else 0
        except OSError as error:
            raise _damaged(file.name, error.strerror or str(error)) from error
        if size != file.size:
            raise _damaged(file.name, f"it has {size} bytes, it had {file.size}")
    return chosen


def named_set(state: Path) -> AdvisorySet | None:
    """What ``current`` names, its files not looked at. Raises AdvisoriesMissing."""
    try:
        name = (root_of(state) / "current").read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError:
        with local_errors(root_of(state)):
            raise
    folder = root_of(state) / "sets" / name
    if not _SET_NAME.fullmatch(name):
        raise _damaged(name[:80], "no set has that name")
    description = describe(folder)
    if description is None:
        raise _damaged(name, "it is not there")
    return AdvisorySet(folder, description)


def describe(folder: Path) -> Description | None:
    """The description of a folder that is a set; None for any other source of advisories. Raises AdvisoriesMissing."""
    try:
        with (folder / DESCRIPTION).open("rb") as file:
            raw = file.read(MAX_DESCRIPTION_BYTES + 1)
    except OSError:
        return None
    return Description.decode(raw, where=folder.name)


def _damaged(name: str, why: str) -> AdvisoriesMissing:
    return AdvisoriesMissing(
        f"the advisory set is damaged: {why}",
        where=name,
        do="Run `registry-pipelines advisories update`, or import a set again",
    )


@contextmanager
def changing(state: Path) -> Iterator[Path]:
    """Hold the sets for one change; the folder for what is being made, kept from an interrupted run. Raises
    StateLocked, LocalError."""
    root = root_of(state)
    with held_alone(root / "lock", "another process updates or imports advisories"):
        with local_errors(root):
            (root / "partial").mkdir(exist_ok=True)
        yield root / "partial"


def described_file(path: Path) -> SetFile:
    """Name, digest and size of a file."""
    with path.open("rb") as stream:
        digest = Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
        return SetFile(name=path.name, digest=digest, size=stream.tell())


@dataclass(frozen=True)
class Piece:
    """A part, and where its files lie now."""

    part: Part
    folder: Path
    """Of files that ``elsewhere`` does not name."""
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Of one of its files."""
        return self.elsewhere.get(name, self.folder / name)


def put_in_place(state: Path, pieces: Sequence[Piece], *, now: datetime, old: AdvisorySet | None) -> AdvisorySet:
    """Make a set; it is not in use yet. Where the old one has the same files it stays, and its description is renewed.

    Call it while :func:`changing`. Raises DiskFull, LocalError.
    """
    description = Description(parts=tuple(sorted((piece.part for piece in pieces), key=lambda part: part.ecosystem)))
    files = {file.name: (file, piece.path(file.name)) for piece in pieces for file in piece.part.files}
    known = {file.name: file for file in old.files} if old else {}
    with local_errors(root_of(state)):
        if old is not None and known == {name: file for name, (file, _) in files.items()}:
            target = old.folder
        else:
            content = Digest.of("".join(sorted(f"{name} {file.digest}" for name, (file, _) in files.items())).encode())
            target = root_of(state) / "sets" / f"osv-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{content.hex[:12]}"
        if old is None or target != old.folder:
            _fill(target, [path for _, path in files.values()])
        write_file(target / DESCRIPTION, description.encode())
    return AdvisorySet(target, description)


def _fill(target: Path, paths: Sequence[Path]) -> None:
    """Make the folder, whole or not at all."""
    import shutil  # brings bz2 and lzma, which a scan that only reads sets has no use for

    fresh = target.parent.parent / "partial" / BEING_FILLED
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for path in paths:
        try:
            os.link(path, fresh / path.name)
        except OSError:  # a file system without links
            shutil.copyfile(path, fresh / path.name)
        descriptor = os.open(fresh / path.name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    target.parent.mkdir(exist_ok=True)
    if target.exists():  # of the same second: an interrupted run's, or one that is damaged
        shutil.rmtree(target)
    fresh.rename(target)
    sync_folder(target.parent)


def use(state: Path, chosen: AdvisorySet) -> None:
    """From now on this set is the one in use; what was being made is removed, and so are sets before the last one."""
    import shutil

    root = root_of(state)
    with local_errors(root):
        write_file(root / "current", f"{chosen.folder.name}\n".encode())
    others = sorted(path for path in (root / "sets").iterdir() if path != chosen.folder)
    for folder in others[: max(0, len(others) + 1 - KEPT_SETS)]:
        with suppress(AdvisoriesMissing):
            _forget_index(root, folder, chosen)
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root / "partial", ignore_errors=True)
    for path in root.glob(".*.sqlite.*"):  # an index that a kill left half made; others may be making theirs just now
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()


def _forget_index(root: Path, folder: Path, chosen: AdvisorySet) -> None:
    description = describe(folder)
    if description is not None and description.digest != chosen.description.digest:
        for index in root.glob(f"{description.digest.hex}.*"):
            index.unlink(missing_ok=True)
