"""A node with containerd and ``node serve`` beside it, on one end of a link: what ``benchmarks/node.py`` measures on.

Both daemons have folders of their own, and nothing of the machine's containerd is shared. What a run leaves mounted is
taken away, whoever ended first.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from registry_pipelines.interrupts import CHILDREN
from registry_pipelines.stream.bench.clocks import Failed
from registry_pipelines.stream.bench.preparing import OURS
from registry_pipelines.stream.lazy.mounting import mounts, unmount

START_S = 60.0
STOP_S = 30.0
OURS_NAME, STOCK = "rp", "overlayfs"
"""Snapshotters: ours, and containerd's own."""
_CONFIG = """\
version = 2
root = "{root}"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/t.sock"
[proxy_plugins.rp]
  type = "snapshot"
  address = "{folder}/s.sock"
  capabilities = ["remap-ids"]
  [proxy_plugins.rp.exports]
    enable_remote_snapshot_annotations = "true"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "rp"
  differ = "walking"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "overlayfs"
  differ = "walking"
"""
_AGENT = """\
version: 1
state: {folder}/agent/state
registries:
  bench: {{kind: distribution, host: "{registry}", plain_http: true}}
"""
Enter = Callable[[Sequence[str]], list[str]]


class NodeRig:
    """``with NodeRig(programs, enter) as node: node.ctr("images", "pull", ...)``. programs: the folder with containerd,
    its shim and ctr. root: containerd's, kept; else it is the node's own and goes with it. agent: options of `node
    serve`; None for a node without it. key: whose signatures it believes."""

    def __init__(
        self,
        programs: Path,
        enter: Enter,
        *,
        registry: str,
        key: Path | None = None,
        root: Path | None = None,
        agent: Sequence[str] | None = None,
        disk: Path | None = None,
    ) -> None:
        self._programs, self._enter, self._registry, self._key = programs, enter, registry, key
        self._root, self._agent_options, self._disk = root, agent, disk
        self._started: list[subprocess.Popen[bytes]] = []
        self.agent: subprocess.Popen[bytes] | None = None
        self.agent_s = 0.0
        """When the agent was there, in monotonic seconds."""

    def __enter__(self) -> NodeRig:
        """Raises Failed."""
        # A socket's path has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="rp-node-", dir=self._disk))
        self.folder.chmod(0o711)
        try:
            if self._agent_options is not None:
                self.start_agent()
            self._start_containerd()
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
        self._clear()
        keepers = self.processes()[1:]  # they outlive the agent
        for each in reversed(self._started):
            _end(each)
        for found in reversed([each.folder for each in mounts() if each.folder.is_relative_to(self.folder)]):
            with suppress(OSError):
                unmount(found, detach=True)
        for keeper in keepers:
            with suppress(OSError):
                os.kill(keeper, signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_agent(self) -> None:
        """``node serve``, until it says where. Raises Failed."""
        config = self.folder / "agent.yaml"
        config.write_text(_AGENT.format(folder=self.folder, registry=self._registry))
        command = [*OURS, "node", "serve", "--json", "--config", str(config), "--socket", str(self.folder / "s.sock")]
        command += ["--root", str(self.folder / "agent" / "snapshots"), *(self._agent_options or ())]
        command += ["--key", str(self._key)] if self._key else []
        self.agent = self._start(command, "agent.log", {"PYTHONDONTWRITEBYTECODE": ""})
        self._wait((self.folder / "s.sock").exists, self.agent, "agent.log")
        self.agent_s = time.monotonic()

    def ctr(self, *arguments: str) -> str:
        """What a call of containerd's client printed. Raises Failed."""
        done = subprocess.run(self.enter(self.client(*arguments)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"ctr {' '.join(arguments[:2])} failed: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def client(self, *arguments: str) -> list[str]:
        """A call of the client."""
        return [str(self._programs / "ctr"), "--address", str(self.folder / "c.sock"), *arguments]

    def enter(self, command: Sequence[str]) -> list[str]:
        """A command, to be run on the node."""
        return self._enter(command)

    @property
    def binaries(self) -> list[Path]:
        """Files of the programs that a start runs, which a node has in memory."""
        names = [self._programs / name for name in ("containerd", "containerd-shim-runc-v2", "ctr")]
        return [*names, *(Path(found) for name in ("runc", "nsenter", "sh", "date") if (found := shutil.which(name)))]

    def said(self) -> str:
        """What the agent had to say."""
        path = self.folder / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def processes(self) -> list[int]:
        """The agent, and what it started for its mounts."""
        return _family(self.agent.pid) if self.agent else []

    def _start_containerd(self) -> None:
        root = self._root or self.folder / "containerd"
        (self.folder / "config.toml").write_text(_CONFIG.format(folder=self.folder, root=root))
        command = [str(self._programs / "containerd"), "--config", str(self.folder / "config.toml")]
        path = f"{self._programs}:{os.environ.get('PATH', '')}"
        process = self._start(command, "containerd.log", {"PATH": path})
        answers = self.client("version")
        self._wait(
            lambda: subprocess.run(answers, capture_output=True, check=False).returncode == 0, process, "containerd.log"
        )

    def _start(self, command: Sequence[str], log: str, own: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                self._enter(["setpriv", "--pdeathsig", "TERM", *command]),  # when we are killed
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **own},
            )
        CHILDREN.add(process)
        self._started.append(process)
        return process

    def _wait(self, there: Callable[[], bool], process: subprocess.Popen[bytes], log: str) -> None:
        deadline = time.monotonic() + START_S
        while not there():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / log).read_text(errors="replace").strip().splitlines()[-5:]
                raise Failed(f"the node does not start: {' / '.join(said)}")
            time.sleep(0.02)

    def _clear(self) -> None:
        """Containers and images, so that both daemons let go of them. A kept root keeps its images."""
        with suppress(Failed, OSError):
            for name in self.ctr("tasks", "ls", "-q").split():
                self.ctr("tasks", "rm", "-f", name)
            for name in self.ctr("containers", "ls", "-q").split():
                self.ctr("containers", "rm", name)
            for name in self.ctr("images", "ls", "-q").split() if self._root is None else ():
                self.ctr("images", "rm", "--sync", name)


def _family(process: int) -> list[int]:
    """A process, and those that it and its children started, as far as they have not left it."""
    above: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            above.setdefault(int(parent), []).append(int(path.name))
    found = [process]
    for each in found:
        found += above.get(each, ())
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    CHILDREN.discard(process)


__all__ = ["OURS_NAME", "STOCK", "NodeRig"]
