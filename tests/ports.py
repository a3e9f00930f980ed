"""Ports for servers that are started later, of which a configuration or a command must know now.

Not by binding port 0 and letting go of it: the kernel gives the same port to the next who asks, to a server of another
worker or to a client's own end, and one run in ten of the whole suite failed on it. These come from below the range
that the kernel gives away, each worker of pytest has a block of its own, and none is given twice.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from itertools import islice

FIRST, BLOCK, BLOCKS = 12000, 2000, 8
"""Up to 27999: what ``deploy.cluster`` chooses lies above, what Linux gives by itself begins at 32768."""


def _candidates() -> Iterator[int]:
    """All of this worker's block, again and again; from any place of it, for another run may be going on beside."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    first, place = FIRST + int(worker) % BLOCKS * BLOCK, random.randrange(BLOCK)
    while True:
        yield first + place
        place = (place + 1) % BLOCK


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_free = filter(_is_free, _candidates())


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody has, and that nobody else is given."""
    return list(islice(_free, count))
