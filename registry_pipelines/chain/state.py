"""Where the state of a configuration is, and how a folder's becomes that of workers who share a database."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.chain.documents import documents_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, StateLocked
from registry_pipelines.oci.files import held_alone, local_errors
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.shared.documents import MOST_BYTES, Documents, FolderDocuments
from registry_pipelines.shared.membership import Member
from registry_pipelines.shared.stored_documents import StoredDocuments


class Kept(NamedTuple):
    """Something that the state has. names: patterns of its documents, in which ``*`` goes over folders, too."""

    what: str
    names: tuple[str, ...]


DOCUMENTS = (
    Kept("retention plans", ("collect/plans/*.json", "collect/plans/*.sig", "collect/plans/*.done")),
    Kept("audit: how far logs were read", ("report/audit/cursors.json", "report/audit/explained.json")),
    Kept("audit: acknowledgements", ("report/audit/acknowledged/*.json",)),
    Kept("costs by day", ("report/cost/*.parquet",)),
    Kept("numbers by day", ("report/metrics/*.parquet", "report/metrics/*.damaged-*", "report/monitoring-last")),
    Kept("inventories", ("inventory/*.parquet",)),
    Kept("approved bases", ("bases/*.json",)),
    Kept("what registries told", ("events/*/told.json", "events/*/aside/*.json")),
    Kept("drills and fail-overs", ("recover/*.json",)),
    Kept("bundles that were made", ("bundles/near/*.json",)),
    Kept("bundles that were loaded", ("bundles/far/*.json",)),
    Kept("marks of rescans and sweeps", ("rescan/*", "sweeps/*")),
    Kept("backfills that are owed", ("infra/*/owed-backfills.json",)),
    Kept("notifications of the last hour", ("notify/sent.json",)),
)
"""Documents that are moved as they are. Files of these names are nothing else."""

AUDIT_DAYS = Kept("audit: events by day", ("report/audit/days/*.parquet",))
LINES = Kept("audit: what was told and not read yet", ("events/*.jsonl", "report/audit/received/*.jsonl"))
ADVISORIES = Kept("advisories in use", ("advisories/*.set", "advisories/shared.json"))
RELEASE_KEYS, TAGS_SEEN = "short keys of releases", "tags that were seen"

OF_THIS_MACHINE: dict[str, str] = {
    "keys": "every worker has the same, as a secret",
    "registries": "of the machine that serves them (REGISTRY_PIPELINES_SERVED_BY)",
    "layers": "cache",
    "scan": "cache",
    "build": "cache",
    "stream": "cache",
    "lazy": "of this machine's mounts",
    "wheel-sets": "cache",
    "advisories": "the set in use, and indexes of it",
    "mirror": "evidence on its way",
    "copies": "copies of documents that are read by path",
    "transfer": "spool, notes and, without a shared database, journal and receipts",
    "limits": "spent budgets, without a shared database",
    "dagster": "Dagster's own, where it has no database",
}
"""Folders of the state that stay where they are, and why."""

MOVED = "moved"
"""Where a folder's files go once they are in the database: nobody reads them there, a person may delete them."""


def shown(session: Session) -> StageResult:
    """What the state has, and where. Raises LocalError; as ``SharedState.database`` where it is shared."""
    started = time.monotonic()
    rows = list(_in_database(session) if session.shared else _in_folder(session.config.state))
    here: list[dict[str, Scalar]] = [
        {"folder": name, "bytes": _bytes(session.config.state / name), "why": why}
        for name, why in OF_THIS_MACHINE.items()
        if (session.config.state / name).is_dir()
    ]
    tables: dict[str, list[dict[str, Scalar]]] = {"of this machine": here} if session.shared else {}
    notes: list[str] = []
    if session.shared:
        members = session.shared.membership.members()
        tables["workers"] = _workers(members, session.shared.membership.name)
        tables["caches"] = _caches(session)
        notes = [*session.shared.membership.notes, *_ended(members)]
        waiting = len(list(_files(session.config.state)))
        if waiting:
            notes.append(
                f"{count_text(waiting, 'file')} of before the database lie in {session.config.state}, and are not "
                "read: `registry-pipelines state move --to-shared` brings them in"
            )
    where = documents_of(session.config).where
    return StageResult(
        stage="state",
        subject=where,
        action="shared by workers" if session.shared else "in a folder of this machine",
        seconds=time.monotonic() - started,
        facts={
            "where": where,
            "shared": session.shared is not None,
            "folder": str(session.config.state),
            "bytes": sum(int(row["bytes"]) for row in rows),
        },
        rows=rows,
        tables=tables,
        notes=notes,
    )


def _workers(members: Sequence[Member], mine: str) -> list[dict[str, Scalar]]:
    """Those that are at work. mine: the name of this process."""
    return [
        {
            "worker": each.host,
            "process": each.process,
            "build": each.build,
            "clock_s": round(each.clock_s, 1),
            "self": each.name == mine,
        }
        for each in members
        if each.alive
    ]


def _ended(members: Sequence[Member]) -> Iterator[str]:
    """A line for those that are not. Each restart of a container, each command leaves one for a day: as rows they would
    hide who works."""
    if ended := [each for each in members if not each.alive]:
        last = ended[0]
        yield (
            f"{count_text(len(ended), 'worker')} ended within a day, or gave no sign of life; {last} was the last, at "
            f"{write_time(datetime.fromtimestamp(last.seen, UTC))}"
        )


def _caches(session: Session) -> list[dict[str, Scalar]]:
    """What workers keep for each other to save time, by kind and format."""
    assert session.shared is not None  # noqa: S101  for mypy
    from registry_pipelines.shared.cache_rows import counted

    return [
        {
            "kind": each.kind,
            "entries": each.entries,
            "bytes": each.stored,
            "in_store": each.apart,
            "oldest_unused_h": round(each.unused_s / 3600, 1),
        }
        for each in counted(session.shared.caches.database())
    ]


def _in_folder(state: Path) -> Iterator[dict[str, Scalar]]:
    for kept in (*DOCUMENTS, AUDIT_DAYS, LINES):
        paths = [path for each in kept.names for path in _matching(state, each)]
        yield _row(kept.what, len(paths), sum(_size(path) for path in paths))
    for what, path in ((RELEASE_KEYS, state / "release-keys.sqlite"), (TAGS_SEEN, state / "collect" / "seen.sqlite")):
        yield _row(what, int(path.exists()), _size(path))


def _in_database(session: Session) -> Iterator[dict[str, Scalar]]:
    assert session.shared is not None  # noqa: S101  for mypy
    from registry_pipelines.chain.release_keys import ReleaseKeys
    from registry_pipelines.collect.seen import count_seen

    documents = documents_of(session.config)
    every = documents.every() if isinstance(documents, StoredDocuments) else []
    for kept in (*DOCUMENTS, AUDIT_DAYS, LINES, ADVISORIES):
        mine = [each for each in every if any(fnmatchcase(each.name, name) for name in kept.names)]
        yield _row(kept.what, len(mine), sum(each.size for each in mine))
    yield _row(RELEASE_KEYS, len(ReleaseKeys.of(session.config).every()), 0)
    yield _row(TAGS_SEEN, count_seen(session.shared.database), 0)


def _row(what: str, count: int, size: int) -> dict[str, Scalar]:
    return {"what": what, "items": count, "bytes": size}


def _matching(state: Path, pattern: str) -> list[Path]:
    """Files of a pattern, the oldest first: the order in which receipts came is kept. What begins with a dot is on its
    way, and no document."""
    root = state / pattern.partition("*")[0].rpartition("/")[0]
    with local_errors(state):
        found = [path for path in (root.rglob("*") if root.is_dir() else ()) if path.is_file()]
        named = [path for path in found if not path.name.startswith(".") and path.suffix != ".lock"]
        return sorted(
            (path for path in named if fnmatchcase(str(path.relative_to(state)), pattern)),
            key=lambda path: (path.stat().st_mtime_ns, path.name),
        )


def _files(state: Path) -> Iterator[tuple[str, str, Path]]:
    """What is to be moved: what it is, its name, the file."""
    for kept in (*DOCUMENTS, AUDIT_DAYS, LINES):
        for pattern in kept.names:
            for path in _matching(state, pattern):
                yield kept.what, str(path.relative_to(state)), path
    for what, name in ((RELEASE_KEYS, "release-keys.sqlite"), (TAGS_SEEN, "collect/seen.sqlite")):
        if (state / name).is_file():
            yield what, name, state / name


def moved(session: Session, *, dry: bool = False) -> StageResult:
    """Bring what the state folder has into the database that workers share, and put each file aside once it is there.
    Killed and called again it does the rest. A document that workers have with another content stays as they have it,
    and the file where it is: not ``ok``. A file that somebody writes meanwhile is brought in as he left it. Raises
    InputError (nothing is shared), StateLocked (another does it, or still works in the folder)."""
    if session.shared is None:
        raise InputError(
            "the configuration shares no state",
            do="Name a database in `shared.database`, or in REGISTRY_PIPELINES_DATABASE (docs/state.md)",
        )
    started, state = time.monotonic(), session.config.state
    documents = documents_of(session.config)
    counts: dict[tuple[str, str], list[int]] = {}
    differs: list[str] = []
    with documents.held("state/move", "another process brings a state folder in"), _nobody_works_in(state):
        for what, name, path in list(_files(state)):
            size = _size(path)
            became = "to be moved" if dry else _move_and_put_aside(session, documents, what, name, path)
            if became == DIFFERS:
                differs.append(name)
            told = counts.setdefault((what, became), [0, 0])
            told[0] += 1
            told[1] += size
        shared = False if dry else _move_advisories(session)
    rows: list[dict[str, Scalar]] = [
        {"what": what, "became": became, "items": count, "bytes": size}
        for (what, became), (count, size) in counts.items()
    ]
    taken = [each for (_, became), each in counts.items() if became != DIFFERS]
    count, size = sum(each[0] for each in taken), sum(each[1] for each in taken)
    done = f"{count_text(count, 'file')}, {size_text(size)}" if count else "nothing"
    left = f"; {count_text(len(differs), 'file')} left" if differs else ""
    return StageResult(
        stage="state:move",
        subject=documents.where,
        action=f"{done} to be moved" if dry else f"{done} moved{left}" if count or left else "unchanged",
        changed=not dry and (count > 0 or shared),
        seconds=time.monotonic() - started,
        facts={"items": count, "bytes": size, "differ": len(differs), "advisories": shared},
        rows=rows,
        reasons=[f"{name} is there with another content, which workers use; the file stays" for name in differs[:20]],
        next_steps=["Look at what differs, and delete the files that are not wanted"] if differs else [],
        notes=[] if dry or not count else [f"the files lie in {state / MOVED}, where nobody reads them: delete them"],
        ok=not differs,
        exit_code=StateLocked.exit_code if differs else 0,
    )


MOVED_NOW, THERE, ADDED, DIFFERS = "moved", "there before", "added to what is there", "differs: left"


@contextmanager
def _nobody_works_in(state: Path) -> Iterator[None]:
    """Hold the locks of the folder: a command that began before the database was named goes on writing here. Raises
    StateLocked."""
    names = [pattern for kept in (*DOCUMENTS, AUDIT_DAYS, LINES) for pattern in kept.names]
    roots = sorted({name.partition("/")[0] for name in names})
    with ExitStack() as stack:
        for root in roots:
            for path in sorted((state / root).rglob("*lock")):
                if path.is_file() and (path.suffix == ".lock" or path.name == "lock"):
                    what = f"another process works in the folder, and holds {path.relative_to(state)}"
                    stack.enter_context(held_alone(path, what, do="Wait for it, or end it, then move the state"))
        yield


def _move_and_put_aside(session: Session, documents: Documents, what: str, name: str, path: Path) -> str:
    """What became of one file. What was written into it until it was put aside is brought in after."""
    state, before = session.config.state, _digest(path)
    became = _move(session, documents, what, name, path)
    if became == DIFFERS:
        return DIFFERS
    aside = _put_aside(state, name, path)
    if _digest(aside) != before and (became := _move(session, documents, what, name, aside)) == DIFFERS:
        with local_errors(path), suppress(FileExistsError):  # yet another one lies there: this one stays put aside
            path.hardlink_to(aside)
            aside.unlink()
    return became


def _digest(path: Path) -> str:
    with local_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(session: Session, documents: Documents, what: str, name: str, path: Path) -> str:
    """What became of one file."""
    if what == RELEASE_KEYS:
        return _move_keys(session, path)
    if what == TAGS_SEEN:
        return _move_seen(session, path)
    if what == AUDIT_DAYS.what:
        return _move_day(session, path)
    with local_errors(path):
        content = path.read_bytes()
    if what == LINES.what:
        from registry_pipelines.events.kept_lines import lines_of

        folder, _, file = name.rpartition("/")
        stem = "audit" if file.startswith("audit") else "notifications"
        lines_of(documents.under(folder), stem).add(content)
        return ADDED
    if documents.replace(name, content, ""):
        return MOVED_NOW
    there = documents.read(name, most=MOST_BYTES)
    return THERE if there and there.content == content else DIFFERS


def _move_keys(session: Session, path: Path) -> str:
    """In the order they were given, so that the same releases have the shorter ones."""
    from registry_pipelines.chain.release_keys import ReleaseKeys

    known = ReleaseKeys(path.parent).every()
    given = ReleaseKeys.of(session.config).name(known.values())
    return MOVED_NOW if all(given[release] == key for key, release in known.items()) else ADDED


def _move_seen(session: Session, path: Path) -> str:
    from registry_pipelines.collect.seen import move_seen

    assert session.shared is not None  # noqa: S101  for mypy
    move_seen(path, session.shared.database)
    return ADDED


def _move_day(session: Session, path: Path) -> str:
    from registry_pipelines.report.audit.store import AuditStore

    day = datetime.strptime(path.stem, "%Y-%m-%d").replace(tzinfo=UTC)
    here = AuditStore(FolderDocuments(path.parents[1]))
    there = AuditStore(documents_of(session.config).under("report/audit"))
    there.add(here.events(since=day, until=day + timedelta(days=1)))
    return ADDED


def _move_advisories(session: Session) -> bool:
    """The set of this folder, where workers use none yet."""
    from registry_pipelines.chain.shared_advisories import CURRENT, publish

    if documents_of(session.config).read(f"advisories/{CURRENT}") is not None:
        return False
    return publish(session.config)


def _put_aside(state: Path, name: str, path: Path) -> Path:
    target = state / MOVED / name
    with local_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    return target


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _bytes(folder: Path) -> int:
    return sum(_size(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


__all__ = ["moved", "shown"]
