"""Caches that workers share: what one found of a layer or an image the others need not find again.

Each worker looks in its own folder first, and then here (``oci.behind``); what it finds itself it sends in the
background. Small entries are in the database. The bytes of others are in the object store under their digest, and the
database says which digest an entry has: who may write into the bucket, and no more, can take bytes away, but cannot
make anybody read others. Whatever goes wrong here costs time: the work is done as if nobody had done it before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from registry_pipelines.chance import CHANCE
from registry_pipelines.errors import (
    ContentError,
    LocalError,
    NotFound,
    RegistryError,
    RegistryPipelinesError,
    StateLocked,
    StateTooNew,
    ToolMissing,
)
from registry_pipelines.oci.behind import Pieces, detach
from registry_pipelines.oci.files import replaced
from registry_pipelines.shared import cache_rows as rows
from registry_pipelines.shared.cache_bytes import Packed, Source, unpacked
from registry_pipelines.shared.cache_rows import Entry
from registry_pipelines.shared.cache_sweep import Swept, key_of, sweep
from registry_pipelines.shared.outages import Outage
from registry_pipelines.stores.store import need_stores, open_store
from registry_pipelines.threads import Pool

if TYPE_CHECKING:
    from registry_pipelines.shared.database import Database
    from registry_pipelines.shared.leases import Lease, Leases
    from registry_pipelines.stores.store import ObjectStore

T = TypeVar("T")

INLINE_BYTES = 8 * 1024
"""Packed bytes of an entry that the database holds itself, which is one request less."""
INLINE_ALONE_BYTES = 256 * 1024
"""The same where there is no object store; larger entries are each worker's own then."""
WHOLE_BYTES = 4 << 20
"""Of an entry that is sent with one request."""
MAX_VALUE_BYTES = 64 << 20
"""Of an entry that is read into memory."""
MAX_ENTRY_BYTES = 8 << 30
SENDERS = 4
"""Entries sent at once."""
MOST_WAITING = 1000
"""Entries that wait to be sent; who has another one sends it itself."""
CLOSE_S = 30.0
"""How long the end of a process waits for what is still to be sent."""
TURN_S = 900.0
"""How long another worker's turn is waited for; then the work is done here, too."""
FIRST_PAUSE_S = 0.03
LONGEST_PAUSE_S = 0.5
"""Between two looks at a turn that another has."""
STORE_TIMEOUT_S = 20.0
STORE_RETRY_S = 5.0
"""A store that is away costs this once; then it is left alone for a minute."""
DATABASE_AWAY_S = 10.0
"""The same of the database, which others wait for anyway."""
SWEEP_S = 6 * 3600.0
"""One worker takes away what is old so often."""
SWEEP_LOOK_S = 900.0
"""Each that sends entries looks so often whether it is time."""

_DATABASE = "the caches in the shared database"
_REFUSALS = (StateLocked, StateTooNew, ToolMissing)
"""That this worker may not, or cannot, work on the state; no outage."""


class Counts(NamedTuple):
    """What became of entries in this process. found, missing: that were asked for. changed: of the missing ones, whose
    bytes in the store were not those that were kept. sent: that others have now. failed: that could not be sent.
    waited_s: for other workers' turns."""

    found: int = 0
    missing: int = 0
    changed: int = 0
    sent: int = 0
    failed: int = 0
    bytes_found: int = 0
    bytes_sent: int = 0
    waited_s: float = 0.0


class SharedCaches:
    """See the module and :class:`~registry_pipelines.oci.behind.Behind`. Nothing is opened before the first use. Raises
    what a worker that is refused is told (StateLocked, StateTooNew, ToolMissing), and nothing else."""

    def __init__(
        self,
        database: Callable[[], Database],
        leases: Callable[[], Leases],
        store: str,
        scratch: Path,
        *,
        most_bytes: int,
        age_s: float,
    ) -> None:
        """store: its address, empty without one. scratch: a folder of this machine for entries on their way.
        most_bytes, age_s: packed bytes of all entries together, and how long one is kept that nobody used. Raises
        ToolMissing: there is a store, and what opens it is not installed."""
        if store:
            need_stores()
        self._database_of, self._leases_of, self._address, self._scratch = database, leases, store, scratch
        self._most_bytes, self._age_s = most_bytes, age_s
        self._looks_at = time.monotonic() + SWEEP_LOOK_S * CHANCE.random()
        self._away = {"database": Outage(_DATABASE, away_s=DATABASE_AWAY_S), "store": Outage(store or "no store")}
        self._lock = threading.Lock()
        self._made: Database | None = None
        self._store: ObjectStore | None = None
        self._pool = Pool(SENDERS, "shared-caches")
        self._waiting: set[Future[None]] = set()
        self._here = threading.local()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}
        self._counts: dict[str, float] = {}
        self._closed = False

    # What caches ask

    def fetch(self, kind: str, name: str, to: Path) -> bool:
        """See Behind."""

        def write(pieces: Iterable[bytes]) -> None:
            with replaced(to) as temporary, temporary.open("wb") as file:
                for piece in pieces:
                    file.write(piece)

        return self._receive(kind, name, write, MAX_ENTRY_BYTES)

    def value(self, kind: str, name: str) -> bytes | None:
        """See Behind."""
        found: list[bytes] = []
        there = self._receive(kind, name, lambda pieces: found.append(b"".join(pieces)), MAX_VALUE_BYTES)
        return found[0] if there else None

    def values(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """See Behind; those that the database holds itself."""
        found: list[tuple[str, Entry]] = self._asked(lambda database: rows.small(database, kind), [])
        for name, entry in found:
            with suppress(ContentError):
                yield name, b"".join(_pieces(entry, _Bytes(entry.content or b"")))

    def keep(self, kind: str, name: str, content: Pieces) -> None:
        """See Behind."""
        self._later(lambda: self._send(kind, name, content))

    def keep_value(self, kind: str, name: str, content: bytes) -> None:
        """See Behind."""
        self._later(lambda: self._send(kind, name, lambda: (content,)))

    def drop(self, kind: str, name: str) -> None:
        """See Behind."""
        self._asked(lambda database: rows.drop(database, kind, name), None)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """See Behind. What this thread keeps meanwhile is sent before the next one's turn."""
        outer: list[Future[None]] | None = getattr(self._here, "sending", None)
        with self._alone_here(name):
            lease = self._take(name)
            sending = self._here.sending = list[Future[None]]()
            try:
                yield
            finally:
                self._here.sending = outer
                if lease is not None:
                    self._later(lambda: self._end(lease, sending))

    def counts(self) -> Counts:
        """What became of entries up to now."""
        with self._lock:
            return Counts(**{name: type(getattr(Counts(), name))(value) for name, value in self._counts.items()})

    def settle(self, wait_s: float = CLOSE_S) -> bool:
        """Wait for what is still to be sent; whether all of it was."""
        with self._lock:
            waiting = set(self._waiting)
        return not wait(waiting, timeout=wait_s).not_done

    def close(self) -> None:
        """Send what is left, for as long as that may take, and end."""
        detach(self)
        self.settle()
        self._closed = True
        self._pool.stop()
        for each in self._away.values():
            each.over()

    # Reading

    def _receive(self, kind: str, name: str, write: Callable[[Iterable[bytes]], object], most: int) -> bool:
        entry = self._asked(lambda database: rows.find(database, kind, name), None)
        there = entry is not None and entry.size <= most and self._written(entry, write)
        self._count(**({"found": 1, "bytes_found": entry.stored} if entry and there else {"missing": 1}))
        return there

    def _written(self, entry: Entry, write: Callable[[Iterable[bytes]], object]) -> bool:
        """False for what is not there, or is something else: who asked makes it anew, and puts it in its place."""
        try:
            if entry.content is not None:
                write(_pieces(entry, _Bytes(entry.content)))
                return True
            store = self.store()
            if store is None:
                return False
            with store.open(key_of(entry.digest)) as reader:
                write(_pieces(entry, reader))
        except ContentError:
            self._count(changed=1)
            return False
        except NotFound:
            return False
        except RegistryError as error:
            self._away["store"].begins(error)
            return False
        except LocalError:
            return False  # no room here; who makes it anew is told so
        self._away["store"].over()
        return True

    # Sending

    def _send(self, kind: str, name: str, content: Pieces) -> None:
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            with Packed(content(), self._scratch) as packed:
                self._put(kind, name, packed)
        except OSError:
            self._count(failed=1)  # gone meanwhile, or no room to pack it

    def _put(self, kind: str, name: str, packed: Packed) -> None:
        store = self.store()
        inline = packed.stored <= (INLINE_BYTES if self._address else INLINE_ALONE_BYTES)
        if not inline and (store is None or packed.size > MAX_ENTRY_BYTES):
            self._count(failed=1 if self._address else 0)
            return
        entry = Entry(packed.digest, packed.stored, packed.size, b"".join(packed.pieces()) if inline else None)
        try:
            if not inline and store is not None:
                if packed.stored <= WHOLE_BYTES:
                    store.write(key_of(entry.digest), b"".join(packed.pieces()))
                else:
                    store.write_pieces(key_of(entry.digest), packed.pieces(), packed.stored)
                self._away["store"].over()
        except RegistryPipelinesError as error:
            self._away["store"].begins(error)
            self._count(failed=1)
            return
        if self._asked(lambda database: rows.put(database, kind, name, entry), False):
            self._count(sent=1, bytes_sent=packed.stored)
        else:
            self._count(failed=1)
        if time.monotonic() >= self._looks_at:
            self._looks_at = time.monotonic() + SWEEP_LOOK_S
            if self._asked(lambda database: rows.due(database, SWEEP_S), False):
                self.sweep()

    def _later(self, act: Callable[[], None]) -> None:
        """Do it in the background; here where too much waits already. Once this is closed nobody asks for it."""
        if self._closed:
            return
        if len(self._waiting) >= MOST_WAITING:
            act()
            return
        future = self._pool.submit(act)
        with self._lock:
            self._waiting.add(future)
        future.add_done_callback(self._done)
        sending: list[Future[None]] | None = getattr(self._here, "sending", None)
        if sending is not None:
            sending.append(future)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._waiting.discard(future)

    def sweep(self) -> Swept | None:
        """Take away what is old or too much; None where another worker does it now, or something is away."""
        lease = self._asked(lambda _: self._leases_of().attempt("caches sweep"), None)
        if lease is None:
            return None
        try:
            store, now = self.store(), datetime.now(UTC)
            done = sweep(self.database(), store, most_bytes=self._most_bytes, age_s=self._age_s, now=now)
            rows.swept(self.database())
        except RegistryError as error:
            self._away["store"].begins(error)
            return None
        except LocalError as error:
            self._away["database"].begins(error)
            return None
        finally:
            self._leases_of().leave(lease)
        return done

    # Turns

    @contextmanager
    def _alone_here(self, name: str) -> Iterator[None]:
        """Of this process' threads."""
        with self._lock:
            own, users = self._turns.get(name, (threading.Lock(), 0))
            self._turns[name] = own, users + 1
        try:
            with own:
                yield
        finally:
            with self._lock:
                own, users = self._turns.pop(name)
                if users > 1:
                    self._turns[name] = own, users - 1

    def _take(self, name: str) -> Lease | None:
        """The lease, once nobody else has it; None where the database is away, or another has it for too long."""
        started, pause_s = time.monotonic(), FIRST_PAUSE_S
        while self._away["database"].asks():
            lease = self._asked(lambda _: (self._leases_of().attempt(f"caches {name}"),), None)
            waited_s = time.monotonic() - started
            if lease is None or lease[0] is not None or waited_s > TURN_S:
                self._count(waited_s=waited_s)
                return lease[0] if lease else None
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        return None

    def _end(self, lease: Lease, sending: list[Future[None]]) -> None:
        """Let the next one in, once what was kept is there. These were given to the pool before, so one of its threads
        has each of them, or had."""
        wait(sending)
        if not self._closed:  # else it went with this worker's membership
            self._leases_of().leave(lease)

    # Where they are

    def database(self) -> Database:
        """With the tables of this room. Raises LocalError."""
        database = self._database_of()
        with self._lock:
            if self._made is not database:
                database.make(rows.TABLES)
                self._made = database
            return database

    def store(self) -> ObjectStore | None:
        """The object store; None without one, or while it is away."""
        if not self._address or not self._away["store"].asks():
            return None
        with self._lock:
            if self._store is None:
                try:
                    self._store = open_store(self._address, timeout_s=STORE_TIMEOUT_S, retry_s=STORE_RETRY_S)
                except RegistryPipelinesError as error:
                    self._away["store"].begins(error)
            return self._store

    def _asked(self, act: Callable[[Database], T], otherwise: T) -> T:
        """What the database says; ``otherwise`` while it is away."""
        away = self._away["database"]
        if self._closed or not away.asks():
            return otherwise
        try:
            answer = act(self.database())
        except _REFUSALS:
            raise
        except LocalError as error:
            away.begins(error)
            return otherwise
        away.over()
        return answer

    def _count(self, **more: float) -> None:
        with self._lock:
            for name, value in more.items():
                self._counts[name] = self._counts.get(name, 0) + value


class _Bytes:
    """Bytes as a source."""

    def __init__(self, content: bytes) -> None:
        self._left = memoryview(content)

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _pieces(entry: Entry, source: Source) -> Iterator[bytes]:
    return unpacked(source, entry.digest, stored=entry.stored, size=entry.size)


__all__ = ["Counts", "SharedCaches"]
