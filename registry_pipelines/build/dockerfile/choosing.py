"""Which engine runs a Dockerfile: the first that is there and does all that the Dockerfile asks, or the one named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry_pipelines.build.dockerfile.engines.protocol import Engine, Found
from registry_pipelines.build.dockerfile.instructions import Dockerfile
from registry_pipelines.build.dockerfile.model import DockerfileSpec
from registry_pipelines.build.dockerfile.needs import Need, beyond_buildah, beyond_classic
from registry_pipelines.errors import InputError, RegistryPipelinesError, ToolMissing

INSTALL = "Install BuildKit: the docker-buildx plugin beside a Docker daemon, or buildkitd with buildctl; or Buildah"

SHOWN = 5
"""Needs that an error names."""


@dataclass(frozen=True)
class Choice:
    """The engine, and why it is this one: one line for people."""

    engine: Engine
    found: Found
    why: str


def choose_engine(spec: DockerfileSpec, dockerfile: Dockerfile, engines: Sequence[Engine]) -> Choice:
    """Look for an engine. engines: in the order of preference.

    Raises InputError with file and line when those that are there do not do what the Dockerfile asks (also the one
    that ``engine`` names), ToolMissing when none is there, or not the one that is named.
    """
    if spec.engine != "auto":
        (engine,) = (each for each in engines if each.name == spec.engine)
        found = engine.find()
        if needs := _needs(engine, found, dockerfile, spec):
            raise _beyond(dockerfile, f"engine {engine.name}", needs)
        return Choice(engine, found, f"{found.version}: `engine: {engine.name}`")
    passed: list[str] = []
    unable: list[Need] = []
    for engine in engines:
        try:
            found = engine.find()
        except ToolMissing as error:
            passed.append(f"{engine.name}: {_in_short(error)}")
            continue
        needs = _needs(engine, found, dockerfile, spec)
        if not needs:
            before = f"; passed over: {'; '.join(passed)}" if passed else ""
            return Choice(engine, found, f"{found.version}: the first that is there and does all of it{before}")
        passed.append(f"{engine.name}: {_told(needs[0])}")
        # The last one's are told: it does the least, and is the one that people have.
        unable = needs
    if unable:
        raise _beyond(dockerfile, "the engine that is here", unable, passed)
    raise ToolMissing(
        "there is no engine that could run a Dockerfile:\n  " + "\n  ".join(passed), where=dockerfile.where, do=INSTALL
    )


def _needs(engine: Engine, found: Found, dockerfile: Dockerfile, spec: DockerfileSpec) -> list[Need]:
    if engine.name == "buildah":
        return beyond_buildah(dockerfile, spec)
    if not found.buildkit:
        return beyond_classic(dockerfile, spec, found.platforms[0] if found.platforms else None)
    return []


def _beyond(dockerfile: Dockerfile, who: str, needs: list[Need], passed: Sequence[str] = ()) -> InputError:
    first = next((need for need in needs if need.line), None)
    where = f"{dockerfile.where}:{first.line}" if first else dockerfile.where
    more = [f"line {need.line}: {_told(need)}" if need.line else _told(need) for need in needs]
    shown = more[:SHOWN] + ([f"and {len(more) - SHOWN} more"] if len(more) > SHOWN else [])
    looked = [f"looked for {text}" for text in passed]
    return InputError(f"{who} does not do what it asks:\n  " + "\n  ".join([*shown, *looked]), where=where, do=INSTALL)


def _told(need: Need) -> str:
    return f"{need.what}: {need.why}"


def _in_short(error: RegistryPipelinesError) -> str:
    return error.what.splitlines()[0][:200]
