"""containerd of its own, with ``ctr-remote`` as client: another runtime than Docker's, another reader of registries."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.patience import patient

START_TIMEOUT_S = patient(60)
CONFIG = """\
version = {2}
root = "{0}/root"
state = "{0}/state"
disabled_plugins = {1}
[grpc]
address = "{0}/grpc.sock"
[ttrpc]
address = "{0}/ttrpc.sock"
"""
"""Nothing of the machine's own containerd is shared; without CRI no network plugin is looked for."""


class Containerd:
    """The client, talking to our daemon."""

    def __init__(self, program: str, socket: Path) -> None:
        self._command = [program, "--address", str(socket)]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def collect(self) -> None:
        """Have what nothing refers to removed now. By itself containerd waits fifty times as long as its collections
        took on average (``pause_threshold``), which on a slow disk is minutes; a lease that is removed synchronously
        waits for one."""
        self("leases", "create", "--id", "collect", "--expires", "1h")
        self("leases", "delete", "--sync", "collect")

    def answers(self) -> bool:
        return subprocess.run([*self._command, "version"], capture_output=True).returncode == 0


@contextmanager
def containerd(
    program: str, client: str, folder: Path, *, plugins: str = "", cri: bool = False, version: int = 2
) -> Iterator[Containerd]:
    """Start, wait until it answers, stop. The folder's path must be short: it holds the sockets. plugins: more of its
    configuration. cri: with what a kubelet asks. version: of the configuration's form. The shim beside the
    program is its own."""
    config = folder / "config.toml"
    disabled = "[]" if cri else '["io.containerd.grpc.v1.cri"]'
    config.write_text(CONFIG.format(folder, disabled, version) + plugins)
    with (folder / "log").open("wb") as log:
        own = {**os.environ, "PATH": f"{Path(program).parent}:{os.environ.get('PATH', '')}"}
        process = subprocess.Popen([program, "--config", str(config)], stdout=log, stderr=log, env=own)
        found = Containerd(client, folder / "grpc.sock")
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not found.answers():
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, "containerd did not answer"
                time.sleep(0.1)
            yield found
        finally:
            process.terminate()
            process.wait(patient(30))
