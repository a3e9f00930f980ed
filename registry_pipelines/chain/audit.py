"""Who did what to the registries of a configuration: logs read, kept, and held against what is signed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from registry_pipelines.chain.stages import Chain
    from registry_pipelines.report.audit.model import Event
    from registry_pipelines.report.audit.store import AuditStore


def folder_of(session: Session) -> Path:
    """Where events are kept."""
    return session.config.state / "report" / "audit"


def store_of(session: Session) -> AuditStore:
    """What is kept; nothing is read yet."""
    from registry_pipelines.report.audit.store import AuditStore

    return AuditStore(folder_of(session))


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

    where = None
    for name, value in (("digest", digest), ("repository", repository)):
        if value is not None:
            where = only((value,), name) if where is None else where & only((value,), name)
    return list(store_of(session).events(since=since, where=where))
