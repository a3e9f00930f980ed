"""What is wrong with declared settings of clouds (``infra``), before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator

from registry_pipelines.config.clouds import EcrRegistry
from registry_pipelines.config.model import Config
from registry_pipelines.infra.ecr import problems as ecr
from registry_pipelines.infra.gar import problems as gar
from registry_pipelines.infra.model import EcrInfra, GarInfra


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """Where, and what; the files that it names are read when a plan is made."""
    for name, infra in config.infra.items():
        registry = config.registries[name]
        if registry.kind != infra.kind:
            yield f"infra.{name}.kind", f"is {infra.kind}, and the registry's is {registry.kind}"
        elif isinstance(infra, EcrInfra) and isinstance(registry, EcrRegistry):
            found = ecr.problems(infra, account=registry.account, region=registry.region)
            yield from ((f"infra.{name}.{path}", message) for path, message in found)
        elif isinstance(infra, GarInfra):
            yield from ((f"infra.{name}.{path}", message) for path, message in gar.problems(infra))
