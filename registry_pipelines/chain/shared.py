"""The state that a configuration shares with other workers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from msgspec.structs import replace

from registry_pipelines.config import Config, EmbeddedRegistry
from registry_pipelines.shared.settings import Shared
from registry_pipelines.shared.state import SharedState, open_shared


def shared_of(config: Config) -> SharedState | None:
    """What the configuration shares, None where it names no database; the same one for each chain of this process.
    Nothing is asked before it is used."""
    return open_shared(config.shared, configuration=digest_of(config), place=str(config.path))


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
    said = repr(bare).replace(str(config.path.parent), "")
    return hashlib.sha256(said.encode()).hexdigest()


__all__ = ["digest_of", "shared_of"]
