"""Which clients are on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.errors import InputError
from registry_pipelines.recover.failover.drill import processes
from registry_pipelines.recover.failover.drill.containerd import CRI, Containerd
from registry_pipelines.recover.failover.drill.docker import Docker
from registry_pipelines.recover.failover.drill.kinds import Kind
from registry_pipelines.recover.failover.drill.model import Client

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where daemons stand that are not in every PATH."""
STORE_SINCE = 24
"""Docker's first version whose ``daemon.json`` can ask for containerd's store of images."""
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)")


class Found(NamedTuple):
    """What is here, and one sentence for each client that is not."""

    clients: list[Client]
    absent: list[str]


def find_clients(folders: Sequence[Path] = (), kinds: Sequence[Kind] = ()) -> Found:
    """Clients of this machine and of folders with more of them (``containerd`` beside ``ctr``, ``dockerd`` beside
    ``docker``), one of each kind and version. kinds: only these; all unless told. Raises InputError: a folder has
    none."""
    found, absent = list[Client](), list[str]()
    wanted = set(kinds or Kind)
    for folder in (None, *folders):
        before = len(found)
        here: list[Client] = []
        if wanted & {Kind.CONTAINERD, Kind.KUBELET}:
            here += _containerds(folder, absent)
        if wanted & {Kind.DOCKER, Kind.DOCKER_CONTAINERD}:
            here += _dockers(folder, absent)
        for client in here:
            if client.kind in wanted and (client.kind, client.version) not in {(c.kind, c.version) for c in found}:
                found.append(client)
        if folder is not None and len(found) == before and not _programs(folder):
            raise InputError(
                "the folder has no client",
                where=str(folder),
                do="It must hold containerd and ctr, or dockerd and docker",
            )
    return Found(found, absent)


def _programs(folder: Path) -> bool:
    return any(_find(name, folder) for name in ("containerd", "dockerd"))


def _find(name: str, folder: Path | None) -> Path | None:
    path = str(folder) if folder else os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS))
    found = shutil.which(name, path=path)
    return Path(found).absolute() if found else None


def _pair(daemon: str, client: str, folder: Path | None, absent: list[str]) -> tuple[Path, Path] | None:
    programs = _find(daemon, folder), _find(client, folder)
    if programs[0] and programs[1]:
        return programs[0], programs[1]
    if folder is None:
        absent.append(f"{daemon}: {daemon if programs[0] is None else client} is not on this machine")
    elif programs[0]:
        absent.append(f"{programs[0]}: {client} is not beside it")
    return None


def _containerds(folder: Path | None, absent: list[str]) -> Iterator[Client]:
    if (pair := _pair("containerd", "ctr", folder, absent)) is None:
        return
    version = _version(pair[0])
    yield Containerd(*pair, version, Kind.CONTAINERD)
    if CRI not in processes.output([str(pair[0]), "config", "default"]):
        absent.append(f"{Kind.KUBELET}: containerd {version} was built without CRI")
    elif importlib.util.find_spec("grpc") is None:
        absent.append(
            f"{Kind.KUBELET}: grpcio is not installed, by which CRI is asked; it comes with the extra `containerd`"
        )
    else:
        yield Containerd(*pair, version, Kind.KUBELET)


def _dockers(folder: Path | None, absent: list[str]) -> Iterator[Client]:
    if (pair := _pair("dockerd", "docker", folder, absent)) is None:
        return
    version = _version(pair[0])
    yield Docker(*pair, version, Kind.DOCKER)
    if version and int(version.partition(".")[0]) >= STORE_SINCE:
        yield Docker(*pair, version, Kind.DOCKER_CONTAINERD)


def _version(program: Path) -> str:
    found = _VERSION.search(processes.output([str(program), "--version"]))
    return found[1] if found else ""


__all__ = ["Found", "find_clients"]
