"""Who did what to the registries of a configuration: logs read, kept, and held against what is signed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import reduce
from typing import TYPE_CHECKING

from registry_pipelines.chain.audit_reading import Read, folder_of, read_logs, store_of, was_read
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.report.audit.model import ACTIONS, Event
from registry_pipelines.settings import unknown

if TYPE_CHECKING:  # Arrow is loaded where events are read
    import pyarrow.compute as pc

    from registry_pipelines.chain.stages import Chain
    from registry_pipelines.report.audit.alerts import Alert, Judgement
    from registry_pipelines.report.audit.counts import By

MOST_EVENTS = 200
"""Of a table of single events, the newest."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of the events is asked for. since: how far back; the configuration's window unless told. repository,
    registry, who: patterns. action: one of ``ACTIONS``. team: of ``report.teams``."""

    since: timedelta | None = None
    by: By = "action"
    registry: str = ""
    repository: str = ""
    action: str = ""
    who: str = ""
    team: str = ""

    @property
    def narrow(self) -> bool:
        """Whether single events are asked for."""
        return bool(self.registry or self.repository or self.action or self.who or self.team)


def read_events(
    chain: Chain, *, digest: str | None = None, repository: str | None = None, since: datetime | None = None
) -> list[Event]:
    """Events that are kept, in the order of time; no log is asked. digest, repository: only what is of these (a tag
    that was set or deleted without a digest is found by its repository alone). Raises InputError, LocalError."""
    return stored_events(chain._session, digest=digest, repository=repository, since=since)


def stored_events(
    session: Session, *, digest: str | None = None, repository: str | None = None, since: datetime | None = None
) -> list[Event]:
    """See :func:`read_events`."""
    from registry_pipelines.report.audit.store import only

    wanted = {name: value for name, value in (("digest", digest), ("repository", repository)) if value is not None}
    limits = [only((value,), name) for name, value in wanted.items()]
    return list(store_of(session).events(since=since, where=_all(limits)))


def known_alerts(chain: Chain, *, since: timedelta | None = None) -> list[Alert]:
    """Alerts over what is kept, those that were acknowledged too; no log is asked. Raises InputError, LocalError."""
    from registry_pipelines.chain.audit_alerts import judged

    return judged(chain._session, chain._session.now() - _window(chain._session, since)).alerts


def audit(session: Session, wanted: Wanted, *, read: bool = True, sources: Sequence[str] = ()) -> StageResult:
    """See ``Chain.audit``."""
    started = time.monotonic()
    done = read_logs(session, sources) if read else []
    from registry_pipelines.chain.audit_alerts import judged  # who has no logs needs none of it
    from registry_pipelines.report.audit.counts import count_rows, counted

    since = session.now() - _window(session, wanted.since)
    limits = _limits(session, wanted, since)
    found = counted(
        store_of(session).tables(since=since, columns=_COUNTED, where=limits),
        wanted.by,
    )
    judgement = judged(session, since)
    standing = [each for each in judgement.alerts if not each.acknowledged]
    failed = [each for each in done if each.error]
    total = sum(each.total for each in found.values())
    facts: dict[str, Scalar] = {
        "since": write_time(since),
        "events": total,
        "new": sum(each.new for each in done),
        **{action: sum(each.counts[action] for each in found.values()) for action in ACTIONS},
        "refused": sum(each.refused for each in found.values()),
        "alerts_open": len(standing) + judgement.more,
        "acknowledged": len(judgement.alerts) - len(standing),
        "judged": judgement.looked,
        "sources_unread": len(failed),
    }
    return StageResult(
        stage="audit",
        subject=session.config.path.name,
        action=f"{count_text(total, 'event')}, {count_text(len(standing) + judgement.more, 'alert')}",
        changed=any(each.new for each in done),
        seconds=time.monotonic() - started,
        facts=facts,
        rows=count_rows(found, wanted.by),
        tables={
            "alerts": [_alert_row(each) for each in judgement.alerts],
            "events": _event_rows(session, wanted, since, limits) if wanted.narrow else [],
            "sources": [each.row() for each in done],
        },
        reasons=[
            *(f"{each.id}: {each.said}" for each in standing[:MOST_EVENTS]),
            *(f"{each.source} could not be read: {each.error}" for each in failed),
        ],
        next_steps=_next_steps(standing),
        notes=[*_notes(session, done, judgement, since)],
        ok=not standing and not failed and not judgement.more,
        exit_code=EvidenceError.exit_code
        if standing or judgement.more
        else failed[0].error.exit_code
        if failed and failed[0].error
        else 0,
    )


_COUNTED = ("time", "who", "action", "registry", "repository", "refused", "service")


def _window(session: Session, since: timedelta | None) -> timedelta:
    return since or session.config.report.audit.window


def _limits(session: Session, wanted: Wanted, since: datetime) -> pc.Expression | None:
    """The filters of a question, for Arrow. Patterns are held against the words that are there. Raises InputError."""
    from registry_pipelines.report.audit.store import only

    if wanted.action and wanted.action not in ACTIONS:
        raise InputError(unknown(wanted.action, ACTIONS, "action"), do=f"Write one of {', '.join(ACTIONS)}")
    teams = session.config.report.teams
    if wanted.team and wanted.team not in teams:
        raise InputError(unknown(wanted.team, teams, "team"), do="Name one of `report.teams`")
    limits = [only((wanted.action,), "action")] if wanted.action else []
    for column, patterns in (
        ("registry", (wanted.registry,)),
        ("who", (wanted.who,)),
        ("repository", (wanted.repository,)),
    ):
        if patterns[0]:
            limits.append(only(_matching(session, column, patterns, since), column))
    if wanted.team:
        limits.append(only(_of_team(session, wanted.team, since), "repository"))
    return _all(limits)


def _all(limits: Sequence[pc.Expression]) -> pc.Expression | None:
    return reduce(lambda one, other: one & other, limits) if limits else None


def _words(session: Session, column: str, since: datetime) -> set[str]:
    found: set[str] = set()
    for table in store_of(session).tables(since=since, columns=("time", column)):
        found.update(table[column].unique().to_pylist())
    return found


def _matching(session: Session, column: str, patterns: Sequence[str], since: datetime) -> set[str]:
    return {word for word in _words(session, column, since) if any(fnmatchcase(word, each) for each in patterns)}


def _of_team(session: Session, team: str, since: datetime) -> set[str]:
    """Repositories of a team: of the first team with a pattern that one matches."""
    return {each for each in _words(session, "repository", since) if team_of(session, each) == team}


def team_of(session: Session, repository: str) -> str:
    """Whose a repository is, by the patterns of `report.teams`; empty for nobody's."""
    from registry_pipelines.report.teams import teams_of

    return next(iter(teams_of(repository, session.config.report.teams)), "")


def _event_rows(
    session: Session, wanted: Wanted, since: datetime, limits: pc.Expression | None
) -> list[dict[str, Scalar]]:
    """The newest events that are asked for, the newest first."""
    newest: deque[Event] = deque(store_of(session).events(since=since, where=limits), MOST_EVENTS)
    return [
        {
            "time": write_time(each.time),
            "action": each.action,
            "registry": each.registry,
            "repository": each.repository,
            "tag": each.tag,
            "digest": each.digest,
            "who": each.who or (f"({each.service})" if each.service else "(not said)"),
            "operation": each.operation,
            "refused": each.refused,
            "source": each.source,
        }
        for each in reversed(newest)
    ]


def _alert_row(each: Alert) -> dict[str, Scalar]:
    return {
        "alert": each.id,
        "time": write_time(each.time),
        "kind": each.kind,
        "who": each.who,
        "registry": each.registry,
        "repository": each.repository,
        "digest": each.digest,
        "tag": each.tag,
        "said": each.said,
        "do": each.do,
        "acknowledged": each.acknowledged,
    }


def _next_steps(standing: Sequence[Alert]) -> list[str]:
    if not standing:
        return []
    steps = list(dict.fromkeys(each.do for each in standing if each.do))[:5]
    return [*steps, f'registry-pipelines report audit --acknowledge {standing[0].id} --reason "WHY IT IS NO HARM"']


def _notes(session: Session, done: Sequence[Read], judgement: Judgement, since: datetime) -> Iterator[str]:
    for each in done:
        if each.new and each.oldest is not None and each.oldest < since:
            days = (session.now() - each.oldest).days + 1
            yield (
                f"{each.source}: it told of events since {write_time(each.oldest)}, which is before the time that was "
                f"judged: `registry-pipelines report audit --kept --since {days}d` judges them"
            )
        yield from (f"{each.source}: {note}" for note in each.reading.notes)
        if each.reading.unread:
            yield f"{each.source}: {count_text(each.reading.unread, 'entry', 'entries')} could not be read"
    if not session.config.report.audit.pushers:
        yield "pushes were not judged: name who may push in `report.audit.pushers`"
    yield from judgement.problems
    if judgement.pending:
        yield f"{count_text(judgement.pending, 'push', 'pushes')} of the last hour: no log says yet who did it"
    if judgement.more:
        yield f"{count_text(judgement.more, 'alert')} more are not shown"


__all__ = ["Wanted", "audit", "folder_of", "known_alerts", "read_events", "store_of", "stored_events", "was_read"]
