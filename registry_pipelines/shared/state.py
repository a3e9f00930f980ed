"""The open state that workers share: one for each process and database, however many chains it runs."""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from registry_pipelines.errors import LocalError
from registry_pipelines.shared.database import Database, Transaction, open_server
from registry_pipelines.shared.leases import TABLES, Leases
from registry_pipelines.shared.membership import Membership, Worker
from registry_pipelines.shared.settings import Shared

if TYPE_CHECKING:  # much works without
    from registry_pipelines.shared.budgets import Budgets
    from registry_pipelines.shared.caches import SharedCaches
    from registry_pipelines.shared.stored_documents import StoredDocuments

T = TypeVar("T")


class SharedState:
    """What workers share, opened when it is first used: the first use of the database makes this process a member (and
    raises what :class:`~registry_pipelines.shared.membership.Membership` raises). Safe to use from many threads."""

    def __init__(self, settings: Shared, worker: Worker | None = None) -> None:
        """No network yet."""
        self.settings = settings
        self._worker = worker or Worker()
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._membership: Membership | None = None
        self._leases: Leases | None = None
        self._budgets: Budgets | None = None
        self._caches: SharedCaches | None = None
        self.folder: Path | None = None
        """This machine's own, for what is on its way; the system's for temporary files unless told."""

    @property
    def database(self) -> Database:
        """The tables that all workers see. Raises InputError, LocalError, StateLocked, StateTooNew, ToolMissing."""
        with self._lock:
            if self._membership is not None:
                self._membership.require()
            if self._database is None:
                database = open_server(self.settings.database.reveal())
                try:
                    leases = Leases(database, lambda: self.membership)
                    membership = Membership(database, self.settings, self._worker, beaten=leases.renewed)
                    database.make(TABLES)
                    leases.sweep()
                except BaseException:
                    database.close()
                    raise
                self._database, self._leases, self._membership = database, leases, membership
            return self._database

    @property
    def membership(self) -> Membership:
        """Who works on it, this process among them. Raises as :attr:`database`."""
        return self._opened(lambda: self._membership)

    @property
    def joined(self) -> bool:
        """Whether this process is a member by now; nothing is asked."""
        return self._membership is not None

    @property
    def leases(self) -> Leases:
        """What one alone does at a time. Raises as :attr:`database`."""
        return self._opened(lambda: self._leases)

    @property
    def budgets(self) -> Budgets:
        """Rates, stops and quotas of registries that all keep together. Raises as :attr:`database`."""
        from registry_pipelines.shared.budgets import Budgets

        with self._lock:
            if self._budgets is None:
                self._budgets = Budgets(self.database)
            return self._budgets

    def documents(self, folder: Path) -> StoredDocuments:
        """The documents of the state. folder: of this machine's state, for copies that are read by path. Raises as
        :attr:`database`."""
        from registry_pipelines.shared.stored_documents import TABLES, StoredDocuments

        self.database.make(TABLES)

        def held(name: str, what: str, do: str) -> AbstractContextManager[object]:
            return self.leases.held(name, what, do=do)

        def guard(database: Transaction) -> None:
            self.leases.guard(database)

        return StoredDocuments(self.database, held, guard, folder / "copies")

    def _opened(self, part: Callable[[], T | None]) -> T:
        with self._lock:
            _ = self.database
            found = part()
        if found is None:
            raise AssertionError("an open database without its parts")
        return found

    @property
    def caches(self) -> SharedCaches:
        """What workers keep for each other to save time. Nothing is asked before it is used."""
        from registry_pipelines.shared.caches import SharedCaches  # much works without

        with self._lock:
            if self._caches is None:
                self._caches = SharedCaches(
                    lambda: self.database,
                    lambda: self.leases,
                    self.settings.store,
                    self.folder or Path(tempfile.gettempdir()),
                    most_bytes=self.settings.caches.max_size,
                    age_s=self.settings.caches.max_age.total_seconds(),
                )
            return self._caches

    def close(self) -> None:
        """Leave, and close the connections. It opens anew when it is used again."""
        if self._caches is not None:
            self._caches.close()
        with self._lock:
            database, membership, budgets = self._database, self._membership, self._budgets
            self._database = self._membership = self._leases = self._budgets = self._caches = None
        if budgets:
            budgets.close()
        if membership:
            membership.close()
        if database:
            database.close()


_OPEN: dict[tuple[int, str, str, str], SharedState] = {}
_OPENING = threading.Lock()
os.register_at_fork(after_in_child=_OPEN.clear)  # connections are the parent's, and so is its name


def open_shared(settings: Shared, *, configuration: str = "", place: str = "") -> SharedState | None:
    """The state that a configuration shares with other workers, None where it names no database. The same one for all
    of this process that ask with the same configuration; closed at its end. configuration, place: see Worker."""
    if not settings.database:
        return None
    key = (os.getpid(), settings.database.reveal(), repr(settings), configuration)
    with _OPENING:
        if key not in _OPEN:
            if not _OPEN:
                atexit.register(close_all)
            _OPEN[key] = SharedState(settings, Worker(configuration=configuration, place=place))
        return _OPEN[key]


def close_all() -> None:
    """Leave every state of this process; it opens anew when it is used again."""
    with _OPENING:
        states = [state for (process, *_), state in _OPEN.items() if process == os.getpid()]
        _OPEN.clear()
    for state in states:
        with suppress(LocalError):
            state.close()


__all__ = ["SharedState", "close_all", "open_shared"]
