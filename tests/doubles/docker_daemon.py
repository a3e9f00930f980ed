"""A Docker daemon of its own, that leaves nothing behind on the machine: no bridge, no iptables rules."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.needs import missing
from tests.patience import patient

START_TIMEOUT_S = patient(60)


class Docker:
    """The client, talking to our daemon."""

    def __init__(self, program: str, socket: Path, home: Path) -> None:
        self._program = program
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "HOME": str(home)}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([self._program, *arguments], env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What makes any Docker client talk to this daemon."""
        return dict(self._environment)

    def answers(self) -> bool:
        command = [self._program, "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, env=self._environment, capture_output=True).returncode == 0


@contextmanager
def daemon(dockerd: str, docker: str, folder: Path, options: Sequence[str] = ()) -> Iterator[Docker]:
    """Start, wait until it answers, stop, unmount what it leaves. Containers need ``--network host``. options: more of
    the daemon's."""
    socket, run = folder / "d.sock", folder / "run"
    command = [
        *(dockerd, "--data-root", str(folder / "root"), "--exec-root", str(run), "-H", f"unix://{socket}"),
        *("-p", str(folder / "d.pid"), "--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"),
        *options,
    ]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    client = Docker(docker, socket, folder)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not client.answers():
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "dockerd did not answer"
            time.sleep(0.1)
        yield client
    finally:
        process.terminate()
        process.wait(patient(30))
        log.close()
        subprocess.run(["umount", run / "netns" / "default"], capture_output=True)


@contextmanager
def own_docker(peer: Callable[[str], str]) -> Iterator[Docker]:
    """The same in a folder that is removed afterwards. Where we are not root: skipped, in CI a failure."""
    programs = peer("dockerd"), peer("docker")
    if os.getuid() != 0:
        missing("a Docker daemon needs root")
    # Its socket's path must stay below 108 characters, so not pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="dockerd-") as name, daemon(*programs, Path(name)) as client:
        yield client
