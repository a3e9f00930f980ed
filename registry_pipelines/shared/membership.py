"""Who works on a shared state: each process is a member, with a sign of life by the database's clock.

Host names and process ids do not tell whether one lives: containers have equal ones. A member is a random name that
writes from time to time; whoever says nothing for ``silence`` is dead to the others, and what it held is theirs. Nobody
is dead before the database itself has run for so long: during its own restart nobody could write.

Refused, with a word that says who and what to do: a worker whose build keeps another layout, one whose clock is wrong
(what it signs bears its time), another project's, and a configuration that others have replaced.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from registry_pipelines import __version__
from registry_pipelines.errors import InputError, LocalError, StateLocked, StateTooNew
from registry_pipelines.progress import count_text
from registry_pipelines.shared.database import ALIVE, Database, Row, Tables, Transaction
from registry_pipelines.shared.settings import Shared

LAYOUT = 2
"""Of all tables of a shared state. What is added must not disturb who does not know it, or this number is raised: then
workers of both builds are kept apart. 1 is the journal of builds before there were members, which refuse 2 by its
table ``journal_version``."""

BEATS = 6
"""Signs of life within ``silence``; a few may fail."""

ROLLOUT_S = 900.0
"""Seconds in which workers of an older and a newer configuration may work side by side, while one replaces the
other."""

KEPT_S = 24 * 3600.0
"""After their end members are kept, for whoever asks who did something, and configurations that none of them has."""

MAX_NAMED = 3

TABLES = Tables(
    "members",
    (
        "CREATE TABLE IF NOT EXISTS journal_version (version INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS members_project (project TEXT NOT NULL)",
        """CREATE TABLE IF NOT EXISTS members (
            name VARCHAR(32) NOT NULL PRIMARY KEY, host TEXT NOT NULL, process BIGINT NOT NULL, build TEXT NOT NULL,
            layout INTEGER NOT NULL, configuration TEXT NOT NULL, place TEXT NOT NULL, clock_s FLOAT NOT NULL,
            since FLOAT NOT NULL, seen FLOAT NOT NULL, silence_s FLOAT NOT NULL, ended BOOLEAN NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS members_configurations (
            configuration TEXT NOT NULL PRIMARY KEY, since FLOAT NOT NULL)""",
    ),
)

_PUT = """INSERT INTO members
    (name, host, process, build, layout, configuration, place, clock_s, since, seen, silence_s, ended)
    VALUES (:name, :host, :process, :build, :layout, :configuration, :place, :clock_s, clock(), clock(), :silence_s,
        FALSE)
    ON CONFLICT (name) DO UPDATE SET seen = excluded.seen, clock_s = excluded.clock_s, ended = FALSE"""
_BEAT = "UPDATE members SET seen = clock(), clock_s = :clock_s, ended = FALSE WHERE name = :name"
_END = "UPDATE members SET ended = TRUE, seen = clock() WHERE name = :name"
_NEWEST = """INSERT INTO members_configurations (configuration, since) VALUES (:configuration, clock())
    ON CONFLICT (configuration) DO UPDATE SET since = excluded.since"""
_FORGET_CONFIGURATIONS = """DELETE FROM members_configurations
    WHERE since < clock() - :kept AND configuration NOT IN (SELECT configuration FROM members)"""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What a member says of itself. configuration: a digest of what its file says, without secrets. place: of the file,
    for people. layout, clock: of this build and machine; others in tests of what is refused."""

    configuration: str = ""
    place: str = ""
    build: str = __version__
    layout: int = LAYOUT
    clock: Callable[[], float] = time.time


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as others see it. since, seen: seconds since 1970 by the database's clock. clock_s: how far its clock is
    ahead of that. alive: whether others still wait for it."""

    name: str
    host: str
    process: int
    build: str
    layout: int
    configuration: str
    place: str
    clock_s: float
    since: float
    seen: float
    alive: bool

    def __str__(self) -> str:
        return f"{self.host} (process {self.process}, build {self.build})"


class Membership:
    """This process's place among the workers of a state. beaten: called within each sign of life, in its transaction;
    leases are renewed so. Raises what :meth:`join` raises."""

    def __init__(
        self, database: Database, settings: Shared, worker: Worker, *, beaten: Callable[[Transaction, str], None]
    ) -> None:
        self.name = uuid.uuid4().hex
        self.silence_s = settings.silence.total_seconds()
        self.notes: tuple[str, ...] = ()
        """What a person should know who looks, though nothing is refused."""
        self._database, self._settings, self._worker, self._beaten = database, settings, worker, beaten
        self._refused: StateTooNew | None = None
        self._told = (0.0, 0.0)
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="shared-sign-of-life", daemon=True)
        self._join()
        self._heart.start()

    def _join(self) -> None:
        """Become a member. Raises StateTooNew, StateLocked (workers of another layout, or of a configuration that
        replaced this one), InputError (another project's state), LocalError (the clock, the database)."""
        self._database.run(lambda database: self._check_stored(_stored(database)))
        self._database.make(TABLES)
        clock_s = self._clock_s()
        values = {
            "name": self.name,
            "host": socket.gethostname()[:200],
            "process": os.getpid(),
            "build": self._worker.build,
            "layout": self._worker.layout,
            "configuration": self._worker.configuration,
            "place": self._worker.place,
            "clock_s": clock_s,
            "silence_s": self.silence_s,
        }
        self._row = values

        def join(database: Transaction) -> None:
            database.change("LOCK TABLE members IN SHARE ROW EXCLUSIVE MODE", {})
            others = _members(database, f"name <> :name AND {ALIVE}", {"name": self.name})
            self._check_layout(database, others)
            self._check_project(database, others)
            self._check_configuration(database, others)
            database.change(_PUT, values)
            forget = f"DELETE FROM members WHERE seen < clock() - :kept AND NOT ({ALIVE})"  # noqa: S608 - ours
            database.change(forget, {"kept": KEPT_S})
            database.change(_FORGET_CONFIGURATIONS, {"kept": KEPT_S})

        self._check_clock(clock_s)
        self._database.run(join)

    def _check_stored(self, stored: int) -> None:
        if stored > self._worker.layout:
            raise StateTooNew(
                f"the shared state has layout {stored}, and this worker's build {self._worker.build} knows "
                f"{self._worker.layout}",
                where="shared.database",
                do="Run the build that the other workers run; no two layouts work on one state",
            )

    def _check_layout(self, database: Transaction, others: Sequence[Member]) -> None:
        mine, stored = self._worker.layout, _stored(database)
        self._check_stored(stored)
        older = [each for each in others if each.layout < mine]
        if older:
            raise StateLocked(
                f"{count_text(len(older), 'worker')} of an older layout still at work on the shared state: "
                + _named(older),
                where="shared.database",
                do=f"End them, or bring them to build {self._worker.build}; a worker counts as ended "
                f"{self._settings.silence} after its last sign of life",
            )
        if stored < mine:
            database.change("DELETE FROM journal_version", {})
            database.change("INSERT INTO journal_version VALUES (:version)", {"version": mine})

    def _check_project(self, database: Transaction, others: Sequence[Member]) -> None:
        """A state gets its name from the first that has one; not from a stranger to those who work on it without one:
        they would be refused from then on. Who only adds the name has their configuration still."""
        mine = self._settings.project or ""
        rows = database.rows("SELECT project FROM members_project", {})
        if not rows:
            if mine:
                strangers = [each for each in others if each.configuration != self._worker.configuration]
                if strangers:
                    raise InputError(
                        f"the shared state is used without a project's name, by {_named(strangers, places=True)}; this "
                        f"worker is of {mine}, with another configuration",
                        where="shared.project",
                        do="Give each project (code location) a database of its own; where this is the same project, "
                        "add its name first and nothing else",
                    )
                database.change("INSERT INTO members_project VALUES (:project)", {"project": mine})
        elif rows[0]["project"] != mine:
            raise InputError(
                f"the shared state is of the project {rows[0]['project']}, and this worker is of "
                + (mine or "a configuration that names none"),
                where="shared.project",
                do="Give each project (code location) a database of its own, or name the same project",
            )

    def _check_configuration(self, database: Transaction, others: Sequence[Member]) -> None:
        """Two configurations side by side are a change that is rolled out, for a while; then they are two projects that
        undo what the other does, as when each lets go of images that the other keeps."""
        mine = self._worker.configuration
        same = [each for each in others if each.configuration == mine]
        different = [each for each in others if each.configuration != mine]
        if not same:  # this one is the newest now
            database.change(_NEWEST, {"configuration": mine})
        if not different:
            return
        since = {
            row["configuration"]: row["age"]
            for row in database.rows(
                "SELECT configuration, clock() - since AS age FROM members_configurations",
                {},
            )
        }
        age_s = since.get(mine, 0.0)
        newer = [each for each in different if since.get(each.configuration, age_s) < age_s]
        overlap_s = max((since[each.configuration] for each in newer), default=0.0)
        if overlap_s > ROLLOUT_S:
            since_when = count_text(round(overlap_s / 60), "minute")
            raise StateLocked(
                f"another configuration is at work on the shared state since {since_when}: "
                + _named(newer, places=True),
                where="shared.database",
                do="Start this worker with the configuration that the others have, or give it a database of its own; "
                "two may work side by side only while one replaces the other",
            )
        note = (
            f"workers of the shared state have different configurations: {_named(different, places=True)}; "
            f"after {count_text(round(ROLLOUT_S / 60), 'minute')} the older one is refused"
        )
        if note not in self.notes:  # the transaction may be done twice
            self.notes = (note,)
            logging.getLogger(__name__).warning("%s", note)  # on stderr unless somebody collects logs

    def _clock_s(self, *, patient: bool = True) -> float:
        """How far this machine's clock is ahead of the database's: the least that the way there leaves open."""
        asked_at = self._worker.clock()
        [row] = self._database.run(
            lambda database: list(database.rows("SELECT clock() AS now", {})), patient=patient, probe=not patient
        )
        answered_at = self._worker.clock()
        theirs = float(row["now"])
        ahead_s = asked_at - theirs if theirs < asked_at else answered_at - theirs if theirs > answered_at else 0.0
        self._told = (ahead_s, self._worker.clock() - _running_s())
        return ahead_s

    def _check_clock(self, clock_s: float) -> None:
        most_s = self._settings.clock_difference.total_seconds()
        if abs(clock_s) > most_s:
            side = "ahead of" if clock_s > 0 else "behind"
            raise LocalError(
                f"the clock of this machine is {abs(clock_s):.0f} s {side} the shared database's",
                where="shared.clock_difference",
                do=f"Set both by NTP, for what is signed bears its time; {self._settings.clock_difference} is accepted",
            )

    def check(self) -> None:
        """Raise LocalError where this machine's clock has gone wrong meanwhile, or the database's; before something is
        decided or signed that bears its time. The database is asked in each sign of life, and here only where the clock
        was set since: how long this machine runs tells that."""
        self.require()
        ahead_s, started_at = self._told
        set_by_s = self._worker.clock() - _running_s() - started_at
        if abs(ahead_s + set_by_s) > self._settings.clock_difference.total_seconds():
            self._check_clock(self._clock_s())

    def require(self) -> None:
        """Raise StateTooNew where workers of a newer layout took over, while this one stood still."""
        if self._refused is not None:
            raise self._refused

    def members(self) -> list[Member]:
        """Who works on the state, and who did within a day; the last sign of life first."""
        return sorted(
            self._database.run(lambda database: _members(database, "TRUE", {})),
            key=lambda each: each.seen,
            reverse=True,
        )

    def _beat(self) -> None:
        while not self._closed.wait(self.beat_s):
            self.beat()

    def beat(self) -> bool:
        """A sign of life now; False when the database did not answer, or this worker may not go on."""
        try:
            values = {"name": self.name, "clock_s": self._clock_s(patient=False)}
            self._database.run(lambda database: self._write(database, values), patient=False, probe=True)
        except StateTooNew as error:
            self._refused = error
            return False
        except LocalError:
            return False
        return True

    def _write(self, database: Transaction, values: dict[str, Any]) -> None:
        self._check_stored(_stored(database))
        if not database.change(_BEAT, values):  # forgotten, after a day of silence
            database.change(_PUT, {**self._row, **values})
        self._beaten(database, self.name)

    @property
    def beat_s(self) -> float:
        """Seconds between two signs of life."""
        return self.silence_s / BEATS

    def close(self) -> None:
        """Leave: what is still named after this worker is free at once."""
        self._closed.set()
        if self._heart.is_alive() and self._heart is not threading.current_thread():
            self._heart.join(1.0)
        try:
            self._database.run(lambda database: database.change(_END, {"name": self.name}), patient=False)
        except LocalError:
            return  # the others find out by the silence


def _running_s() -> float:
    """Seconds since the machine started, its sleep among them; nobody sets this."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _stored(database: Transaction) -> int:
    """The layout of the tables that are there, 0 where there are none; nothing is made to find it."""
    if not database.rows("SELECT 1 WHERE to_regclass('journal_version') IS NOT NULL", {}):
        return 0
    [found] = database.rows("SELECT MAX(version) AS version FROM journal_version", {})
    return int(found["version"] or 0)


def _members(database: Transaction, which: str, values: dict[str, object]) -> list[Member]:
    rows = database.rows(f"SELECT *, {ALIVE} AS alive FROM members WHERE {which}", values)  # noqa: S608 - ours
    return [_member(row) for row in rows]


def _member(row: Row) -> Member:
    return Member(**{name: row[name] for name in Member.__struct_fields__})


def _named(members: Sequence[Member], *, places: bool = False) -> str:
    words = [f"{each} with {each.place}" if places and each.place else str(each) for each in members[:MAX_NAMED]]
    more = len(members) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


__all__ = ["ALIVE", "LAYOUT", "Member", "Membership", "Worker"]
