"""What is wrong with package indexes, with builds that name them, and with packages that are published there."""

from __future__ import annotations

from collections.abc import Iterable

from registry_pipelines.build.packages.model import ArtifactIndex, PipIndex, SimpleIndex
from registry_pipelines.build.packages.routing import normalised
from registry_pipelines.config.model import Config

Finding = tuple[str, str]
"""The path in the file, and what is said about it."""


def package_problems(config: Config) -> Iterable[Finding]:
    """Problems of ``packages``, ``python_packages`` and of builds with an ``index``."""
    yield from _attested(config)
    for name, image in config.images.items():
        build, path = image.build, f"images.{name}.build.index"
        if build is None or not build.index:
            continue
        if build.wheels or build.wheels_from or build.find_links:
            yield (
                path,
                "stands in place of `wheels`, `wheels_from` and `find_links`; folders and artifacts are indexes of the "
                "kinds `folder` and `wheels`",
            )
        yield from ((path, said) for said in _claimed_twice(config, build.index))
    for name, package in config.python_packages.items():
        to = config.packages.get(package.to)
        if isinstance(to, PipIndex | ArtifactIndex) or (isinstance(to, SimpleIndex) and to.upload is None):
            why = "has no `upload`" if isinstance(to, SimpleIndex) else f"is of the kind `{to.kind}`"
            yield f"python_packages.{name}.to", f"{package.to} {why}, so that nothing is published there"
        yield from ((f"python_packages.{name}.built_with", said) for said in _claimed_twice(config, package.built_with))


def _attested(config: Config) -> Iterable[Finding]:
    """Who published a file is told by certificates alone."""
    for name, index in config.packages.items():
        wanted = "publishers" if index.publishers else "attestations" if index.attestations == "require" else ""
        if wanted and config.signing.trust_root is None:
            yield f"packages.{name}.{wanted}", "needs `signing.trust_root`, by which certificates are believed"


def _claimed_twice(config: Config, names: Iterable[str]) -> Iterable[str]:
    """Projects that two of a build's indexes name."""
    listed = list(names)
    if len(set(listed)) != len(listed):
        yield "names an index twice"
    first: dict[str, str] = {}
    for name in dict.fromkeys(listed):
        for project in map(normalised, config.packages[name].names if name in config.packages else ()):
            if (other := first.setdefault(project, name)) != name:
                yield f"`{project}` is in `names` of {other} and of {name}, and comes from one index alone"


__all__ = ["package_problems"]
