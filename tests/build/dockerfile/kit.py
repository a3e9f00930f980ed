"""A real BuildKit (Docker 28's, by buildx), a registry of its own, and a base with a shell: nothing of the internet."""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.build.dockerfile.model import BuildSecret, DockerfileSpec
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from tests.build.bases import push_base
from tests.doubles.docker_daemon import daemon
from tests.needs import missing

SECRET = "tr0ub4dor-and-3"
"""What must be nowhere but in the variable TOKEN."""

LIMITS_S = (2, 8, 32)
"""Time limits for a build that is to be ended while a step runs: a machine that does not come to the step in time gets
the next one."""

DOCKERFILE = """\
ARG BASE
FROM ${BASE} AS build
ARG GREETING=hello
RUN --mount=type=secret,id=token test "$(cat /run/secrets/token | wc -c)" -gt 5 && echo "$GREETING" > /greeting
COPY app.txt /app.txt
RUN cat /app.txt >> /greeting

FROM ${BASE}
COPY --from=build /greeting /out/
RUN echo last > /last
"""


@dataclass
class Kit:
    """Where everything is. server: the registry's address; store: its folder."""

    environment: dict[str, str]
    server: str
    store: Path
    buildx: str

    @property
    def base(self) -> str:
        """The base's reference."""
        return f"{self.server}/bases/shell:1"

    def place(self, repository: str) -> Place:
        return Place(DistributionRegistry(self.server, plain_http=True), repository)

    def forget(self) -> None:
        """Have the daemon forget all that it built: only the registry's cache is left."""
        subprocess.run([self.buildx, "prune", "-af"], env={**os.environ, **self.environment}, check=True)

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Every file that the registry stores, and what is in it where it is compressed."""
        yield from contents(self.store)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, and what is in it where it is compressed."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            raw = path.read_bytes()
            yield str(path), raw
            if raw.startswith(b"\x1f\x8b"):
                try:
                    yield f"{path} unpacked", gzip.decompress(raw)
                except (zlib.error, EOFError, gzip.BadGzipFile):
                    continue


@contextmanager
def kit(peer: Callable[[str], str], folder: Path) -> Iterator[Kit]:
    """Start all of it. Where we are not root: skipped, in CI a failure."""
    programs = peer("../docker28/dockerd"), peer("../docker28/docker")
    buildx, busybox = peer("docker-buildx"), peer("busybox")
    if os.getuid() != 0:
        missing("a Docker daemon needs root")
    own = os.environ["PATH"]
    path = f"{Path(programs[0]).resolve().parent}:{Path(buildx).parent}:{own}"
    store = ("--feature", "containerd-snapshotter=true")
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="dockerd-"))
        server = stack.enter_context(EmbeddedServer(folder / "registry"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)  # its containerd is found there; other tests go on without
            docker = stack.enter_context(daemon(*programs, Path(name), store))
        environment = {"DOCKER_HOST": docker.environment["DOCKER_HOST"], "PATH": path, "TOKEN": SECRET}
        made = Kit(environment, server.address, folder / "registry", buildx)
        push_base(made.place("bases/shell"), "1", shell_root(folder / "root", busybox), made_by="shell")
        yield made


def shell_root(root: Path, busybox: str) -> Path:
    """A root with a shell and what is usual beside it."""
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path(busybox).read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "cat", "echo", "sleep", "test", "wc", "date", "ls", "mkdir", "cp"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "tmp").mkdir()
    return root


def project(folder: Path, dockerfile: str = DOCKERFILE, **files: str) -> Path:
    """A context with a Dockerfile."""
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, content in {"app.txt": "app\n", **files}.items():
        (folder / name).write_text(content)
    return folder


def spec(kit: Kit, context: Path, version: str = "v1.0.0", **fields: object) -> DockerfileSpec:
    """What most tests ask. Containers of this daemon have no network of their own."""
    given: dict[str, object] = {
        "args": {"BASE": kit.base, "GREETING": "hi"},
        "secrets": {"token": BuildSecret(env="TOKEN")},
        "network": "host",
        **fields,
    }
    return DockerfileSpec(name="app", version=version, context=context, **given)  # type: ignore[arg-type]


def processes(words: Sequence[str]) -> list[int]:
    """Running programs whose command has all of the words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if all(word in command for word in words):
            found.append(int(path.parent.name))
    return found
