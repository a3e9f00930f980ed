"""How the agent of a node is started, and what a form gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.node.where import ROOT, SOCKET

NAME = "registry-pipelines"
"""Of the snapshotter, the runtime of containerd and the RuntimeClass that use it, the unit and the DaemonSet."""
STATE = Path("/var/lib")
"""Where the agent keeps what it has: in a folder of its own there, which nothing that cleans up looks into."""
ENDED_S = 30
"""Seconds that the agent has to end."""
HEAD = "Written by `registry-pipelines node setup`; no account is in it."


@dataclass(frozen=True)
class Setup:
    """How the agent is started, the same in all forms. Paths are absolute."""

    program: Path
    socket: Path = SOCKET
    root: Path = ROOT
    config: Path | None = None
    """Of the agent on the host; None for none."""
    image: str = ""
    """The product's own, for ``kubernetes``."""

    @property
    def arguments(self) -> list[str]:
        """Behind the program."""
        return ["node", "serve", "--socket", str(self.socket), "--root", str(self.root)]


class Written(NamedTuple):
    """files: content by path. notes: what is to be done with them."""

    files: dict[str, bytes]
    notes: list[str]
