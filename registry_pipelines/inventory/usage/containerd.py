"""Hosts with containerd (and, by ``crictl``, with CRI-O): containers, running or not, and images that are there.

Each host is asked over its socket, or by ``ctr`` or ``crictl`` behind a command of the configuration, as ``ssh node7
sudo ctr``. Sources: containerd's ``cmd/ctr/commands`` (its tables), kubernetes-sigs/cri-tools (its JSON, which is that
of the CRI's messages).
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, NamedTuple, Protocol

from registry_pipelines.errors import LocalError, NotFound, RegistryError, ToolMissing
from registry_pipelines.inventory.usage.containerd_api import Container, ContainerdApi, Image, Namespace
from registry_pipelines.inventory.usage.model import Use, split_image_id
from registry_pipelines.redacting import redact_text
from registry_pipelines.threads import run_child

ANSWER_S = 120.0
"""For a command; one over ssh logs in first."""
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,75}\Z")
"""As containerd has them (``identifiers``): they become words of a command, which ssh gives to a shell."""
_NONE = "-"
"""In ctr's tables for an image that a container has not."""


class Host(Protocol):
    """One host."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def namespaces(self) -> Sequence[Namespace]:
        """What it has. Raises RegistryPipelinesError."""
        ...


class SocketHost(NamedTuple):
    """Over gRPC."""

    name: str
    socket: Path

    def namespaces(self) -> Sequence[Namespace]:
        """See Host."""
        api = ContainerdApi(self.socket)
        try:
            return api.namespaces()
        finally:
            api.close()


class CtrHost(NamedTuple):
    """By ``ctr``. command: how it is started there, ``ctr`` with its own arguments last."""

    name: str
    command: tuple[str, ...]

    def namespaces(self) -> Sequence[Namespace]:
        """See Host."""
        names = self._ask("namespaces", "ls", "-q").split()
        if odd := [name for name in names if not _NAMESPACE.match(name)]:
            raise RegistryError(f"{odd[0][:80]!r} is no namespace of containerd", where=self.name)
        return [self._namespace(name) for name in names]

    def _namespace(self, name: str) -> Namespace:
        containers = [Container(row[0], "" if row[1] == _NONE else row[1]) for row in self._table(name, "containers")]
        images = [Image(row[0], row[2]) for row in self._table(name, "images")]
        running = frozenset(row[0] for row in self._table(name, "tasks") if row[2] == "RUNNING")
        return Namespace(name, tuple(containers), tuple(images), running)

    def _table(self, namespace: str, what: str) -> list[list[str]]:
        lines = self._ask("--namespace", namespace, what, "ls").splitlines()
        rows = [line.split() for line in lines[1:] if line.strip()]
        if not lines or not lines[0].isupper() or any(len(row) < 3 for row in rows):
            raise RegistryError(f"`ctr {what} ls` printed no table that is known", where=self.name)
        return rows

    def _ask(self, *arguments: str) -> str:
        return run_command(self.name, (*self.command, *arguments))


class CriHost(NamedTuple):
    """By ``crictl``, which any CRI answers. command: how it is started there, ``crictl`` last."""

    name: str
    command: tuple[str, ...]

    def namespaces(self) -> Sequence[Namespace]:
        """See Host. One namespace, the CRI's."""
        listed = self._ask("ps", "--all", "--output", "json").get("containers")
        stored = self._ask("images", "--output", "json").get("images")
        images: list[Image] = []
        for each in _mappings(stored):
            digests = [split_image_id(str(text))[1] for text in each.get("repoDigests") or ()]
            names = [*(each.get("repoDigests") or ()), *(each.get("repoTags") or ()), str(each.get("id") or "")]
            images += [Image(str(name), digests[0] if digests else "") for name in names if name]
        containers, running = [], set()
        for each in _mappings(listed):
            name = f"{(each.get('metadata') or {}).get('name', '')} ({str(each.get('id', ''))[:12]})"
            containers.append(Container(name, str(each.get("imageRef") or ""), _nanoseconds(each.get("createdAt"))))
            asked = (each.get("image") or {}).get("userSpecifiedImage") or (each.get("image") or {}).get("image")
            containers.append(Container(name, str(asked or ""), _nanoseconds(each.get("createdAt"))))
            if each.get("state") == "CONTAINER_RUNNING":
                running.add(name)
        return [Namespace("", tuple(containers), tuple(images), frozenset(running))]

    def _ask(self, *arguments: str) -> dict[str, Any]:
        try:
            found = json.loads(run_command(self.name, (*self.command, *arguments)))
        except (ValueError, RecursionError) as error:
            raise RegistryError(f"`crictl {arguments[0]}` printed no JSON", where=self.name) from error
        if not isinstance(found, dict):
            raise RegistryError(f"`crictl {arguments[0]}` printed no object", where=self.name)
        return found


class ContainerdSource:
    """See UsageSource. namespaces: patterns; ``crictl`` has none. images: whether images that are there and that no
    container uses count, too."""

    notes: Sequence[str] = ()

    def __init__(
        self, name: str, hosts: Sequence[Host], *, namespaces: Sequence[str] = ("*",), images: bool = True
    ) -> None:
        self.name, self._hosts, self._patterns, self._images = name, hosts, namespaces, images

    def uses(self) -> Iterator[Use]:
        """See UsageSource. A host that does not answer, and a pattern that names no namespace of any host, are errors,
        after what the others said."""
        failed: list[Exception] = []
        names: set[str] = set()
        for host in self._hosts:
            try:
                found = list(host.namespaces())
            except (RegistryError, LocalError) as error:
                failed.append(error)
                continue
            names.update(each.name for each in found)
            for namespace in found:
                if not namespace.name or any(fnmatch.fnmatchcase(namespace.name, one) for one in self._patterns):
                    yield from self._of_namespace(host.name, namespace)
        if failed:
            raise failed[0]
        for pattern in self._patterns:
            if pattern != "*" and not fnmatch.filter(sorted(names), pattern):
                there = ", ".join(sorted(names)) or "there are none"
                raise NotFound(f"no namespace is called {pattern}: {there}", where=self.name)

    def _of_namespace(self, host: str, namespace: Namespace) -> Iterator[Use]:
        digests = {image.name: image.digest for image in namespace.images}
        where = f"host {host}{f', namespace {namespace.name}' if namespace.name else ''}"
        used: set[str] = set()
        for container in namespace.containers:
            if not container.image:
                continue
            digest = digests.get(container.image, "")
            used.update({container.image, digest or container.image})
            yield from _uses(
                _names(container.image, digest, digests),
                digest,
                source=self.name,
                where=f"{where}, container {container.name}",
                since=container.since,
                running=container.name in namespace.running,
            )
        for image in namespace.images if self._images else ():
            if image.name not in used and image.digest not in used and not _is_id(image.name):
                yield from _uses([image.name], image.digest, source=self.name, where=f"{where}, image", weak=True)


def run_command(host: str, command: Sequence[str]) -> str:
    """What a program printed. Raises ToolMissing, LocalError."""
    try:
        done = run_child(command, timeout_s=ANSWER_S)
    except FileNotFoundError as error:
        raise ToolMissing(f"{command[0]} is not installed", where=host, do="Correct `command`") from error
    except TimeoutExpired as error:
        raise LocalError(f"{command[0]} did not end within {ANSWER_S:.0f} s", where=host) from error
    except OSError as error:
        raise LocalError(f"{command[0]} cannot be started: {error.strerror}", where=host) from error
    if done.returncode:
        said = redact_text(done.stderr.decode(errors="replace").strip())[-300:]
        raise LocalError(f"{command[0]} ended with {done.returncode}: {said}", where=host)
    return done.stdout.decode(errors="replace")


def _uses(names: Sequence[str], digest: str, **more: Any) -> Iterator[Use]:
    for name in names:
        reference, told, config = split_image_id(name)
        if config:
            yield Use(config=config, digest="", **more)
        else:
            yield Use(image=reference or name, digest=digest or told, **more)


def _names(image: str, digest: str, stored: Mapping[str, str]) -> list[str]:
    """What an image is called: as the container has it; where that is an id alone, by all names with its digest."""
    if not _is_id(image):
        return [image]
    others = [name for name, other in stored.items() if digest and other == digest and not _is_id(name)]
    return [image, *others]


def _is_id(name: str) -> bool:
    return bool(split_image_id(name)[2])


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _nanoseconds(value: Any) -> datetime | None:
    """crictl writes a whole number of nanoseconds as text."""
    try:
        return datetime.fromtimestamp(int(value) / 1e9, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


__all__ = ["ContainerdSource", "CriHost", "CtrHost", "SocketHost", "run_command"]
