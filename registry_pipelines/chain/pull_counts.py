"""How often images were pulled: by a file that somebody gives, by the events that the audit keeps, or by CloudWatch.

The first of these that knows a registry counts. What none knows is told, and is never 0.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.audit import store_of, was_read
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.progress import count_text
from registry_pipelines.registry.ecr.pull_counts import pull_counts

if TYPE_CHECKING:
    from registry_pipelines.report.audit.store import AuditStore

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Of a file of pulls."""
MOST_PULLS = 1e12
"""Of one line: a million pulls a second for ten days."""
FIELDS = ("registry", "repository", "pulls", "digest", "tag", "edge")
_NEEDED = ("registry", "repository", "pulls")


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Pulls of one repository, or of one image of it. pulls: None where they are not known (``why``). given_bytes: of
    all of them together, where a log has it. source: who counted."""

    registry: str
    repository: str
    pulls: float | None
    source: str
    digest: str = ""
    tag: str = ""
    edge: str = ""
    given_bytes: int | None = None
    why: str = ""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted. days: of which it is, by registry where it is not what was asked for. failed: sources that did
    not answer, a sentence each."""

    counted: tuple[Counted, ...] = ()
    days: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def count_pulls(session: Session, registries: Sequence[str], *, days: int, file: Path | None = None) -> Counts:
    """The pulls of registries in the last days. file: see :func:`read_pulls`. Raises InputError for a file that is
    none, or days that cannot be."""
    if days <= 0:
        raise InputError(f"nothing is pulled in {count_text(days, 'day')}", do="Give a number of days, as 30")
    counted = [each for each in (read_pulls(file) if file else ()) if each.registry in registries]
    told = {each.registry for each in counted}
    dates: dict[str, float] = {}
    notes: list[str] = []
    failed: list[str] = []
    for name in (each for each in registries if each not in told):
        by_events = _by_events(session, name, days)
        if by_events is not None:
            mine, of_days = by_events
            counted += mine
            if of_days < days:
                dates[name] = of_days
                notes.append(f"{name}: events are kept of the last {of_days:.1f} d, and not of {days} d")
        elif session.config.registries[name].kind == "ecr":
            try:
                counted += _by_cloudwatch(session, name, days)
            except RegistryPipelinesError as error:
                failed.append(f"{name}: {error}")
                counted.append(_unknown(name, "CloudWatch did not answer"))
        else:
            why = "nothing counts its pulls: give --pulls, or have its log read (`report audit`)"
            counted.append(_unknown(name, why))
    return Counts(counted=tuple(counted), days=dates, notes=tuple(notes), failed=tuple(failed))


def _unknown(registry: str, why: str) -> Counted:
    return Counted(registry=registry, repository="*", pulls=None, source="", why=why)


def read_pulls(path: Path) -> list[Counted]:
    """Pulls that somebody counted, as CSV with a line of names: ``registry,repository,pulls`` and, where it is known,
    ``digest``, ``tag`` and ``edge``. Raises InputError with the line that is wrong."""
    try:
        with path.open("rb") as raw:
            text = raw.read(MAX_FILE_BYTES + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"cannot be read: {what}", where=str(path)) from error
    if len(text) > MAX_FILE_BYTES:
        raise InputError("the file of pulls is larger than 64 MiB", where=str(path))
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        names = reader.fieldnames or ()
        wrong = [each for each in names if each not in FIELDS]
        missing = [each for each in _NEEDED if each not in names]
        if wrong or missing:
            what = f"it has no column {missing[0]}" if missing else f"it has a column {wrong[0]!r}"
            raise InputError(what, where=str(path), do=f"Write a first line with names of: {', '.join(FIELDS)}")
        return [_read_line(row, f"{path}:{reader.line_num}") for row in reader]
    except csv.Error as error:
        raise InputError(f"it is no CSV: {error}", where=f"{path}:{reader.line_num}") from error


def _read_line(row: dict[str | None, str | None], where: str) -> Counted:
    if None in row or None in row.values():
        raise InputError("the line has not as many fields as the first", where=where)
    told = {str(name): str(value).strip() for name, value in row.items()}
    try:
        pulls = float(told["pulls"])
    except ValueError as error:
        raise InputError(f"{told['pulls'][:40]!r} is no number of pulls", where=where) from error
    if not 0 <= pulls <= MOST_PULLS:
        raise InputError(f"{told['pulls'][:40]!r} pulls cannot be", where=where)
    if not told["registry"] or not told["repository"]:
        raise InputError("the line names no repository", where=where, do="Write registry,repository,pulls")
    return Counted(
        registry=told["registry"],
        repository=told["repository"],
        pulls=pulls,
        source="file",
        digest=told.get("digest", ""),
        tag=told.get("tag", ""),
        edge=told.get("edge", ""),
    )


def _by_events(session: Session, registry: str, days: int) -> tuple[list[Counted], float] | None:
    """What the audit's events say of a registry, and of how many days; None where it has no pull of it at all: then
    its log is not read, or does not tell of pulls."""
    if not was_read(session):
        return None
    from registry_pipelines.inventory.needed import need_tables

    need_tables()
    store = store_of(session)
    until = session.now()
    first = next(iter(store.days()), None)
    if first is None:
        return None
    counted = _count_events(store, session, registry, days)
    of_days = min(float(days), (until.date() - first).days + 1.0)
    return (counted, of_days) if counted else None


def _count_events(store: AuditStore, session: Session, registry: str, days: int) -> list[Counted]:
    """Pulls by repository and digest, and the bytes of layers by repository. What was refused, or done by the cloud's
    own services, is no pull of a node."""
    from registry_pipelines.report.audit.store import only

    pulls: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    given: dict[str, int | None] = {}
    until = session.now()
    tables = store.tables(
        since=until - timedelta(days=days),
        until=until,
        columns=("repository", "digest", "tag", "action", "size"),
        where=only([registry], "registry")
        & only(["pull", "layer"], "action")
        & only([""], "refused")
        & only([""], "service"),
    )
    for table in tables:  # a group of rows each; a million events are grouped before Python sees them
        groups = table.group_by(["action", "repository", "digest", "tag"])
        for row in groups.aggregate([("size", "sum"), ("size", "min"), ("size", "count")]).to_pylist():
            if row["action"] == "pull":
                pulls[row["repository"], row["digest"], "" if row["digest"] else row["tag"]] += row["size_count"]
            else:
                before = given.get(row["repository"], 0)
                is_known = before is not None and row["size_min"] >= 0
                given[row["repository"]] = before + row["size_sum"] if before is not None and is_known else None
    return list(_counted(registry, pulls, given))


def _counted(registry: str, pulls: dict[tuple[str, str, str], int], given: dict[str, int | None]) -> Iterable[Counted]:
    """Where the log has the bytes of all layers of a repository, one row for it; else one for each image."""
    whole: defaultdict[str, int] = defaultdict(int)
    for (repository, digest, tag), count in sorted(pulls.items()):
        if given.get(repository) is None:
            yield Counted(
                registry=registry, repository=repository, pulls=count, source="events", digest=digest, tag=tag
            )
        else:
            whole[repository] += count
    for repository, count in whole.items():
        yield Counted(
            registry=registry, repository=repository, pulls=count, source="events", given_bytes=given[repository]
        )


def _by_cloudwatch(session: Session, registry: str, days: int) -> list[Counted]:
    """Raises RegistryError and others."""
    from registry_pipelines.registry.ecr.images import EcrImages

    settings, calls = session.places.ecr(registry)
    images = EcrImages(settings.account, calls.access, calls=calls)
    names = [each.name for each in images.list_repositories()]
    found = pull_counts(calls, names, until=session.now(), days=days, where=f"CloudWatch of {registry}")
    return [
        Counted(registry=registry, repository=each.repository, pulls=each.pulls, source="CloudWatch", why=each.why)
        for each in found
    ]


__all__ = ["Counted", "Counts", "count_pulls", "read_pulls"]
