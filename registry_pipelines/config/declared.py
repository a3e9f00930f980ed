"""Declared settings of clouds (``infra``): what is wrong with them before anything is asked, and which ways to targets
they make ECR's own."""

from __future__ import annotations

from collections.abc import Iterator

from registry_pipelines.config.clouds import EcrRegistry
from registry_pipelines.config.model import Config, Image
from registry_pipelines.infra.ecr import problems as ecr
from registry_pipelines.infra.gar import problems as gar
from registry_pipelines.infra.model import EcrInfra, GarInfra
from registry_pipelines.replicate.ways import End, Rule, Way, way


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


def way_of(config: Config, image: Image, target: str) -> Way:
    """Which way an image takes to one of its targets, as it is declared."""
    destination = config.targets[target]
    there = config.repository_at(image, destination)
    ends = end(config, image.registry), end(config, destination.registry)
    return way(*ends, image.repository, there, replicated(config, image.registry))


def end(config: Config, name: str) -> End:
    """A registry of the configuration as an end of a way."""
    settings = config.registries[name]
    if settings.kind != "ecr":
        return End(name, settings.kind)
    from registry_pipelines.infra.ecr.kinds import partition

    return End(name, "ecr", settings.account, settings.region, partition(settings.region))


def replicated(config: Config, name: str) -> list[Rule]:
    """What a registry is declared to replicate by itself."""
    declared, settings = config.infra.get(name), config.registries[name]
    if declared is None or settings.kind != "ecr" or declared.kind != "ecr":
        return []
    return [
        Rule(to if "/" in to else f"{settings.account}/{to}", rule.prefixes)
        for rule in declared.replication
        if not rule.absent
        for to in rule.to
    ]


def notes(config: Config) -> Iterator[tuple[str, str]]:
    """What ECR does before anybody judges, and where that stands."""
    for image in config.images.values():
        native = [name for name in image.targets if way_of(config, image, name).native]
        if native:
            said = f"ECR replicates images.{image.name} to {', '.join(native)} as it is pushed, also what is denied"
            do = "what starts there must ask the gate (docs/admission.md); or leave it out of `replication`"
            yield f"infra.{image.registry}.replication", f"{said}: {do}"
