"""A worker that copies, in a process of its own: ``python -m tests.transfer.blob.shared_copy SOURCE TARGET FROM TO
STATE URL SILENCE_S``. It prints the bytes it moved."""

import sys
from pathlib import Path

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from tests.doubles.workers import all_leave, worker

if __name__ == "__main__":
    source, target, here, there, state, url, silence_s = sys.argv[1:]
    shared = worker(url, silence=Duration(seconds=float(silence_s)))
    result = copy_closure(
        Place(DistributionRegistry(source), here),
        "v1",
        [Place(DistributionRegistry(target), there)],
        engine=Engine(state=Path(state), shared=shared),
    )
    all_leave()
    print(result.bytes_moved)
