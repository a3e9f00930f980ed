"""A copy in a process of its own, to be killed: ``python killed_copy.py SOURCE TARGET REPOSITORY STATE``."""

import sys
from pathlib import Path

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine

source, target, repository, state = sys.argv[1:]
result = copy_closure(
    Place(DistributionRegistry(source), repository),
    "v1",
    [Place(DistributionRegistry(target), repository)],
    engine=Engine(state=Path(state)),
)
print(result.bytes_moved)
