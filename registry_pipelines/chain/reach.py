"""Whether the registries of a configuration answer and let us read; for ``config check --online``. Nothing is written.

What is asked: the API's own address with our credentials, then the tags of repositories that the configuration names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass

from registry_pipelines.chain.places import address, client_of
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import (
    Config,
    DistributionRegistry,
    EcrPublicRegistry,
    EcrRegistry,
    EmbeddedRegistry,
    GarRegistry,
    RegistryPlace,
)
from registry_pipelines.errors import NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.registry.client.credentials import CredentialSource
from registry_pipelines.registry.ecr.hosts import read_host
from registry_pipelines.registry.protocol import Pinged, Registry
from registry_pipelines.threads import Pool

LIMIT_S = 15.0
"""For all registries together, which are asked at once. One that is down is tried again for some 8 s."""

MAX_REPOSITORIES = 8
"""Looked at in each registry: accounts may differ by repository, and a fleet has thousands."""


@dataclass(frozen=True)
class Reached:
    """What one registry did."""

    registry: str
    where: str
    """Host, or folder."""
    login: str
    """Whom we say we are: a user name, ``AWS credentials``, ``a token``; ``nobody`` without."""
    read: str
    """What was read, in words; why it was not."""
    ok: bool
    seconds: float
    exit_code: int = 0
    error: RegistryPipelinesError | None = None
    """Why it was not read; None also for one that did not answer in time."""

    def row(self) -> dict[str, str | float | bool]:
        """For tables and JSON."""
        return {
            "registry": self.registry,
            "where": self.where,
            "login": self.login,
            "read": self.read,
            "write": "not tried",
            "ok": self.ok,
            "seconds": round(self.seconds, 1),
        }


def reach(config: Config, *, limit_s: float = LIMIT_S) -> list[Reached]:
    """Ask every registry, all at once; one answer for each, in the order of the configuration. Embedded registries are
    served meanwhile. limit_s: who has not answered by then is told so. Raises nothing of what a registry does."""
    pool = Pool(len(config.registries), "reach")
    with ExitStack() as stack:
        unserved = {name: error for name in config.registries if (error := _serve(stack, config, name))}
        started = time.monotonic()
        asked = {
            name: pool.submit(_ask, config, settings, unserved.get(name))
            for name, settings in config.registries.items()
        }
        wait(asked.values(), timeout=limit_s)
        answers = [_answer(config.registries[name], future, limit_s, started) for name, future in asked.items()]
        pool.stop()
    return answers


def _serve(stack: ExitStack, config: Config, name: str) -> RegistryPipelinesError | None:
    """Have an embedded registry listening until the stack is closed; why that cannot be."""
    try:
        stack.enter_context(ensure_registries(config, {name}))
    except RegistryPipelinesError as error:
        return error
    return None


def _answer(settings: RegistryPlace, future: Future[Reached], limit_s: float, started: float) -> Reached:
    if future.done():
        return future.result()
    late = f"no answer within {limit_s:g} s"
    spent = time.monotonic() - started
    return Reached(settings.name, _where(settings), "", late, ok=False, seconds=spent, exit_code=Unavailable.exit_code)


def _ask(config: Config, settings: RegistryPlace, unserved: RegistryPipelinesError | None) -> Reached:
    started, login = time.monotonic(), ""
    failed: RegistryPipelinesError | None = None
    try:
        if unserved is not None:
            raise unserved
        login = _login(settings)
        read = _read(client_of(settings), list(dict.fromkeys(_repositories(config, settings.name))))
    except RegistryPipelinesError as error:
        read, failed = str(error), error
    code, seconds = failed.exit_code if failed else 0, time.monotonic() - started
    return Reached(settings.name, _where(settings), login, read, failed is None, seconds, code, failed)


def _read(registry: Registry, repositories: list[str]) -> str:
    if isinstance(registry, Pinged):
        registry.ping()
    missing, there = [], []
    for repository in repositories[:MAX_REPOSITORIES]:
        try:
            next(iter(registry.tags(repository)), None)
            there.append(repository)
        except NotFound:
            missing.append(repository)
    unread = len(repositories) - MAX_REPOSITORIES
    parts = [
        f"ok: {', '.join(there)}" if there else "ok",
        f"not there yet: {', '.join(missing)}" if missing else "",
        f"{unread} more not looked at" if unread > 0 else "",
    ]
    return "; ".join(filter(None, parts))


def _repositories(config: Config, name: str) -> Iterator[str]:
    """What the configuration reads or writes in a registry and can name without asking."""
    for image in config.images.values():
        if image.registry == name:
            yield image.repository
        for target in (config.targets[each] for each in image.targets):
            if target.registry == name:
                yield config.repository_at(image, target)
    for sync in config.syncs.values():
        if sync.source == name:
            yield from (each for each in sync.repositories if not set(each) & set("*?["))


def _login(settings: RegistryPlace) -> str:
    """Whom the registry is told we are. Raises ConfigInvalid, ToolMissing, Unauthorized (a helper failed)."""
    if isinstance(settings, EmbeddedRegistry):
        return next(iter(settings.users), "nobody")
    if isinstance(settings, EcrRegistry | EcrPublicRegistry):
        return settings.role or "AWS credentials"
    if isinstance(settings, GarRegistry):
        return settings.impersonate or "Google credentials"
    if not isinstance(settings, DistributionRegistry):
        return ""
    if settings.username:
        return settings.username
    if read_host(settings.host) and settings.docker_config is None:
        return "AWS credentials"
    found = CredentialSource(settings.host, docker_config=settings.docker_config).find()
    return found.username or ("nobody" if found.anonymous else "a token")


def _where(settings: RegistryPlace) -> str:
    return address(settings) or str(getattr(settings, "root", "") or getattr(settings, "address", ""))
