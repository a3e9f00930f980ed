"""Advisories derived from Debian's changelogs, for where Debian's own cannot be had.

For each source package that images hold and of which the security suite has a newer version, the changelog in the newer
package says which CVEs were mended in which version: of several entries that name one the oldest counts. That is no
security tracker: 67 % of its versions are Debian's, 13 % differ, 20 % are missing (217 pairs of Debian 11's notices),
and what nobody has mended is never in it. So these records are labelled: their ids begin with ``DERIVED-``, they speak
of the ecosystem ``Debian derived:12``, and they cover nothing: what only they speak of stays uncovered. One record for
each source says that the security suite has a newer version; that has no gap.

What a mirror gives is held against the hashes in its index of packages. Nobody's signature is checked: whoever keeps
the mirror can leave records out, and then a package is as uncovered as without them.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.errors import AdvisoriesMissing, ContentError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import Progress, count_text
from registry_pipelines.scan.advisory_sets import Piece, changing, file_name, root_of
from registry_pipelines.scan.deb_changelog import Change, changelog_of, read_changes
from registry_pipelines.scan.feed import Feed
from registry_pipelines.scan.os_databases import read_stanzas
from registry_pipelines.scan.updating import Updated, before, finish, piece_of
from registry_pipelines.scan.versions import DERIVED, DERIVED_ID, parse_version

CODENAMES: Mapping[str, str] = {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}
"""Debian's releases, whose security suites are named after them."""

UPDATE_ID = f"{DERIVED_ID}UPDATE-"

MAX_INDEX_BYTES = 256 * 1024 * 1024
"""Unpacked; that of one security suite has some 10 MB."""
MAX_PACKAGE_BYTES = 256 * 1024 * 1024
"""Of each source the smallest packages are read; none of Debian's is larger."""
TRIES = 3
"""Packages of a source that are looked into: a documentation folder may be a link into another package."""

_COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
_SOURCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]{0,127})(?: \(([^()\s]{1,128})\))?\Z")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._~%/-]{0,300}\.deb\Z")


@dataclass(frozen=True)
class Held:
    """A source package that images hold. version: the lowest of its versions there. release: ``12``."""

    release: str
    source: str
    version: str


@dataclass(frozen=True)
class _Package:
    name: str
    path: str
    size: int
    sha256: str


@dataclass
class _Newer:
    """What a security suite has of a source."""

    version: str
    packages: list[_Package]


def derive(feed: Feed, held: Iterable[Held], state: Path, *, now: datetime, progress: Progress) -> Updated:
    """Make the derived part of the advisory set anew, for the sources that images hold; the other parts stay.

    feed: a mirror of Debian's security archive. Changelogs are kept in the state folder: files of the archive vanish.
    Where nothing newer is there any more the part is gone. Raises AdvisoriesMissing (the mirror has no such suite, or
    there would be no part at all), RegistryError, ContentError, StateLocked, DiskFull, LocalError.
    """
    with changing(state) as partial:
        old, _ = before(state)
        deriver = _Deriver(feed, root_of(state) / "changelogs", partial, progress)
        records = deriver.records(sorted(held, key=lambda each: (each.release, each.source)), now)
        kept = [part for part in (old.description.parts if old else ()) if part.ecosystem != DERIVED]
        there = [Piece(part, old.folder) for part in kept] if old else []
        if not deriver.suites or not (records or there):
            raise AdvisoriesMissing(
                "; ".join(deriver.notes) or "the security suite has nothing newer than what the images hold",
                where=feed.url,
                do="Nothing was changed",
            )
        if not records:
            done = finish(state, there, now=now, old=old, progress=progress)
            done.notes = [*deriver.notes, "the security suite has nothing newer than what the images hold"]
            done.fetched = {part.ecosystem: "kept" for part in kept}
            return done
        archive = partial / file_name(DERIVED, "") / file_name(DERIVED, ".zip")
        with local_errors(partial):
            archive.parent.mkdir(parents=True, exist_ok=True)
            _write(archive, records)
        times = {str(record["id"]): str(record["modified"]) for record in records}
        complete = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        piece = piece_of(DERIVED, [archive], times, complete=complete, origin=feed.url)
        done = finish(state, [piece, *there], now=now, old=old, progress=progress)
        done.fetched = {part.ecosystem: "kept" for part in kept}
        done.fetched[DERIVED] = count_text(deriver.read, "changelog")
        done.notes = deriver.notes
        return done


class _Deriver:
    def __init__(self, feed: Feed, kept: Path, partial: Path, progress: Progress) -> None:
        self._feed, self._kept, self._partial, self._progress = feed, kept, partial, progress
        self.notes: list[str] = []
        self.read = self.suites = 0

    def records(self, held: list[Held], now: datetime) -> list[dict[str, Any]]:
        """Records by id. One CVE of several sources and releases is one record."""
        affected: dict[str, list[dict[str, Any]]] = {}
        modified: dict[str, str] = {}
        for release in dict.fromkeys(each.release for each in held):
            suite = self._suite(release)
            for one in (each for each in held if each.release == release):
                newer = suite.get(one.source)
                if newer is None or not _is_above(newer.version, one.version):
                    continue
                changes = self._changes(one, newer)
                for name, version, time in _fixes(one.source, newer.version, changes):
                    affected.setdefault(name, []).append(_entry(release, one.source, version))
                    today = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                    modified[name] = max(modified.get(name, ""), min(time or today, today))
        return [_record(name, affected[name], modified[name]) for name in sorted(affected)]

    def _suite(self, release: str) -> dict[str, _Newer]:
        codename = CODENAMES.get(release)
        if codename is None:
            self.notes.append(f"Debian {release} is none of {', '.join(CODENAMES)}: nothing is derived for it")
            return {}
        found: dict[str, _Newer] = {}
        seen = False
        for component in _COMPONENTS:
            folder = f"dists/{codename}-security/{component}/binary-amd64"
            raw = self._feed.read(f"{folder}/Packages.xz", MAX_INDEX_BYTES)
            if raw is None:
                continue
            seen = True
            _add(found, read_stanzas(_unpacked(raw, folder)))
        self.suites += seen
        if not seen:
            self.notes.append(f"the mirror has no {codename}-security: nothing is derived for Debian {release}")
        return found

    def _changes(self, held: Held, newer: _Newer) -> list[Change]:
        """The changelog of the newer package, from what was kept or the mirror; empty, and said, where none can be
        read."""
        kept = self._kept / f"{held.source}_{newer.version.replace(':', '%3a')}.gz"
        why = "no package of it has a changelog"
        try:
            text = gzip.decompress(kept.read_bytes()).decode()
        except (OSError, EOFError, UnicodeDecodeError, ValueError):
            text = ""
            for package in sorted(newer.packages, key=lambda each: (each.size, each.name))[:TRIES]:
                try:
                    text = self._changelog(package, held.source)
                except ContentError as error:
                    why = error.what
                if text:
                    break
            if text:
                with local_errors(self._kept):
                    self._kept.mkdir(parents=True, exist_ok=True)
                    write_file(kept, gzip.compress(text.encode(), mtime=0), lasting=False)
        if not text:
            self.notes.append(f"{held.source} {newer.version}: {why}; only that it is newer is known")
            return []
        self.read += 1
        return read_changes(text)

    def _changelog(self, package: _Package, source: str) -> str:
        if package.size > MAX_PACKAGE_BYTES:
            return ""
        path = self._partial / "package.deb"
        path.unlink(missing_ok=True)
        try:
            if self._feed.download(package.path, path, self._progress) is None:
                raise ContentError("its package is not there any more", where=package.path)
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != package.sha256:
                    raise ContentError("its package is not the one that the index names", where=package.path)
                file.seek(0)
                return changelog_of(file, source, where=package.path)
        finally:
            path.unlink(missing_ok=True)


def _add(found: dict[str, _Newer], stanzas: Iterator[dict[str, str]]) -> None:
    """The newest version of each source, and its packages."""
    for fields in stanzas:
        source = _SOURCE.match(fields.get("source") or fields.get("package", ""))
        path, size, sha256 = fields.get("filename", ""), fields.get("size", ""), fields.get("sha256", "")
        if source is None or not _FILE.match(path) or ".." in path or not size.isdigit():
            continue
        version = source[2] or fields.get("version", "")
        package = _Package(fields.get("package", ""), path, int(size), sha256)
        known = found.get(source[1])
        if known is None or _is_above(version, known.version):
            found[source[1]] = _Newer(version, [package])
        elif version == known.version:
            known.packages.append(package)


def _is_above(version: str, other: str) -> bool:
    one, two = parse_version("Debian", version), parse_version("Debian", other)
    return one is not None and two is not None and bool(one > two)


def _unpacked(raw: bytes, where: str) -> bytes:
    try:
        text = lzma.LZMADecompressor(memlimit=128 * 1024 * 1024).decompress(raw, max_length=MAX_INDEX_BYTES + 1)
    except lzma.LZMAError as error:
        raise ContentError(f"the index of packages is damaged: {error}", where=where) from error
    if len(text) > MAX_INDEX_BYTES:
        raise ContentError(f"the index of packages has more than {MAX_INDEX_BYTES} bytes", where=where)
    return text


def _fixes(source: str, newest: str, changes: Iterable[Change]) -> Iterator[tuple[str, str, str]]:
    """Record id, version and time of each CVE, by the oldest entry that names it; last, that there is a newer one."""
    latest = ""
    oldest: dict[str, tuple[str, str]] = {}
    for change in changes:
        if change.source == source and parse_version("Debian", change.version) is not None:
            latest = latest or change.time
            oldest |= dict.fromkeys(change.cves, (change.version, change.time))
    for cve, (version, time) in oldest.items():
        yield f"{DERIVED_ID}{cve}", version, time
    yield f"{UPDATE_ID}{source.replace('+', '_')}", newest, latest


def _entry(release: str, source: str, version: str) -> dict[str, Any]:
    return {
        "package": {"ecosystem": f"{DERIVED}:{release}", "name": source},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": version}]}],
    }


def _record(name: str, affected: list[dict[str, Any]], modified: str) -> dict[str, Any]:
    sources = ", ".join(dict.fromkeys(entry["package"]["name"] for entry in affected))
    is_update = name.startswith(UPDATE_ID)
    what = (
        f"the security suite has a newer version of {sources}" if is_update else f"named in the changelog of {sources}"
    )
    return {
        "id": name,
        "modified": modified,
        "schema_version": "1.7.0",
        "summary": f"Derived, not published by Debian: {what}",
        "affected": affected,
        **({} if is_update else {"upstream": [name.removeprefix(DERIVED_ID)]}),
    }


def _write(archive: Path, records: Iterable[dict[str, Any]]) -> None:
    """The same records always give the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for record in records:
            file.writestr(zipfile.ZipInfo(f"{record['id']}.json"), msgspec.json.encode(record), zipfile.ZIP_DEFLATED)
