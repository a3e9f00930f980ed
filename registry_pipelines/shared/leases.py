"""What one worker alone does at a time: a lease has an owner, and ends with its owner's signs of life.

In place of a lock file where workers share a database. A lease that was lost, as by a worker that stood still for
longer than ``silence`` and whose place another took, is told to its holder, which stops: :meth:`Lease.check` between
steps, :meth:`Lease.guard` inside the transaction that writes.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from registry_pipelines.errors import LocalError, StateLocked
from registry_pipelines.shared.database import ALIVE, Database, Tables, Transaction
from registry_pipelines.shared.membership import Membership

TABLES = Tables(
    "leases",
    (
        """CREATE TABLE IF NOT EXISTS leases (
            name TEXT NOT NULL PRIMARY KEY, owner VARCHAR(32) NOT NULL, member VARCHAR(32) NOT NULL,
            since FLOAT NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS leases_by_member ON leases (member)",
    ),
)
_TAKE = f"""INSERT INTO leases (name, owner, member, since) VALUES (:name, :owner, :member, clock())
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, member = excluded.member, since = excluded.since
    WHERE leases.owner = excluded.owner
        OR NOT EXISTS (SELECT 1 FROM members WHERE members.name = leases.member AND {ALIVE})"""  # noqa: S608 - ours
_LEAVE = "DELETE FROM leases WHERE name = :name AND owner = :owner"
_HOLDER = f"""SELECT members.host, members.process, clock() - leases.since AS age, leases.owner, {ALIVE} AS alive
    FROM leases JOIN members ON members.name = leases.member WHERE leases.name = :name"""  # noqa: S608 - ours
_SWEEP = "DELETE FROM leases WHERE NOT EXISTS (SELECT 1 FROM members WHERE members.name = leases.member)"
_MINE = "SELECT owner FROM leases WHERE member = :member"

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Between two looks at a lease that another holds."""


Within = Callable[[Transaction], object]


def _nothing(_: Transaction) -> None:
    """What is done beside most leases."""


class Lease:
    """One that is held. lost: set when another took it, or nobody knows."""

    def __init__(self, leases: Leases, name: str) -> None:
        self.name = name
        self.owner = uuid.uuid4().hex
        self.lost = threading.Event()
        self.sure_at = _now()
        """When the database last said that it is ours; seconds of the machine's time since it started."""
        self._leases = leases

    def check(self) -> None:
        """Raise StateLocked when it is lost; asked of the database where no sign of life came through lately."""
        if not self.lost.is_set() and _now() - self.sure_at > self._leases.silence_s:
            self._leases.ask()
            if _now() - self.sure_at > self._leases.silence_s:
                self.lost.set()
        if self.lost.is_set():
            raise _lost(self.name)

    def guard(self, database: Transaction) -> None:
        """Inside a transaction: nobody takes the lease until it is kept. Raises StateLocked when somebody has."""
        mine = "SELECT 1 FROM leases WHERE name = :name AND owner = :owner FOR UPDATE"
        if not database.rows(mine, {"name": self.name, "owner": self.owner}):
            self.lost.set()
            raise _lost(self.name)


class Leases:
    """The leases of this process. join: gives its membership, at once when first asked. Safe to use from many
    threads: two of them exclude each other, too."""

    def __init__(self, database: Database, membership: Callable[[], Membership]) -> None:
        self._database, self._membership = database, membership
        self._held: dict[str, Lease] = {}
        self._unleft: dict[str, str] = {}
        """Owners, and names, of what is ours no more though the database may not know: it did not answer. They would be
        held for as long as this process lives."""
        self._lock = threading.Lock()
        self._inside = threading.local()

    @property
    def silence_s(self) -> float:
        """Seconds after which a silent holder's leases are anybody's."""
        return self._membership().silence_s

    @contextmanager
    def held(
        self,
        name: str,
        what: str,
        *,
        do: str = "Wait for it; once is enough",
        wait_s: float = 0.0,
    ) -> Iterator[Lease]:
        """Hold a lease as the only one of all workers. what: another worker does that holds it, as ``another worker
        updates advisories``. wait_s: how long to wait for it; unless told it is refused at once. Raises StateLocked
        with who holds it, also at the end of the block where the lease was lost within; LocalError."""
        lease = Lease(self, name)
        self._take(lease, what, do, wait_s)
        inside = self._blocks()
        inside.append(lease)
        try:
            yield lease
        except BaseException:
            self._leave(lease)
            raise
        finally:
            inside.remove(lease)  # of the thread that began, whoever ends a generator
        if not self._leave(lease):
            raise _lost(name)

    def guard(self, database: Transaction) -> None:
        """Inside a transaction of a thread that is in blocks of :meth:`held`: nobody takes those leases until it is
        kept. Raises StateLocked where somebody has: then what would be written is older than what the other wrote."""
        for lease in self._blocks():
            lease.guard(database)

    def _blocks(self) -> list[Lease]:
        if not hasattr(self._inside, "leases"):
            self._inside.leases = []
        found: list[Lease] = self._inside.leases
        return found

    def attempt(self, name: str, *, within: Within = _nothing) -> Lease | None:
        """A lease at once, or None when another lives that holds it; ended with :meth:`leave`. within: done in the same
        transaction where it is ours, so perhaps twice. Raises LocalError."""
        lease = Lease(self, name)
        return lease if self._try(lease, within) else None

    def leave(self, lease: Lease, *, within: Within = _nothing) -> bool:
        """End it; whether it was still ours. A database that does not answer is not waited for: it is told with the
        next sign of life. within: done in the same transaction where it was ours, and not with a sign of life."""
        return self._leave(lease, within)

    def sweep(self) -> None:
        """Forget those of workers that ended so long ago that nobody knows them; not waited for."""
        with suppress(LocalError):
            self._database.run(lambda database: database.change(_SWEEP, {}), patient=False)

    def ask(self) -> None:
        """A sign of life now, after which each lease knows whether it is lost."""
        self._membership().beat()

    def renewed(self, database: Transaction, member: str) -> None:
        """In each sign of life: which leases are still ours. What the database could not be told is told now."""
        with self._lock:
            held, unleft = list(self._held.values()), list(self._unleft.items())
        for owner, name in unleft:
            if not database.change(_LEAVE, {"name": name, "owner": owner}):  # gone, and that was kept
                self._unleft.pop(owner, None)
        if not held:
            return
        asked_at = _now()
        ours = {row["owner"] for row in database.rows(_MINE, {"member": member})}
        for lease in held:
            if lease.owner in ours:
                lease.sure_at = asked_at
            else:
                lease.lost.set()

    def _take(self, lease: Lease, what: str, do: str, wait_s: float) -> None:
        until, pause_s = time.monotonic() + wait_s, FIRST_PAUSE_S
        while not self._try(lease):
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise StateLocked(what + self._holder(lease.name), where=lease.name, do=do)
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _try(self, lease: Lease, within: Within = _nothing) -> bool:
        values = {"name": lease.name, "owner": lease.owner, "member": self._membership().name}
        asked_at = _now()

        def take(database: Transaction) -> bool:
            ours = database.change(_TAKE, values) == 1
            if ours:
                within(database)
            return ours

        with self._told_later(lease):
            ours = self._database.run(take)
        if not ours:
            return False
        lease.sure_at = asked_at
        with self._lock:
            self._held[lease.owner] = lease
        return True

    def _leave(self, lease: Lease, within: Within = _nothing) -> bool:
        with self._lock:
            self._held.pop(lease.owner, None)
        values = {"name": lease.name, "owner": lease.owner}

        def leave(database: Transaction) -> bool:
            ours = database.change(_LEAVE, values) == 1
            if ours:
                within(database)
            return ours

        try:
            with self._told_later(lease):
                return self._database.run(leave, patient=False)
        except LocalError:
            return not lease.lost.is_set()

    @contextmanager
    def _told_later(self, lease: Lease) -> Iterator[None]:
        """Where the database did not answer, or somebody ended this meanwhile, nobody knows whose the lease is: the
        next sign of life ends it."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._unleft[lease.owner] = lease.name
            raise

    def _holder(self, name: str) -> str:
        rows = self._database.run(lambda database: list(database.rows(_HOLDER, {"name": name})))
        if not rows:
            return ""
        return f": {rows[0]['host']}, process {rows[0]['process']}, for {max(rows[0]['age'], 0.0):.0f} s"


def _now() -> float:
    """Goes on while the machine sleeps, as leases do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _lost(name: str) -> StateLocked:
    return StateLocked(
        "another worker took over what this one did: it gave no sign of life for too long",
        where=name,
        do="Look at what the other does; this one stopped. A worker must not stand still, nor its way to the database",
    )


__all__ = ["TABLES", "Lease", "Leases"]
