"""Workers on a shared database, several in one process: each is a member of its own, with connections of its own."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.settings import Secret
from registry_pipelines.shared.membership import Worker
from registry_pipelines.shared.settings import Shared
from registry_pipelines.shared.state import SharedState
from registry_pipelines.transfer.blob.journal import Journal

_OPEN: list[SharedState] = []


def worker(url: str, as_one: Worker | None = None, **settings: Any) -> SharedState:
    """One more worker of the database at ``url``; it leaves at the end of the test. settings: of ``shared``."""
    state = SharedState(Shared(database=Secret(url), **settings), as_one)
    _OPEN.append(state)
    return state


def shared_journal(url: str, *rest: Any) -> Journal:
    """The journal of one more worker."""
    return Journal.on(worker(url), *rest)


def all_leave() -> None:
    """Close those that are open."""
    while _OPEN:
        with suppress(RegistryPipelinesError):
            _OPEN.pop().close()
