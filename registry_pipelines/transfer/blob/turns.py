"""One worker at a time sends a blob to a registry, of all that share a state; the others wait, and find or mount it.

A turn is a lease by registry and blob: a worker that is killed loses it with its signs of life, and whoever waits goes
on with its upload. What arrived is remembered for a day with its repository, so that a worker that planned before looks
first. Without a shared state nobody else is known of, and there are no turns.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.shared.database import Tables, Transaction
from registry_pipelines.shared.leases import Lease
from registry_pipelines.shared.state import SharedState
from registry_pipelines.waits import Wait

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Between two looks at a turn that another has."""

REMEMBERED_S = 24 * 3600.0

_TABLES = Tables(
    "arrivals",
    (
        """CREATE TABLE IF NOT EXISTS arrivals (
            registry TEXT NOT NULL, digest VARCHAR(140) NOT NULL, repository TEXT NOT NULL, arrived FLOAT NOT NULL,
            PRIMARY KEY (registry, digest))""",
    ),
)
_FIND = """SELECT repository FROM arrivals
    WHERE registry = :registry AND digest = :digest AND arrived > clock() - :remembered"""
_PUT = """INSERT INTO arrivals (registry, digest, repository, arrived) VALUES (:registry, :digest, :repository, clock())
    ON CONFLICT (registry, digest) DO UPDATE SET repository = excluded.repository, arrived = excluded.arrived"""
_SWEEP = "DELETE FROM arrivals WHERE arrived < clock() - :remembered"


@dataclass(eq=False)
class Turn:
    """Ours now. arrived_in: a repository of the registry to which the blob came lately, empty for none; who has the
    turn looks there before he sends it. users: how many targets of the registry are still to get it."""

    registry: str
    digest: Digest
    lease: Lease
    arrived_in: str = ""
    users: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lost(self) -> bool:
        """Whether another has it meanwhile."""
        return self.lease.lost.is_set()


class Turns:
    """The turns of this process. Raises LocalError where the database does not answer. Safe to use from many
    threads."""

    def __init__(self, shared: SharedState) -> None:
        """Opens the database."""
        self._database, self._leases = shared.database, shared.leases
        self._database.make(_TABLES)

    def take(self, registry: str, digest: Digest, users: int = 1) -> Turn | None:
        """The turn, None while another lives that has it."""
        found: list[str] = []
        values = {"registry": registry, "digest": str(digest), "remembered": REMEMBERED_S}

        def look(database: Transaction) -> None:
            found[:] = [str(row["repository"]) for row in database.rows(_FIND, values)]

        lease = self._leases.attempt(_name(registry, digest), within=look)
        return Turn(registry, digest, lease, "".join(found), users) if lease else None

    def wait(self, registry: str, digest: Digest) -> Turn:
        """The turn, once it is ours; as long as another lives that sends the blob, which has its own patience."""
        pause_s = FIRST_PAUSE_S
        with Wait(registry, "another worker sends it the same blob"):
            while (turn := self.take(registry, digest)) is None:
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        return turn

    def done(self, turn: Turn, repository: str) -> None:
        """One of its users is through; the last one ends the turn. repository: where the blob is now, empty where it
        did not arrive. A database that does not answer is not waited for: the turn ends with the next sign of life."""
        with turn.lock:
            turn.users -= 1
            turn.arrived_in = repository or turn.arrived_in
            if turn.users:
                return
        values = {"registry": turn.registry, "digest": str(turn.digest), "repository": turn.arrived_in}
        self._leases.leave(turn.lease, within=lambda database: turn.arrived_in and database.change(_PUT, values))

    def sweep(self) -> None:
        """Forget what arrived longer ago."""
        try:
            self._database.run(lambda database: database.change(_SWEEP, {"remembered": REMEMBERED_S}), patient=False)
        except LocalError:
            return


def _name(registry: str, digest: Digest) -> str:
    return f"blob/{registry}/{digest}"


__all__ = ["Turn", "Turns"]
