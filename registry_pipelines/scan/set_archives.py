"""An advisory set in one file, for the way across an air gap: a tar with ``set.json`` first, then the set's files.

The same set always gives the same bytes, so that the file's sha256, which any tool tells, names it. What is read is
checked file by file against ``set.json`` before anything of it is used.
"""

from __future__ import annotations

import hashlib
import tarfile
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO

import msgspec

from registry_pipelines.errors import AdvisoriesMissing, DigestMismatch
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.scan.advisory_sets import MAX_DESCRIPTION_BYTES, AdvisorySet, Description, Part, SetFile

FIRST = "set.json"
BUFFER_BYTES = 1024 * 1024


def write_set(chosen: AdvisorySet, target: Path) -> Digest:
    """Write a set to a file, at once or not at all; the file's sha256. Raises DiskFull, LocalError."""
    fresh = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}")
    with local_errors(target.parent):
        try:
            with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as archive:
                raw = chosen.description.encode()
                archive.addfile(_member(FIRST, len(raw)), BytesIO(raw))
                for file in chosen.files:
                    with (chosen.folder / file.name).open("rb") as stream:
                        archive.addfile(_member(file.name, file.size), stream)
            digest = digest_of(fresh)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    return digest


def digest_of(path: Path) -> Digest:
    """A file's sha256."""
    with path.open("rb") as stream:
        return Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def reader(path: Path, *, now: datetime, digest: Digest | None = None) -> Callable[[Path], Sequence[Part]]:
    """What fills a folder with a file's set, for :func:`registry_pipelines.scan.importing.take`. digest: the sha256
    that the file must have. The filling raises DigestMismatch, AdvisoriesMissing (no such file, cut), LocalError."""

    def fill(folder: Path) -> Sequence[Part]:
        with local_errors(path.parent):
            found = digest_of(path) if digest else None
        if found != digest:
            raise DigestMismatch(
                f"the file has the digest {found}, not {digest}", where=path.name, do="Carry it across again"
            )
        try:
            with local_errors(path.parent), tarfile.open(path, "r:") as archive:
                return _unpacked(archive, folder, path.name, now)
        except tarfile.TarError as error:
            raise _cut(path.name, str(error)) from error

    return fill


def _unpacked(archive: tarfile.TarFile, folder: Path, where: str, now: datetime) -> Sequence[Part]:
    first = archive.next()
    stream = archive.extractfile(first) if first is not None and first.isreg() and first.name == FIRST else None
    if first is None or stream is None or first.size > MAX_DESCRIPTION_BYTES:
        raise _cut(where, f"it does not begin with {FIRST}")
    parts = Description.decode(stream.read(), where=where).parts
    for file in (file for part in parts for file in part.files):
        member = archive.next()
        named = member is not None and member.isreg() and member.name == file.name
        content = archive.extractfile(member) if member is not None and named else None
        if content is None:
            raise _cut(where, f"{file.name} is not where it should be")
        with local_errors(folder):
            _copy(content, folder / file.name, file, where)
    return not_later(parts, now)


def not_later(parts: Sequence[Part], now: datetime) -> list[Part]:
    """Parts of another machine's set: a clock there that is ahead must not keep a set young here."""
    latest = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [msgspec.structs.replace(part, complete=min(part.complete, latest)) for part in parts]


def _copy(content: IO[bytes], target: Path, file: SetFile, where: str) -> None:
    hashed = hashlib.sha256()
    with target.open("wb") as written:
        while block := content.read(BUFFER_BYTES):
            hashed.update(block)
            written.write(block)
    if hashed.hexdigest() != file.digest.hex or target.stat().st_size != file.size:
        raise DigestMismatch(
            f"{file.name} has the sha256 {hashed.hexdigest()}, its set says {file.digest.hex}",
            where=where,
            do="Carry the file across again; nothing of it is used",
        )


def _cut(where: str, why: str) -> AdvisoriesMissing:
    return AdvisoriesMissing(
        f"this is no exported advisory set, or not all of one: {why}",
        where=where,
        do="Carry it across again, or name the ecosystem of an all.zip: `advisories import PyPI=all.zip`",
    )
