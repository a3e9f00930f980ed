"""Who pulls in ``stream bench pull``: our client, Docker's engine, containerd; each with how it forgets an image."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from registry_pipelines.errors import InputError, LocalError, ToolMissing
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.pull.pulling import pull_to_folder
from registry_pipelines.stream.pull.runtimes import Containerd
from registry_pipelines.threads import run_child

NAMESPACE = "registry-pipelines-bench"
"""containerd's, of the benchmark alone."""

DOCKER_SOCKET = "unix:///var/run/docker.sock"
"""Where the package looks unless DOCKER_HOST says."""

REMOVE_TIMEOUT_S = 600.0
"""For containerd to delete an image with all its files."""

_SAID_BYTES = 1000


@dataclass(frozen=True)
class PulledImage:
    """What is pulled."""

    place: Place
    selector: str
    """Tag or digest."""

    @property
    def reference(self) -> str:
        """As runtimes take it."""
        return f"{self.place}{'@' if ':' in self.selector else ':'}{self.selector}"

    @property
    def local(self) -> bool:
        """Whether its registry is on this machine."""
        return is_loopback(self.place.registry.name.rpartition(":")[0] or self.place.registry.name)


class Puller(Protocol):
    """One client. Whatever it has of an image before it is asked the first time is not ours to delete."""

    key: str
    title: str

    def missing(self, images: list[PulledImage], timeout_s: float) -> str:
        """Why it cannot be measured here, in one sentence; empty where it can."""
        ...

    def pull(self, image: PulledImage, timeout_s: float) -> None:
        """Fetch and unpack it. Raises LocalError, the RegistryError family."""
        ...

    def forget(self, image: PulledImage) -> None:
        """Have nothing of it. Raises LocalError."""
        ...

    def close(self) -> None:
        """Let go what it has open."""
        ...


class Ours:
    """``stream pull`` to a folder, in this process, as the others' daemons run already."""

    key, title = "ours", "ours, to a folder"

    def __init__(self, folder: Path) -> None:
        """folder: on the disk that is to be measured."""
        self._parent = folder
        self._folder: Path | None = None

    def missing(self, images: list[PulledImage], timeout_s: float) -> str:
        """See Puller."""
        return ""

    def pull(self, image: PulledImage, timeout_s: float) -> None:
        """See Puller."""
        self._folder = Path(tempfile.mkdtemp(prefix="pull-", dir=self._parent))
        pull_to_folder(image_for(image.place, image.selector), self._folder / "image")

    def forget(self, image: PulledImage) -> None:
        """See Puller."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def close(self) -> None:
        """See Puller."""


class DockerEngine:
    """Docker's engine, by the package ``docker``."""

    key, title = "docker", "Docker"

    def __init__(self) -> None:
        self._engine: Any = None

    def missing(self, images: list[PulledImage], timeout_s: float) -> str:
        """See Puller."""
        if importlib.util.find_spec("docker") is None:
            return "the package docker is not installed (registry-pipelines[docker])"
        import docker

        kind, _, path = (os.environ.get("DOCKER_HOST") or DOCKER_SOCKET).partition("://")
        if kind == "unix" and not Path(path).exists():  # the package leaves a socket open where it cannot connect
            return f"no Docker engine answers: {path} is not there"
        try:
            self._engine = docker.from_env(timeout=int(timeout_s))
            self._engine.ping()
        except Exception as error:  # the package's own, and those of what it uses
            return f"no Docker engine answers: {_short(error)}"
        for image in images:
            with suppress(docker.errors.ImageNotFound):
                self._engine.images.get(image.reference)
                return f"it has {image.reference} already, and that would be deleted: remove it first"
        return ""

    def pull(self, image: PulledImage, timeout_s: float) -> None:
        """See Puller."""
        try:
            self._engine.images.pull(image.reference)
        except Exception as error:
            raise LocalError(f"Docker does not pull {image.reference}: {_short(error)}") from error

    def forget(self, image: PulledImage) -> None:
        """See Puller."""
        import docker

        try:
            with suppress(docker.errors.ImageNotFound):
                self._engine.images.remove(image.reference, force=True)
        except docker.errors.DockerException as error:
            raise LocalError(f"Docker does not remove {image.reference}: {_short(error)}") from error

    def close(self) -> None:
        """See Puller."""
        if self._engine is not None:
            self._engine.close()


class ContainerdImages:
    """containerd, by ``ctr``, in a namespace of the benchmark's own. What other namespaces hold it need not fetch."""

    key, title = "containerd", "containerd"

    def __init__(self, address: str = "", program: str = "ctr") -> None:
        self._runtime = Containerd(address, NAMESPACE, program=program)

    def missing(self, images: list[PulledImage], timeout_s: float) -> str:
        """See Puller."""
        try:
            self._runtime.ready()
        except (LocalError, ToolMissing) as error:
            return error.what
        return ""

    def pull(self, image: PulledImage, timeout_s: float) -> None:
        """See Puller."""
        plain = ["--plain-http"] if image.local else []
        self._run("images", "pull", *plain, image.reference, timeout_s=timeout_s)

    def forget(self, image: PulledImage) -> None:
        """See Puller."""
        self._run("images", "rm", "--sync", image.reference, timeout_s=REMOVE_TIMEOUT_S)

    def close(self) -> None:
        """See Puller."""

    def _run(self, *arguments: str, timeout_s: float) -> None:
        command = self._runtime.command(*arguments)
        try:
            ran = run_child(command, timeout_s=timeout_s, stdout=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise LocalError(f"containerd took more than {timeout_s:g} s") from None
        if ran.returncode:
            said = ran.stderr.decode(errors="replace").strip()[-_SAID_BYTES:]
            raise LocalError(f"ctr {' '.join(arguments[:2])} failed: {said}")


def pullers(folder: Path, *, address: str = "", chosen: tuple[str, ...] = ()) -> list[Puller]:
    """Those that are measured; all unless told. Raises InputError for one that is none."""
    known: dict[str, Puller] = {each.key: each for each in (Ours(folder), DockerEngine(), ContainerdImages(address))}
    for name in chosen:
        if name not in known:
            raise InputError(f"{name!r} is no client", do=f"One of {', '.join(known)}")
    return [each for key, each in known.items() if not chosen or key in chosen]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


__all__ = ["ContainerdImages", "DockerEngine", "Ours", "PulledImage", "Puller", "pullers"]
