"""What the configuration says of a fail-over drill."""

from __future__ import annotations

from typing import Annotated

import msgspec

from registry_pipelines.recover.failover.drill.faults import FaultName
from registry_pipelines.recover.failover.drill.kinds import SCHEMES, KindName, Scheme
from registry_pipelines.settings import FOLDER, Duration, Names


class FailoverObjectives(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised of clients while the first registry is down; a drill that misses it is not `ok`."""

    rto: Duration = Duration(minutes=1)
    """How long a pull may take until it has what it wants from another registry. A drill waits as long for each."""
    by_hand: tuple[FaultName, ...] = ("unreachable", "frozen", "silent", "stalled")
    """Faults for which somebody may have to act, since clients of today wait for minutes or for ever: there it is
    enough that a pull succeeds within `rto` after the registry was taken out of the client's file."""


class FailoverDrill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a drill is done."""

    image: Annotated[str, Names("images")] | None = None
    """Image of ours whose newest release is pulled; unless told `health.digest`, else the smallest of the newest
    releases."""
    clients: tuple[KindName, ...] = ()
    """Kinds of clients; all that are on the machine unless told."""
    faults: tuple[FaultName, ...] = ("stopped", "unreachable", "frozen", "silent", "stalled", "unavailable")
    """Ways in which the first registry is down."""
    schemes: tuple[Scheme, ...] = SCHEMES
    """Without TLS and with it."""
    programs: tuple[Annotated[str, FOLDER], ...] = ()
    """Folders with more clients than those of the machine: `containerd` beside `ctr`, `dockerd` beside `docker`."""


__all__ = ["FailoverDrill", "FailoverObjectives"]
