"""Make the next advisory set from the export.

Nothing is in use before all of it is there, was read once and indexed; then one rename makes it the set in use. What
an interrupted update had brought lies in ``advisories/partial`` and is gone on with.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from registry_pipelines.errors import AdvisoriesMissing, InputError, RegistryError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.advisory_sets import (
    AdvisorySet,
    Part,
    Piece,
    changing,
    described_file,
    file_name,
    folder_of,
    named_set,
    put_in_place,
    use,
)
from registry_pipelines.scan.components import INTERPRETER_ECOSYSTEM
from registry_pipelines.scan.feed import Feed
from registry_pipelines.scan.listings import (
    Times,
    changed_since,
    malicious_in,
    newest_of,
    read_archive,
    read_head,
    read_listing,
    write_listing,
)
from registry_pipelines.scan.osv import MAX_RECORD_BYTES
from registry_pipelines.scan.versions import DERIVED
from registry_pipelines.settings import ECOSYSTEM
from registry_pipelines.threads import Pool

MAX_SINGLES = 1000
"""Records that are fetched one by one since the last ``all.zip``; with more of them the archive is fetched again. One
costs a request, and PyPI changes some 50 a day."""

MAX_LATE = 20_000
"""Records that an ``all.zip`` just fetched may lack of what the list names: both are written one after the other, and
archives that lack some are known (google/osv.dev#2575). With more the export itself is broken."""

THREADS = 8
"""Single records at once; each is one small request."""

MAX_ECOSYSTEMS_BYTES = 1024 * 1024

_SILENT = Silent()

IMPORT = "registry-pipelines advisories import"


@dataclass
class Updated:
    """What became of the sets."""

    set: AdvisorySet
    changed: bool
    """Whether another set is in use than before."""
    fetched: dict[str, str] = field(default_factory=dict)
    """For each ecosystem what was fetched, in words: ``all.zip``, ``3 records``, ``unchanged``."""
    notes: list[str] = field(default_factory=list)
    """What could not be had."""


def update(feed: Feed, ecosystems: Collection[str], state: Path, *, now: datetime, progress: Progress) -> Updated:
    """Bring the set up to date: these ecosystems, and all that it has already.

    ecosystems: OSV's names; of a distribution its release does not matter. now: the clock's time, aware. Raises
    RegistryError with the files to fetch by hand, AdvisoriesMissing (the export has none of them, or is damaged),
    DigestMismatch, InputError (no ecosystem is named), StateLocked, DiskFull, LocalError.
    """
    with changing(state) as partial:
        old, names = before(state)
        named = {*map(folder_of, ecosystems), *names} - {"", DERIVED}
        wanted = sorted(name for name in named if re.fullmatch(ECOSYSTEM.expression, name))
        if not wanted:
            raise InputError(
                "no ecosystem is named, and no SBOM that is stored names one",
                do="Scan a release first, or name them: `--ecosystem PyPI --ecosystem Debian`",
            )
        updater = _Updater(feed, old, partial, now, progress)
        try:
            offered = updater.offered()
            pieces = [piece for name in wanted if (piece := updater.piece(name, offered)) is not None]
        except RegistryError as error:
            error.do = ". ".join(filter(None, (error.do, _by_hand(feed, wanted))))
            raise
        if not pieces:
            raise AdvisoriesMissing(
                f"the export has nothing for {', '.join(wanted)}",
                where=feed.url,
                do="Check the names of the ecosystems",
            )
        derived = old.description.parts if old else ()
        pieces += [Piece(part, old.folder) for part in derived if part.ecosystem == DERIVED and old]
        done = finish(state, pieces, now=now, old=old, progress=progress)
        odd = [f"{name[:80]!r} is no name of an ecosystem" for name in sorted(named - set(wanted))]
        done.fetched, done.notes = updater.fetched, [*updater.notes, *odd]
        return done


def before(state: Path) -> tuple[AdvisorySet | None, set[str]]:
    """The set in use, None for a damaged one, whose files are all fetched again; and its ecosystems."""
    try:
        named = named_set(state)
    except AdvisoriesMissing:
        return None, set()
    names = {part.ecosystem for part in named.description.parts} if named else set()
    return (named if named and named.is_whole() else None), names


def finish(
    state: Path,
    pieces: Sequence[Piece],
    *,
    now: datetime,
    old: AdvisorySet | None,
    progress: Progress = _SILENT,
) -> Updated:
    """Put the set in place, index it, and only then use it."""
    made = put_in_place(state, pieces, now=now, old=old)
    progress.begin("index of the records")
    AdvisoryStore.load(made.folder, state).close()
    progress.end("index of the records")
    use(state, made)
    return Updated(made, changed=old is None or old.folder != made.folder)


class _Updater:
    """One update. fetched, notes: see :class:`Updated`."""

    def __init__(self, feed: Feed, old: AdvisorySet | None, partial: Path, now: datetime, progress: Progress) -> None:
        self._feed, self._old, self._partial, self._progress = feed, old, partial, progress
        self._now = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.fetched: dict[str, str] = {}
        self.notes: list[str] = []

    def offered(self) -> set[str] | None:
        """The export's ecosystems; None where it keeps no list of them."""
        raw = self._feed.read("ecosystems.txt", MAX_ECOSYSTEMS_BYTES)
        return None if raw is None else {folder_of(line.strip()) for line in raw.decode(errors="replace").splitlines()}

    def piece(self, ecosystem: str, offered: set[str] | None) -> Piece | None:
        """The ecosystem as the export has it now; as it was where the export has none, None without either."""
        old = self._old.part(ecosystem) if self._old else None
        folder = self._partial / file_name(ecosystem, "")
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        piece = None
        if offered is None or ecosystem in offered:
            listed = self._listed(ecosystem, folder)
            piece = self._continued(ecosystem, folder, old, listed) if old else None
            piece = piece or self._whole(ecosystem, folder, listed)
        if piece is not None:
            return piece
        kept = f"; kept as of {old.complete}" if old else ""
        self.notes.append(f"the export has nothing for {_explained(ecosystem)}{kept}")
        return Piece(old, self._old.folder) if old and self._old else None

    def _listed(self, ecosystem: str, folder: Path) -> Times | None:
        """What the export lists just now; None where it keeps no list."""
        path = folder / "listed.csv"
        for leftover in folder.glob("listed.csv*"):
            leftover.unlink()
        if self._feed.download(f"{ecosystem}/modified_id.csv", path, self._progress) is None:
            return None
        with local_errors(folder):
            return read_listing(path) or None

    def _continued(self, ecosystem: str, folder: Path, old: Part, listed: Times | None) -> Piece | None:
        """The old part and what changed since; None where the archive must be fetched."""
        assert self._old is not None  # noqa: S101 - it has the part
        files = [self._old.folder / file.name for file in old.files]
        if listed is None:
            if not old.etag or not self._feed.is_still(f"{ecosystem}/all.zip", old.etag):
                return None
            self.fetched[ecosystem] = "unchanged"
            times = _held(files)
            return piece_of(ecosystem, files, times, complete=self._now, origin=self._feed.url, etag=old.etag)
        held = _held(files)
        changed = changed_since(held, listed)
        if held.keys() - listed.keys() or old.singles + len(changed) > MAX_SINGLES:
            return None
        return self._with_singles(ecosystem, folder, files, held, listed, changed, before=old.singles)

    def _whole(self, ecosystem: str, folder: Path, listed: Times | None) -> Piece | None:
        """The archive, and what the list names and it lacks; None where the export has none."""
        archive = folder / file_name(ecosystem, ".zip")
        held, changed, etag = self._left_behind(archive, listed), list[str](), ""
        if held is None:
            found = self._feed.download(f"{ecosystem}/all.zip", archive, self._progress)
            if found is None:
                return None
            self._progress.begin(f"{archive.name} is checked")
            held, etag = _read_or_removed(archive), found
            self._progress.end(f"{archive.name} is checked")
        self.fetched[ecosystem] = "all.zip"
        if listed is None:
            return piece_of(ecosystem, [archive], held, complete=self._now, origin=self._feed.url, etag=etag)
        changed = changed_since(held, listed)
        if len(changed) > MAX_LATE:
            archive.unlink()
            raise AdvisoriesMissing(
                f"the export lists {count_text(len(changed), 'record')} that its all.zip lacks",
                where=self._feed.address(f"{ecosystem}/all.zip"),
                do="Run it again later: the export is being written, or is broken",
            )
        return self._with_singles(ecosystem, folder, [archive], held, listed, changed, before=0)

    def _left_behind(self, archive: Path, listed: Times | None) -> Times | None:
        """What the archive holds that an interrupted run brought whole; None where it is to be fetched."""
        if listed is None or not archive.exists():
            return None
        held = _read_or_removed(archive)
        late = len(changed_since(held, listed)) > MAX_SINGLES
        return None if late or held.keys() - listed.keys() else held

    def _with_singles(
        self,
        ecosystem: str,
        folder: Path,
        files: Sequence[Path],
        held: Mapping[str, str],
        listed: Times,
        changed: Sequence[str],
        *,
        before: int,
    ) -> Piece:
        records = folder / "records"
        with local_errors(folder):
            records.mkdir(exist_ok=True)
        fetched = self._singles(ecosystem, records, changed, listed)
        missing = tuple(sorted(set(changed) - fetched.keys()))
        times = {name: listed[name] for name in listed if name not in missing} | {
            name: held[name] for name in missing if name in held
        }
        archives = [path for path in files if path.suffix == ".zip"]
        with local_errors(folder):
            if fetched:
                target = folder / file_name(ecosystem, ".changes.zip")
                _add(target, [path for path in archives if path.name == target.name], fetched)
                archives = [*(path for path in archives if path.name != target.name), target]
            listing = folder / file_name(ecosystem, ".csv")
            write_listing(listing, times)
        if ecosystem not in self.fetched:
            self.fetched[ecosystem] = count_text(len(fetched), "record") if fetched else "unchanged"
        elif fetched:
            self.fetched[ecosystem] += f", {count_text(len(fetched), 'record')}"
        if missing:
            named = ", ".join(missing[:5])
            self.notes.append(f"{ecosystem}: {count_text(len(missing), 'record')} listed and not to be had: {named}")
        return piece_of(
            ecosystem,
            [*archives, listing],
            times,
            complete=self._now,
            origin=self._feed.url,
            singles=before + len(fetched),
            missing=missing,
        )

    def _singles(self, ecosystem: str, folder: Path, names: Sequence[str], listed: Times) -> dict[str, Path]:
        """Fetch records one by one, those that an interrupted run brought aside; each with its file, without those that
        are not there, or in an older edition than the list says."""

        def fetch(name: str) -> Path | None:
            path = folder / f"{name}.json"
            if path.exists() and not _is_older(path.read_bytes(), name, listed[name]):
                return path
            raw = self._feed.read(f"{ecosystem}/{name}.json", MAX_RECORD_BYTES)
            if raw is None or _is_older(raw, name, listed[name]):
                return None
            write_file(path, raw)
            return path

        with local_errors(folder), Pool(THREADS, "advisories") as pool:
            paths = list(pool.map(fetch, names))
        return {name: path for name, path in zip(names, paths, strict=True) if path is not None}


def _held(files: Sequence[Path]) -> Times:
    """What the files of a part hold: their list, else what the archive says itself."""
    listings = [path for path in files if path.suffix == ".csv"]
    return (
        read_listing(listings[0]) if listings else read_archive(next(path for path in files if path.suffix == ".zip"))
    )


def _is_older(raw: bytes, name: str, listed: str) -> bool:
    head = read_head(raw)
    return head is None or head.id != name or bool(changed_since({name: head.modified}, {name: listed}))


def _add(target: Path, before: Iterable[Path], records: Mapping[str, Path]) -> None:
    """An archive of the records that earlier ones hold and of these, the newer ones."""
    fresh = target.with_name(f"{target.name}.new")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in before:
            with zipfile.ZipFile(path) as earlier:
                for member in earlier.infolist():
                    if member.filename.removesuffix(".json") not in records:
                        archive.writestr(member, earlier.read(member))
        for name, path in sorted(records.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}.json"), path.read_bytes(), zipfile.ZIP_DEFLATED)
    fresh.replace(target)


def _read_or_removed(archive: Path) -> Times:
    """A damaged archive is fetched again by the next run."""
    try:
        return read_archive(archive)
    except AdvisoriesMissing:
        archive.unlink()
        raise


def piece_of(
    ecosystem: str,
    files: Sequence[Path],
    times: Times,
    *,
    complete: str,
    origin: str,
    etag: str = "",
    singles: int = 0,
    missing: tuple[str, ...] = (),
) -> Piece:
    """A part of these files, which hold ``times``; the other arguments are fields of :class:`Part`."""
    with local_errors(files[0].parent):
        part = Part(
            ecosystem=ecosystem,
            files=tuple(map(described_file, files)),
            records=len(times),
            malicious=malicious_in(times),
            newest=newest_of(times),
            complete=complete,
            origin=origin,
            etag=etag,
            singles=singles,
            missing=missing,
        )
    return Piece(part, files[0].parent, {path.name: path for path in files})


def _explained(ecosystem: str) -> str:
    """The name, with what it is wanted for where SBOMs name it and hardly anybody knows it."""
    return f"{ecosystem}, which has the records of CPython itself" if ecosystem == INTERPRETER_ECOSYSTEM else ecosystem


def _by_hand(feed: Feed, ecosystems: Sequence[str]) -> str:
    files = {name: f"{file_name(name, '-all.zip')}" for name in ecosystems}
    addresses = ", ".join(
        f"{feed.address(f'{name}/all.zip')} (save it as {file}{_explained(name).removeprefix(name)})"
        for name, file in files.items()
    )
    command = " ".join(
        [IMPORT, *(f"'{name}={file}'" if " " in name else f"{name}={file}" for name, file in files.items())]
    )
    return (
        f"Run it again: it goes on where it was. Or fetch by hand, where the host can be reached: {addresses}; "
        f"then run `{command}`"
    )
