"""A Docker daemon of the benchmark's own, that leaves nothing behind on the machine: no bridge, no rules, no images."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import LocalError
from registry_pipelines.interrupts import CHILDREN
from registry_pipelines.stream.bench.clocks import Failed

START_S = 60.0
STOP_S = 30.0
_LOG_LINES = 5
_PREFIX = "rp-docker-"


def _remove_left() -> None:
    """What daemons left whose benchmark was interrupted before they had ended."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            if left.is_symlink() or left.lstat().st_uid != os.geteuid():
                continue
            if not Path("/proc", str(int((left / "d.pid").read_text()))).exists():
                _remove(left)


def _remove(folder: Path) -> None:
    subprocess.run(["umount", str(folder / "run" / "netns" / "default")], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def missing_for_docker() -> str:
    """Why Docker cannot be measured here, in one sentence; empty where it can."""
    missing = [name for name in ("docker", "dockerd", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be found here"
    return "" if os.geteuid() == 0 else "a Docker daemon of its own needs root"


class DockerDaemon:
    """``with DockerDaemon(folder, enter, registry) as docker: docker.run("pull", name)``. Containers need
    ``--network host``."""

    def __init__(self, folder: Path, enter: Callable[[Sequence[str]], list[str]], registry: str) -> None:
        """folder: of its images. enter: makes a command one that runs in the node's namespace. registry: plain HTTP."""
        self._data, self._enter, self._registry = folder / "docker", enter, registry

    def __enter__(self) -> DockerDaemon:
        """Raises LocalError."""
        _remove_left()
        # A socket's path has 107 bytes at most.
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._log = self._folder / "log"
        command = [
            *("setpriv", "--pdeathsig", "TERM"),  # when we are killed
            *("dockerd", "--data-root", str(self._data), "--exec-root", str(self._folder / "run")),
            *("-H", f"unix://{self._folder}/d.sock", "-p", str(self._folder / "d.pid")),
            *("--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"),
            *("--insecure-registry", self._registry),
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._enter(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        CHILDREN.add(self._process)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        CHILDREN.discard(self._process)
        _remove(self._folder)
        shutil.rmtree(self._data, ignore_errors=True)

    def command(self, *arguments: str) -> list[str]:
        """A call of the client."""
        return ["docker", "--config", str(self._folder), "-H", f"unix://{self._folder}/d.sock", *arguments]

    def run(self, *arguments: str) -> str:
        """What a call printed. Raises Failed."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"docker {arguments[0]} failed: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while subprocess.run(self.command("version"), capture_output=True, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
                raise LocalError(f"dockerd does not start: {' / '.join(said)}")
            time.sleep(0.1)
