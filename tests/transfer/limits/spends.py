"""A worker of a shared state, in a process of its own: ``spends.py DATABASE SECONDS HUB COUNT``.

It says ``ready``, and begins when a line comes in: takes of three registries as fast as it is let, and writes which,
when in nanoseconds of the machine's clock, and the amount; and reads a manifest of a hub so often, and writes how each
ended.
"""

import sys
import threading
import time

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.settings import Secret
from registry_pipelines.shared import budgets
from registry_pipelines.shared.settings import Shared
from registry_pipelines.shared.state import open_shared
from registry_pipelines.transfer.limits.buckets import CapWindow
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.limits.rules import RegistryRule

budgets.ANSWER_S = 600.0
"""The database is never away here: a worker that stands still for two seconds would keep a share for itself."""

THREADS, BLOCK = 4, 256 * 1024
RATES = {"few.example": 10.0, "many.example": 400.0}


def spend(limits: MachineLimits, host: str, until: float) -> list[tuple[object, ...]]:
    window, bandwidth = limits.window(host, "write-manifest"), limits.bandwidth(host)
    taken: list[tuple[object, ...]] = []
    while time.monotonic() < until:
        if bandwidth is not None:
            bandwidth.spend(BLOCK)
            taken.append((host, time.time_ns(), BLOCK))
        else:
            with window.request():
                taken.append((host, time.time_ns(), 1))
    return taken


def pull(limits: MachineLimits, host: str, count: int) -> list[tuple[object, ...]]:
    registry, ends = limited(DistributionRegistry(host), limits), list[tuple[object, ...]]()
    for _ in range(count):
        try:
            registry.get_manifest("app", "v1")
            ends.append(("hub", "read"))
        except RegistryPipelinesError as error:
            ends.append(("hub", type(error).__name__))
    return ends


def main(database: str, seconds: str, hub: str, count: str) -> None:
    state = open_shared(Shared(database=Secret(database)))
    assert state is not None
    limits = MachineLimits(
        caps={"capped.example": (CapWindow.parse("20MB/s"),)},
        rules=[RegistryRule(host, per_second={"write-manifest": rate}) for host, rate in RATES.items()],
        shared=lambda: state.budgets,
    )
    state.budgets.line("ready").wait_s()  # the tables are there, and what is imported late
    print("ready", flush=True)
    sys.stdin.readline()
    lines: list[tuple[object, ...]] = []

    def work(host: str) -> None:
        if host == hub:
            lines.extend(pull(limits, host, int(count) // THREADS))
        else:
            lines.extend(spend(limits, host, time.monotonic() + float(seconds)))

    hosts = [*RATES, "capped.example", hub]
    threads = [threading.Thread(target=work, args=(host,)) for host in hosts * THREADS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for line in lines:
        print(*line)


main(*sys.argv[1:])
