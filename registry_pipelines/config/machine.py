"""What one machine says of itself beside the configuration, which is the same file on all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from registry_pipelines.config.document import Problems
from registry_pipelines.config.model import Config
from registry_pipelines.config.registries import EmbeddedRegistry, RegistryPlace
from registry_pipelines.settings import HOST
from registry_pipelines.shared.settings import from_environment

STATE = "REGISTRY_PIPELINES_STATE"
"""Names this machine's own folder, whatever the file says under ``state``."""

SERVED_BY = "REGISTRY_PIPELINES_SERVED_BY"
"""Names the machine that serves the embedded registries: a host without a port. This process then opens none of them,
and asks that host at their ports."""


def on_this_machine(config: Config, env: Mapping[str, str], problems: Problems) -> Config:
    """A configuration as this machine uses it. Paths are absolute before and after. Notes a problem for a variable that
    says nothing that can be used."""
    shared, found = from_environment(config.shared, env)
    for path, message in found:
        problems.add(0, path, message)
    config = replace(config, shared=shared)
    if state := env.get(STATE):
        if not Path(state).is_absolute():
            problems.add(0, STATE, f"{state!r} is not an absolute path")
        config = _moved(config, Path(state))
    if host := env.get(SERVED_BY):
        if not re.search(HOST.expression, host) or re.search(r"[^]]:[0-9]+\Z|\]:[0-9]+\Z", host) or "\n" in host:
            problems.add(0, SERVED_BY, f"{host[:120]!r} is not a host; write its name or address, without a port")
            return config
        config = replace(config, served_by=host, registries=_served_by(host, config, problems))
    return config


def _moved(config: Config, state: Path) -> Config:
    """The configuration with another state folder. What it puts below the one that it names comes along: that folder
    may be missing here, or be read-only."""

    def there(path: Path | None) -> Path | None:
        return state / path.relative_to(config.state) if path and path.is_relative_to(config.state) else path

    registries = {
        name: replace(each, root=there(each.root), access_log=there(each.access_log))
        if isinstance(each, EmbeddedRegistry)
        else each
        for name, each in config.registries.items()
    }
    return replace(config, state=state, registries=registries)


def _served_by(host: str, config: Config, problems: Problems) -> dict[str, RegistryPlace]:
    """The registries with the addresses at which another machine serves the embedded ones. One that says under which
    name clients reach it is reached so from here, too."""
    found: dict[str, RegistryPlace] = {}
    ports: dict[int, str] = {}
    for name, registry in config.registries.items():
        if isinstance(registry, EmbeddedRegistry) and not registry.reachable_as:
            if (first := ports.setdefault(registry.port, name)) != name:
                problems.add(0, SERVED_BY, f"{name} and {first} have one port, and {host} serves both")
            registry = replace(registry, reachable_as=f"{host}:{registry.port}")
        found[name] = registry
    return found
