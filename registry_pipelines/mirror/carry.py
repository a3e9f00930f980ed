"""Take one closure of ours from stop to stop: through the DMZ registry into the private one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import PLAIN, Engine


@dataclass(frozen=True)
class Carried:
    """A closure that went from stop to stop."""

    digest: Digest
    changed: bool
    bytes_moved: int
    seconds: float
    left_out: tuple[Omission, ...] = ()


def carry(
    source: Place,
    digest: Digest,
    stops: Sequence[Place],
    *,
    tags: Sequence[str],
    platforms: Sequence[Platform] = (),
    foreign_layers: bool = False,
    engine: Engine = PLAIN,
) -> Carried:
    """Copy a closure from each place to the next: source, first stop, second stop.

    tags: set at every stop, last. foreign_layers: see
    :func:`~registry_pipelines.transfer.closure.discovery.discover`.
    """
    started = time.monotonic()
    changed, bytes_moved, here = False, 0, digest
    left_out: dict[Omission, None] = {}
    for stop in stops:
        result = copy_closure(
            source,
            here,
            [stop],
            tags=tags,
            platforms=platforms,
            foreign_layers=foreign_layers,
            engine=engine,
        )
        here = result.root.digest
        changed |= any(each.changed for each in result.per_target)
        bytes_moved += sum(each.bytes_moved for each in result.per_target)
        left_out.update(dict.fromkeys(result.left_out))
        source = stop
    return Carried(here, changed, bytes_moved, time.monotonic() - started, tuple(left_out))
