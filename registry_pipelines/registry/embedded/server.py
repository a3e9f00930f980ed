"""The embedded registry: its application and its content, behind ``http_server``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from registry_pipelines.errors import LocalError
from registry_pipelines.registry.embedded.application import Application
from registry_pipelines.registry.embedded.auth import Gate, User, read_htpasswd
from registry_pipelines.registry.embedded.garbage import GRACE_S, Collected, collect_garbage
from registry_pipelines.registry.embedded.http_messages import Deadlines
from registry_pipelines.registry.embedded.http_server import MAX_CONNECTIONS, Exchange, Handler, HttpServer
from registry_pipelines.registry.embedded.storage import Store
from registry_pipelines.registry.embedded.uploads import Uploads

GARBAGE_INTERVAL_S = 3600.0


class EmbeddedServer(HttpServer):
    """An OCI registry (distribution-spec 1.1) on one address, with its content below ``root``.

    root: made when missing; an OCI layout per repository. port 0: a free one.
    users: name to :class:`User` or password; htpasswd: a file of bcrypt lines; neither means open to all.
    tokens: bearer tokens with an own endpoint instead of basic. anonymous_pull: reading needs no account.
    certificate, key: PEM files; TLS when given. require_complete: refuse image manifests whose blobs are missing.
    on_exchange: called after each answer, from many threads. wrap: puts something around the handler (faults in tests).
    garbage_interval_s, garbage_grace_s: the own collection of garbage; an interval of None switches it off.

    ``start`` raises PortTaken, LocalError, InputError. Safe to kill at any moment.
    """

    def __init__(
        self,
        root: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Mapping[str, User | str] | None = None,
        tokens: bool = False,
        anonymous_pull: bool = False,
        htpasswd: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        require_complete: bool = False,
        deadlines: Deadlines | None = None,
        max_connections: int = MAX_CONNECTIONS,
        garbage_interval_s: float | None = GARBAGE_INTERVAL_S,
        garbage_grace_s: float = GRACE_S,
        on_exchange: Callable[[Exchange], None] | None = None,
        wrap: Callable[[Handler], Handler] | None = None,
    ) -> None:
        self.root = Path(root)
        self._garbage_interval_s, self._garbage_grace_s = garbage_interval_s, garbage_grace_s
        accounts = {name: user if isinstance(user, User) else User(user) for name, user in (users or {}).items()}
        if htpasswd is not None:
            accounts.update(read_htpasswd(htpasswd))
        gate = Gate(accounts, tokens=tokens, anonymous_pull=anonymous_pull)
        self.store = Store(self.root)
        self.uploads = Uploads()
        application: Handler = Application(self.store, self.uploads, gate, require_complete=require_complete)
        super().__init__(
            wrap(application) if wrap else application,
            host=host,
            port=port,
            certificate=certificate,
            key=key,
            deadlines=deadlines,
            max_connections=max_connections,
            on_exchange=on_exchange,
        )

    def start(self) -> Self:
        """Listen and serve in background threads. Raises PortTaken, LocalError, InputError."""
        if self._listener is not None:
            return self
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalError(f"the root folder cannot be made: {error.strerror}", where=str(self.root)) from error
        super().start()
        if self._garbage_interval_s is not None:
            self._spawn(self._collect_regularly, self._garbage_interval_s)
        return self

    def collect_garbage(
        self, *, grace_s: float = GRACE_S, dry_run: bool = False, only: Collection[str] = ()
    ) -> Collected:
        """Free unreferenced blobs and abandoned uploads now (see ``garbage``)."""
        return collect_garbage(self.store, self.uploads, grace_s=grace_s, dry_run=dry_run, only=only)

    def _collect_regularly(self, interval_s: float) -> None:
        while not self._stopping.wait(interval_s):
            with suppress(OSError):
                self.collect_garbage(grace_s=self._garbage_grace_s)


__all__ = ["EmbeddedServer"]
