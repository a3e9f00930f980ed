"""Starts the embedded registries of a configuration, all in one process."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from registry_pipelines.config import Config, EmbeddedRegistry
from registry_pipelines.config.machine import SERVED_BY
from registry_pipelines.errors import InputError, LocalError, StateLocked
from registry_pipelines.versions import claim_state
from registry_pipelines.waits import Wait

if TYPE_CHECKING:  # loaded where a registry is served
    from registry_pipelines.registry.embedded import EmbeddedServer

LOCK_FILE = "serving.lock"
"""Beside a registry's folder; whoever serves the folder holds a lock on it (flock: it goes with the process, however
that ends) and has written its address into it."""


USERS_FILE = "users.lock"
"""Beside it; who uses what another process serves holds it shared, and who serves waits for them at its end."""

START_S = 10.0
"""So long a registry may take from its lock to its first answer; a tenth of a second is usual."""

LOOK_S = 0.05


class Served(msgspec.Struct, frozen=True):
    """A registry that is listening. ours: this process serves it; else another one does, from the same folder."""

    name: str
    url: str
    root: Path
    ours: bool


@contextmanager
def ensure_registries(
    config: Config, names: Collection[str] | None = None, *, until_unused: bool = True, listen: str = ""
) -> Iterator[list[Served]]:
    """Have the embedded registries of the configuration listening; at the end stop those that were started here.

    names: only these; all when None. until_unused: at the end wait first for other processes that use what is served
    here, so that of two commands at once the first that is done does not take the registries with it; not after an
    error. listen: an address that those started here listen on, instead of their own. Where the configuration is used
    with ``REGISTRY_PIPELINES_SERVED_BY`` nothing is started, and nobody asked.

    A registry that another process serves from the same folder at the same address is used as it is, as soon as it
    listens. Raises PortTaken when a stranger listens there, StateLocked when the folder is served at another address,
    StateTooNew.
    """
    claim_state(config.state)
    ours = [each for each in config.registries.values() if isinstance(each, EmbeddedRegistry)]
    wanted = [each for each in ours if names is None or each.name in names]
    if config.served_by:
        yield [Served(each.name, _url(each, each.client_address), config.root(each), ours=False) for each in wanted]
        return
    if wanted:
        from registry_pipelines.registry.embedded.running import raise_file_limit

        raise_file_limit()
    # What we use of others is let go first: of two processes that serve each other none would begin to end.
    with ExitStack() as serving, ExitStack() as using:
        yield [_ensure(serving, using, each, config.root(each), until_unused, listen) for each in wanted]


@contextmanager
def serve(config: Config, *, listen: str = "") -> Iterator[list[Served]]:
    """Like :func:`ensure_registries`, but every registry is served here, until the end and no longer. Raises
    StateLocked when another process serves one of them already, InputError where another machine does."""
    if config.served_by:
        raise InputError(
            f"{SERVED_BY} says that {config.served_by} serves the registries", do="Unset it on the machine that does"
        )
    with ensure_registries(config, until_unused=False, listen=listen) as served:
        others = [each.name for each in served if not each.ours]
        if others:
            raise StateLocked(
                f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} served by another process already",
                where=str(config.state),
                do="Use that one, or end it first",
            )
        yield served


def _ensure(
    serving: ExitStack, using: ExitStack, registry: EmbeddedRegistry, root: Path, until_unused: bool, listen: str
) -> Served:
    url = _url(registry, registry.address)
    until = time.monotonic() + START_S
    while True:
        holder = _lock(serving, root, registry.address)
        if holder is None:
            serving.enter_context(server(replace(registry, host=listen) if listen else registry, root))
            if until_unused:
                serving.enter_context(_until_unused(root, registry.address))
            return Served(registry.name, url, root, ours=True)
        used = _use(root)
        over = time.monotonic() >= until
        if used and holder == registry.address and (_listens(registry) or over):
            using.enter_context(used)
            return Served(registry.name, url, root, ours=False)
        if used:
            used.close()
        if over or (used and holder not in ("", registry.address)):
            raise StateLocked(
                f"another process serves this folder at {holder or 'an unknown address'}",
                where=str(root),
                do="End it, or give the registry that address",
            )
        time.sleep(LOOK_S)  # it has only just begun, or is about to end


def _url(registry: EmbeddedRegistry, address: str) -> str:
    return f"{'https' if registry.tls_cert else 'http'}://{address}"


def _lock(stack: ExitStack, root: Path, address: str) -> str | None:
    """None when the lock is ours now; else the address its holder wrote, empty when it has not yet."""
    file = _opened(root, LOCK_FILE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            return file.read(300).strip()
    stack.enter_context(file)
    os.ftruncate(file.fileno(), 0)
    file.write(address + "\n")
    file.flush()
    return None


def _use(root: Path) -> IO[str] | None:
    """Say that this process uses what another one serves, until the file is closed; None when that one ends."""
    file = _opened(root, USERS_FILE)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextmanager
def _until_unused(root: Path, address: str) -> Iterator[None]:
    """At the end wait until no other process uses what is served, and let none begin to."""
    yield
    with _opened(root, USERS_FILE) as file, Wait(address, "another command uses it"):
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOOK_S)


def _opened(root: Path, name: str) -> IO[str]:
    path = root.with_name(f"{root.name}.{name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise LocalError(f"cannot be written: {error.strerror}", where=str(path)) from error
    file.seek(0)
    return file


def _listens(registry: EmbeddedRegistry) -> bool:
    try:
        socket.create_connection((registry.host, registry.port), timeout=LOOK_S).close()
    except OSError:
        return False
    return True


def server(registry: EmbeddedRegistry, root: Path) -> EmbeddedServer:
    """The server of a configured registry, not started."""
    from registry_pipelines.registry.embedded import EmbeddedServer
    from registry_pipelines.registry.embedded.access import AccessLogFile

    return EmbeddedServer(
        root,
        host=registry.host,
        port=registry.port,
        htpasswd=registry.htpasswd,
        users={name: password.reveal() for name, password in registry.users.items()},
        tokens=registry.tokens,
        anonymous_pull=registry.anonymous_pull,
        certificate=registry.tls_cert,
        key=registry.tls_key,
        on_exchange=AccessLogFile(registry.access_log) if registry.access_log else None,
    )
