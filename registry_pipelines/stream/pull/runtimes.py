"""An image put into a container runtime of this machine by the runtime's own program, which reads it from a pipe: no
runtime needs to reach the registry, know its password or trust its certificate."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from registry_pipelines.errors import LocalError, ToolMissing
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.stream.lazy.image import NodeImage
from registry_pipelines.stream.pull.archive import ArchiveWriter
from registry_pipelines.stream.pull.fetching import MEMORY_BYTES, BlobFlow
from registry_pipelines.stream.pull.pulling import Pulled, check_layers
from registry_pipelines.threads import run_child, started_child
from registry_pipelines.transfer.blob.memory import PartMemory

ASK_TIMEOUT_S = 30.0
"""For a runtime to answer what it is and has."""

DEFAULT_ADDRESS = "/run/containerd/containerd.sock"
"""Where ``ctr`` looks for containerd unless told."""

_TOLD_BYTES = 2000


class Runtime(Protocol):
    """A container runtime, by its program."""

    @property
    def name(self) -> str:
        """As people write it."""
        ...

    def ready(self) -> None:
        """Raises ToolMissing: its program is not here; LocalError: it does not answer."""
        ...

    def blobs(self) -> frozenset[str]:
        """Digests of the layers that it has and need not be sent."""
        ...

    def notes(self) -> list[str]:
        """What a person must know before anything is put into it."""
        ...

    def import_command(self) -> list[str]:
        """What reads an archive from its input, and ends when containers can be started from it."""
        ...


@dataclass(frozen=True)
class Containerd:
    """By ``ctr``. Empty: as ``ctr`` has it, from its environment (CONTAINERD_ADDRESS, _NAMESPACE, _SNAPSHOTTER)."""

    address: str = ""
    namespace: str = ""
    snapshotter: str = ""
    program: str = "ctr"
    name: str = "containerd"

    def ready(self) -> None:
        """See Runtime."""
        do = "Start it, name its socket (--address), and run this as root"
        command = self.command("version")
        address = Path(self.address or os.environ.get("CONTAINERD_ADDRESS") or DEFAULT_ADDRESS)
        if not address.exists():  # for which ctr waits ten seconds
            raise LocalError("containerd does not answer: its socket is not there", where=str(address), do=do)
        _answer(command, self.name, do)

    def blobs(self) -> frozenset[str]:
        """See Runtime."""
        told = _answer(self.command("content", "ls", "-q"), self.name, "Look at its log")
        return frozenset(told.split())

    def notes(self) -> list[str]:
        """See Runtime. containerd makes a namespace of whatever name it is told."""
        wanted = self.namespace or os.environ.get("CONTAINERD_NAMESPACE", "")
        there = _answer(self.command("namespaces", "ls", "-q"), self.name, "Look at its log").split()
        return [f"containerd had no namespace {wanted!r}, and has it now"] if wanted and wanted not in there else []

    def import_command(self) -> list[str]:
        """See Runtime."""
        more = ["--snapshotter", self.snapshotter] if self.snapshotter else []
        return self.command("images", "import", *more, "-")

    def command(self, *arguments: str) -> list[str]:
        """A call of the program. Raises ToolMissing."""
        found = [_program(self.program, "Install containerd, which brings it")]
        found += ["--address", self.address] if self.address else []
        found += ["--namespace", self.namespace] if self.namespace else []
        return [*found, *arguments]


@dataclass(frozen=True)
class Docker:
    """By ``docker``, at the engine that DOCKER_HOST or its context names. It copies what it reads to its own disk
    before it unpacks it."""

    program: str = "docker"
    name: str = "docker"

    def ready(self) -> None:
        """See Runtime."""
        _answer(self._command("version", "--format", "{{.Server.Version}}"), self.name, "Start it, or set DOCKER_HOST")

    def blobs(self) -> frozenset[str]:
        """None: it tells of no blobs."""
        return frozenset()

    def notes(self) -> list[str]:
        """See Runtime."""
        return []

    def import_command(self) -> list[str]:
        """See Runtime."""
        return self._command("load", "--quiet")

    def _command(self, *arguments: str) -> list[str]:
        return [_program(self.program, "Install Docker's command line"), *arguments]


def pull_to_runtime(image: NodeImage, name: str, runtime: Runtime, *, progress: Progress | None = None) -> Pulled:
    """Put an image into a runtime, unpacked there, under a name; layers that it has are not fetched.

    name: a whole reference. Raises LayerInvalid, DigestMismatch: a layer is not what the image says, and then nothing
    has the name; ToolMissing; LocalError: the runtime does not take it; the RegistryError family.
    """
    began = time.monotonic()
    check_layers(image)
    runtime.ready()
    notes = runtime.notes()
    there = runtime.blobs()
    memory, stopped, shown = PartMemory(MEMORY_BYTES), threading.Event(), progress or Silent()
    layers = {layer.digest: layer.size for layer, _ in image.layers}
    sent = sum(size for digest, size in layers.items() if digest not in there)
    task = f"pull to {runtime.name}"
    shown.begin(task, total_bytes=sent)
    with _Import(runtime) as importer:
        writer = ArchiveWriter(
            image,
            name,
            importer.write,
            lambda layer: BlobFlow(image.place, layer, memory, shown, task, stopped),
        )
        writer.write(there)
        importer.finish()
    shown.end(task)
    pulled = Pulled(image.descriptor.digest, f"{runtime.name}: {name}", layers=len(layers))
    pulled.fetched_bytes, pulled.stored_layers = writer.layer_bytes, writer.layers_left
    pulled.config = dict(image.config.config or {})
    pulled.notes = notes
    pulled.seconds = time.monotonic() - began
    return pulled


class _Import:
    """The program that imports; a context manager that ends it when it is left early."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._child = started_child(
            runtime.import_command(), stdin=subprocess.PIPE, stdout=self._said, stderr=self._said
        )

    def __enter__(self) -> _Import:
        self._process = self._child.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._child.__exit__(None, None, None)
        self._said.close()

    def write(self, content: bytes | memoryview) -> None:
        """Give it more. Raises LocalError: it has ended."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._process.stdin.fileno(), left) :]
        except BrokenPipeError:
            self._process.wait()
            raise self._failed() from None

    def finish(self) -> None:
        """All was given: wait until it is unpacked. Raises LocalError."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.close()
        if self._process.wait():
            raise self._failed()

    def _failed(self) -> LocalError:
        self._said.seek(0)
        said = self._said.read()[-_TOLD_BYTES:].decode(errors="replace").strip()
        return LocalError(
            f"{self._runtime.name} did not take the image: {said or 'it ended without a word'}",
            do="See what it says; what it has taken it removes by itself",
        )


def _answer(command: list[str], name: str, do: str) -> str:
    try:
        ran = run_child(command, timeout_s=ASK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise LocalError(f"{name} does not answer within {ASK_TIMEOUT_S:g} s", do=do) from None
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip()[-_TOLD_BYTES:]
        raise LocalError(f"{name} does not answer: {said}", do=do)
    return str(ran.stdout.decode(errors="replace"))


def _program(name: str, do: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"the program {name} is not here", do=do)
    return found


__all__ = ["Containerd", "Docker", "Runtime", "pull_to_runtime"]
