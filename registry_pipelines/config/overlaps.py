"""Two sources must not be brought to one place under one tag: whichever came last would win, every night anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry_pipelines.config.model import Config
from registry_pipelines.config.places import Mirror, Sync
from registry_pipelines.errors import ReferenceInvalid
from registry_pipelines.oci.references import Reference

_LITERAL = re.compile(r"[^*?\[]*")
_ALL_TAGS = ("*",)


@dataclass(frozen=True)
class _Writer:
    """Something that fills one repository. path: where it stands in the configuration. source: where it comes from."""

    path: str
    source: str
    registry: str
    repository: str
    tags: tuple[str, ...] = _ALL_TAGS
    semver: str = ""

    def meets(self, other: _Writer) -> bool:
        """Whether both may write one tag. Version ranges are compared when tags are known, in the plan."""
        if (self.registry, self.repository) != (other.registry, other.repository) or self.source == other.source:
            return False
        return not (self.semver and other.semver) and any(
            _may_meet(one, two) for one in self.tags for two in other.tags
        )


def overlaps(config: Config) -> Iterable[tuple[str, str]]:
    """Path and message for whatever fills a repository that something else fills already, as far as it can be known
    without asking registries; the plan finds the rest (``transfer.plan``)."""
    known: dict[tuple[str, str], list[_Writer]] = {}
    told: set[tuple[str, str]] = set()
    for writer in _writers(config):
        there = known.setdefault((writer.registry, writer.repository), [])
        other = next((each for each in there if each.meets(writer)), None)
        if other is not None and (writer.path, other.path) not in told:
            told.add((writer.path, other.path))
            yield (
                writer.path,
                f"brings {writer.source} to {writer.registry}/{writer.repository}, where `{other.path}` brings "
                f"{other.source} under the same tags",
            )
        there.append(writer)


def _writers(config: Config) -> Iterable[_Writer]:
    for image in config.images.values():
        source = f"{image.registry}/{image.repository}"
        for name in image.targets:
            target = config.targets[name]
            yield _Writer(f"images.{image.name}.targets", source, target.registry, config.repository_at(image, target))
    for mirror in config.mirrors.values():
        yield from _mirrored(config, mirror)
    for sync in config.syncs.values():
        yield from _synced(config, sync)


def _mirrored(config: Config, mirror: Mirror) -> Iterable[_Writer]:
    stops: Sequence[str] = [mirror.via, mirror.to] if mirror.via else [mirror.to]
    for name in mirror.images:
        image = config.images[name]
        source, repository = f"{image.registry}/{image.repository}", _below(mirror.prefix, image.repository)
        for stop in stops:
            yield _Writer(f"mirrors.{mirror.name}.images", source, stop, repository)
    for place, upstream in enumerate(mirror.upstreams):
        path = f"mirrors.{mirror.name}.upstreams[{place}]"
        registry, own = _upstream_place(config, upstream.image)
        repository = _below(mirror.prefix, upstream.repository or own)
        for stop in stops:
            yield _Writer(path, f"{registry}/{own}", stop, repository, upstream.tags, upstream.semver or "")


def _synced(config: Config, sync: Sync) -> Iterable[_Writer]:
    for repository in sync.repositories:
        if not _is_literal(repository):
            continue
        for place, name in enumerate(sync.targets):
            target = config.targets[name]
            yield _Writer(
                f"syncs.{sync.name}.targets[{place}]",
                f"{sync.source}/{repository}",
                target.registry,
                _below(target.prefix, repository),
                sync.tags,
                sync.semver or "",
            )


def _upstream_place(config: Config, image: str) -> tuple[str, str]:
    """Registry and repository of an upstream; one that cannot be read is another check's to tell of."""
    first, _, rest = image.partition("/")
    try:
        if first in config.registries:
            return first, Reference.parse(f"configured.invalid/{rest}", default_tag="").repository
        found = Reference.parse(image, default_tag="")
    except ReferenceInvalid:
        return "", image
    return found.registry, found.repository


def _below(prefix: str, repository: str) -> str:
    return f"{prefix}/{repository}" if prefix else repository


def _is_literal(pattern: str) -> bool:
    return _LITERAL.fullmatch(pattern) is not None


def _may_meet(one: str, two: str) -> bool:
    """Whether two patterns can match one tag; True when that is not plain to see."""
    if _is_literal(one) and _is_literal(two):
        return one == two
    first, second = (str(_LITERAL.match(pattern)[0]) for pattern in (one, two))  # type: ignore[index]
    return first.startswith(second) or second.startswith(first)
