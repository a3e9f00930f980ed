"""The state that a configuration shares with other workers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from registry_pipelines.config import Config, EmbeddedRegistry
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.behind import attach
from registry_pipelines.registry.client.locks import share_locks
from registry_pipelines.shared.settings import Shared
from registry_pipelines.shared.state import SharedState, open_shared

WRITER_S = 30.0
"""How long a worker waits for another that writes the same fallback tag; that takes three requests."""
PAUSE_S = 0.1


def shared_of(config: Config) -> SharedState | None:
    """What the configuration shares, None where it names no database; the same one for each chain of this process. The
    caches of its state folder find there what other workers found. Nothing is asked before it is used."""
    shared = open_shared(config.shared, configuration=digest_of(config), place=str(config.path))
    if shared is not None:
        share_locks(partial(_held, shared))
        shared.folder = shared.folder or config.state / "shared"
        attach(config.state, shared.caches)
    return shared


@contextmanager
def _held(shared: SharedState, name: str) -> Iterator[None]:
    """A lease for the moment that a fallback tag is written in. Whoever does not get it writes all the same, and reads
    what came of it."""
    until, lease = time.monotonic() + WRITER_S, None
    with suppress(RegistryPipelinesError):
        while (lease := shared.leases.attempt(name)) is None and time.monotonic() < until:
            time.sleep(PAUSE_S)
    try:
        yield
    finally:
        if lease is not None:
            shared.leases.leave(lease)


def digest_of(config: Config) -> str:
    """A digest of what a configuration says: the same on each machine, whatever its folder and whoever serves its
    registries; secrets are not in it."""
    registries = {
        name: replace(each, reachable_as=None) if isinstance(each, EmbeddedRegistry) else each
        for name, each in config.registries.items()
    }
    bare = replace(
        config,
        path=Path(),
        state=Path(),
        notes=(),
        spared=(),
        lines={},
        served_by="",
        shared=Shared(),
        registries=registries,
    )
    # Files below `state` (an access log) are below each machine's own folder, which may lie beside the configuration.
    below = repr(config.state / "x")[: -len("x')")]
    said = repr(bare).replace(below, "PosixPath('state/").replace(str(config.path.parent), "")
    return hashlib.sha256(said.encode()).hexdigest()


__all__ = ["digest_of", "shared_of"]
