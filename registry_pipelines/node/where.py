"""Where an agent of a node is unless told: containerd's configuration names the socket."""

from pathlib import Path

SOCKET = Path("/run/registry-pipelines/snapshots.sock")
ROOT = Path("/var/lib/registry-pipelines/node")
"""With all layers and what containers write."""

__all__ = ["ROOT", "SOCKET"]
