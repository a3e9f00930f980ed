"""A link of a known rate between a registry and some nodes: network namespaces that hold nothing but each other.

    registry 10.212.0.1 -- bridge, tbf -- node 0 (10.212.1.1), node 1 (10.212.1.2), ...

All nodes share the registry's rate, as machines behind one port do. Nothing is made in the machine's own namespace, and
a namespace ends with the process that holds it, which ends with this one: a kill leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from registry_pipelines.errors import LocalError, ToolMissing
from registry_pipelines.interrupts import CHILDREN

TOOLS = ("ip", "tc", "unshare", "nsenter", "setpriv")
"""iproute2 and util-linux."""
ADDRESS = "10.212.0.1"
"""Of the registry."""
MOST_NODES = 250
BURST_BYTES = 262_144
"""Of the token bucket: more than the largest piece that a network card is given at once."""
LATENCY_MS = 50
"""How long a packet may wait in the bucket before it is dropped."""
_HUB, _WIRE = "hub", "wire"


def missing_for_link() -> str:
    """Why there can be no link here, in one sentence; empty where there can."""
    if os.geteuid() != 0:
        return "a link of a known rate needs root (network namespaces)"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"a link of a known rate needs {', '.join(missing)} (packages iproute2 and util-linux)"
    return ""


class Space:
    """A network namespace, while the process lives that holds it."""

    def __init__(self) -> None:
        """Raises LocalError. To be made in the main thread: the holder ends with the thread that made it."""
        command = ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", "sh", "-c", "echo; exec sleep infinity"]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        CHILDREN.add(self._holder)
        assert self._holder.stdout  # noqa: S101 - it is piped
        if not self._holder.stdout.readline():
            said = self._holder.communicate()[1].decode(errors="replace").strip()
            CHILDREN.discard(self._holder)
            raise LocalError(f"the kernel gives no network namespace: {said}", do="Run it as root, with CAP_SYS_ADMIN")

    @property
    def process(self) -> int:
        """Number of the process that holds it."""
        return self._holder.pid

    def enter(self, command: Sequence[str]) -> list[str]:
        """A command, to be run in it."""
        return ["nsenter", f"--net=/proc/{self.process}/ns/net", *command]

    def run(self, *command: str) -> str:
        """Run a tool in it; what it printed. Raises LocalError."""
        done = subprocess.run(self.enter(command), capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip()
            raise LocalError(
                f"{' '.join(command)} failed: {said}", do="Measure without a link, or on a kernel that has it"
            )
        return done.stdout

    def received_bytes(self) -> int:
        """What came over the wire since it was made, with all headers."""
        for line in Path(f"/proc/{self.process}/net/dev").read_text().splitlines():
            name, _, counts = line.partition(":")
            if name.strip() == _WIRE:
                return int(counts.split()[0])
        return 0

    def end(self) -> None:
        """It is gone once its last process is."""
        self._holder.kill()
        self._holder.communicate()
        CHILDREN.discard(self._holder)


class Link:
    """``with Link(1e9, nodes=2) as link: link.registry.enter(command); link.nodes[0].enter(command)``."""

    def __init__(self, bits_per_s: float, *, nodes: int = 1) -> None:
        """bits_per_s: of the registry's port, each direction; 0 leaves the machine's own rate."""
        self.bits_per_s = bits_per_s
        self._count = min(nodes, MOST_NODES)
        self._spaces: list[Space] = []

    @property
    def registry(self) -> Space:
        """Where the registry runs."""
        return self._spaces[0]

    @property
    def nodes(self) -> list[Space]:
        """Where images start."""
        return self._spaces[1:]

    def __enter__(self) -> Link:
        """Raises ToolMissing, LocalError; nothing is left then."""
        if problem := missing_for_link():
            raise ToolMissing(problem, do="Run it with sudo on a machine that has them")
        try:
            self._make()
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
        for each in reversed(self._spaces):
            each.end()
        self._spaces.clear()

    def _make(self) -> None:
        self._spaces.append(Space())
        hub = self.registry
        hub.run("ip", "link", "add", _HUB, "type", "bridge")
        hub.run("ip", "addr", "add", f"{ADDRESS}/16", "dev", _HUB)
        for name in (_HUB, "lo"):
            hub.run("ip", "link", "set", name, "up")
        self._limit(hub, _HUB)
        for number in range(self._count):
            node = Space()
            self._spaces.append(node)
            port, process = f"port{number}", str(node.process)
            hub.run("ip", "link", "add", port, "type", "veth", "peer", "name", _WIRE, "netns", process)
            hub.run("ip", "link", "set", port, "master", _HUB, "up")
            node.run("ip", "addr", "add", f"10.212.1.{number + 1}/16", "dev", _WIRE)
            for name in (_WIRE, "lo"):
                node.run("ip", "link", "set", name, "up")
            self._limit(node, _WIRE)

    def _limit(self, space: Space, device: str) -> None:
        if self.bits_per_s:
            rate = ("rate", f"{self.bits_per_s:.0f}bit", "burst", str(BURST_BYTES), "latency", f"{LATENCY_MS}ms")
            space.run("tc", "qdisc", "add", "dev", device, "root", "tbf", *rate)
