"""Starts the embedded registries of a configuration, all in one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from registry_pipelines.config import Config, EmbeddedRegistry
from registry_pipelines.errors import LocalError, StateLocked
from registry_pipelines.versions import claim_state

if TYPE_CHECKING:  # loaded where a registry is served
    from registry_pipelines.registry.embedded import EmbeddedServer

LOCK_FILE = "serving.lock"
"""Beside a registry's folder; whoever serves the folder holds a lock on it (flock: it goes with the process, however
that ends) and has written its address into it."""


@dataclass(frozen=True)
class Served:
    """A registry that is listening. ours: this process serves it; else another one does, from the same folder."""

    name: str
    url: str
    root: Path
    ours: bool


@contextmanager
def ensure_registries(config: Config, names: Collection[str] | None = None) -> Iterator[list[Served]]:
    """Have the embedded registries of the configuration listening; at the end stop those that were started here.

    names: only these; all when None.

    A registry that another process serves from the same folder at the same address is used as it is. Raises PortTaken
    when a stranger listens there, StateLocked when the folder is served at another address, StateTooNew.
    """
    claim_state(config.state)
    ours = [each for each in config.registries.values() if isinstance(each, EmbeddedRegistry)]
    wanted = [each for each in ours if names is None or each.name in names]
    if wanted:
        from registry_pipelines.registry.embedded.running import raise_file_limit

        raise_file_limit()
    with ExitStack() as stack:
        yield [_ensure(stack, registry, config.root(registry)) for registry in wanted]


@contextmanager
def serve(config: Config) -> Iterator[list[Served]]:
    """Like :func:`ensure_registries`, but every registry is served here. Raises StateLocked when another process serves
    one of them already."""
    with ensure_registries(config) as served:
        others = [each.name for each in served if not each.ours]
        if others:
            raise StateLocked(
                f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} served by another process already",
                where=str(config.state),
                do="Use that one, or end it first",
            )
        yield served


def _ensure(stack: ExitStack, registry: EmbeddedRegistry, root: Path) -> Served:
    scheme = "https" if registry.tls_cert else "http"
    url = f"{scheme}://{registry.address}"
    holder = _lock(stack, root, registry.address)
    if holder is None:
        stack.enter_context(server(registry, root))
        return Served(registry.name, url, root, ours=True)
    if holder != registry.address:
        raise StateLocked(
            f"another process serves this folder at {holder or 'an unknown address'}",
            where=str(root),
            do="End it, or give the registry that address",
        )
    return Served(registry.name, url, root, ours=False)


def _lock(stack: ExitStack, root: Path, address: str) -> str | None:
    """None when the lock is ours now; else the address its holder wrote."""
    path = root.with_name(f"{root.name}.{LOCK_FILE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file: IO[str] = stack.enter_context(path.open("a+"))
    except OSError as error:
        raise LocalError(f"cannot be written: {error.strerror}", where=str(path)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return file.read(300).strip()
    os.ftruncate(file.fileno(), 0)
    file.write(address + "\n")
    file.flush()
    return None


def server(registry: EmbeddedRegistry, root: Path) -> EmbeddedServer:
    """The server of a configured registry, not started."""
    from registry_pipelines.registry.embedded import EmbeddedServer

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
    )
