"""A sync under a cap in a process of its own: ``capped_sync.py SOURCE TARGET REPOSITORY FOLDER CAPPED RATE``."""

import sys
from pathlib import Path

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.buckets import CapWindow
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.sync import OpenTarget, Source, sync

source, target, repository, folder, capped, rate = sys.argv[1:]
sync(
    [Source(DistributionRegistry(source), (OpenTarget(DistributionRegistry(target)),), (repository,))],
    engine=Engine(
        state=Path(folder) / "state",
        limits=MachineLimits(Path(folder) / "limits", caps={capped: (CapWindow.parse(rate),)}),
    ),
)
