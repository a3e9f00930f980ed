"""What a stand-in does in place of a registry that is down."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

FaultName = Literal["stopped", "unreachable", "frozen", "silent", "stalled", "unavailable"]
"""As a configuration has them, which knows no enumerations."""


class Fault(StrEnum):
    """How a registry is down; each looks different to a client."""

    STOPPED = "stopped"
    """Connections are refused: the process is gone, the machine is up."""
    UNREACHABLE = "unreachable"
    """Packets vanish: the machine, its network or the way there is gone."""
    FROZEN = "frozen"
    """Connections are taken by the kernel, and nobody reads them: a process that hangs. Over TLS no handshake ends."""
    SILENT = "silent"
    """Requests are read, over TLS after the handshake, and never answered: what stands behind a load balancer hangs."""
    STALLED = "stalled"
    """Manifests are answered; blobs stop in the middle and the connection stays open."""
    UNAVAILABLE = "unavailable"
    """Every answer is 503."""


__all__ = ["Fault", "FaultName"]
