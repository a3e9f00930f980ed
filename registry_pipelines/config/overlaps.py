"""Two sources must not be brought to one place under one tag: whichever came last would win, every night anew.

Repositories may be patterns. What those take is known only to registries, so a clash is told where it is plain from the
file: one repository; a repository that a pattern takes; equal patterns, or one that holds the other, unless
``exclude_repositories`` or ``exclude_tags`` leaves to the other what is its. It is **not** told

- of patterns that cross without one holding the other (``team-*`` and ``*-base``), and of two regular expressions;
- of a pattern that would have to find repositories below the prefix of another's target (``*`` to a registry, ``*`` to
  ``backup/`` in it), unless it begins with that prefix (``backup/*``);
- of tags where both have a version range; ``newest`` is taken as if it left nothing out;
- of one sync's patterns for several targets: its plan looks there (``transfer.delivery.planner``), as it does between
  syncs that run together.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from registry_pipelines.config.model import Config
from registry_pipelines.config.registries import Mirror, Sync
from registry_pipelines.errors import InputError, ReferenceInvalid
from registry_pipelines.transfer.closure.choice import Choice

if TYPE_CHECKING:  # loaded where somebody syncs
    from registry_pipelines.transfer.closure.selector import Selector

_LITERAL = re.compile(r"[^*?\[]*")
_WILDCARD = re.compile(r"\*|\?|\[([^]!])[^]]*\]")
_ANYTHING = "zq0-anything-0qz"
"""Stands for what a ``*`` takes; so odd that another pattern takes it by a wildcard in the same place or not at all."""
_ALL = ("*",)
_ANY_TAG = Choice()
_LEAVE = "; let one of them leave it to the other with `exclude_repositories`, or give them different prefixes"


class _Writer(msgspec.Struct, frozen=True):
    """Something that fills one repository, or those of a pattern."""

    path: str
    """Where it stands in the configuration."""
    source: str
    """Where it comes from: registry and repository or pattern."""
    registry: str
    repository: str
    """Repository or pattern at ``registry``, prefix included."""
    prefix: str = ""
    choice: Choice = _ANY_TAG
    sync: str = ""
    chooses: Selector | None = None
    """Which repositories it takes, as named at the source; None for the one that it fills."""
    example: str = ""
    """A repository that it fills; empty when none can be made up from the pattern."""
    strip: str = ""
    """Beginning of names at the source that is left away."""

    @property
    def literal(self) -> bool:
        """Whether it fills one repository."""
        return self.example == self.repository

    def fills(self, repository: str) -> bool:
        """Whether a repository of the target's registry is among those it fills."""
        if self.chooses is None:
            return repository == self.repository
        return repository.startswith(_below(self.prefix, "")) and bool(self.chooses.select([self._named(repository)]))

    def origin(self, repository: str) -> str:
        """What it brings to a repository that it fills."""
        if self.chooses is None:
            return self.source
        return f"{self.source.partition('/')[0]}/{self._named(repository)}"

    def _named(self, repository: str) -> str:
        """What a repository that it may fill is called at the source."""
        name = repository.removeprefix(_below(self.prefix, ""))
        whole = _below(self.strip, name)
        return whole if self.chooses is not None and self.chooses.select([whole]) else name

    def meets(self, other: _Writer) -> bool:
        """Whether both may write one tag."""
        if self.sync and self.sync == other.sync and not (self.literal and other.literal):
            return False
        return (self._shares_example(other) or other._shares_example(self)) and self._shares_tags(other)

    def _shares_example(self, other: _Writer) -> bool:
        """Whether the other fills our example from elsewhere, and is meant to look below our prefix."""
        if not self.example or not self.fills(self.example) or not other.fills(self.example):
            return False
        by_chance = len(self.prefix) > len(other.prefix) and not _head(other.repository).startswith(f"{self.prefix}/")
        return not by_chance and self.origin(self.example) != other.origin(self.example)

    def _shares_tags(self, other: _Writer) -> bool:
        ours, theirs = self.choice, other.choice
        return not (ours.semver and theirs.semver) and any(
            _may_meet(one, two) and not _excluded(one, theirs.exclude_tags) and not _excluded(two, ours.exclude_tags)
            for one in ours.tags
            for two in theirs.tags
        )


def overlaps(config: Config) -> Iterable[tuple[str, str]]:
    """Path and message for whatever fills what something else fills already, as far as the file tells."""
    by_repository: dict[tuple[str, str], list[_Writer]] = {}
    by_registry: dict[str, list[_Writer]] = {}
    reported: set[tuple[str, str]] = set()
    for writer in sorted(_writers(config), key=lambda each: not each.literal):
        alike = by_repository.setdefault((writer.registry, writer.repository), [])
        there = by_registry.setdefault(writer.registry, [])
        other = next((each for each in (alike if writer.literal else there) if each.meets(writer)), None)
        if other is not None and (writer.path, other.path) not in reported:
            reported.add((writer.path, other.path))
            yield (
                writer.path,
                f"brings {writer.source} to {writer.registry}/{writer.repository}, where `{other.path}` brings "
                f"{other.source} under the same tags" + ("" if writer.literal else _LEAVE),
            )
        alike.append(writer)
        there.append(writer)


def filled(config: Config, registry: str, repository: str) -> Iterable[str]:
    """Paths of what may fill one repository."""
    writers = (each for each in _writers(config) if each.registry == registry)
    yield from dict.fromkeys(each.path for each in writers if each.fills(repository))


def _writers(config: Config) -> Iterable[_Writer]:
    for image in config.images.values():
        source = f"{image.registry}/{image.repository}"
        for name in image.targets:
            target = config.targets[name]
            repository = config.repository_at(image, target)
            yield _only(f"images.{image.name}.targets", source, target.registry, repository, target.prefix)
    for mirror in config.mirrors.values():
        yield from _mirrored(config, mirror)
    for sync in config.syncs.values():
        yield from _synced(config, sync)


def _mirrored(config: Config, mirror: Mirror) -> Iterable[_Writer]:
    stops = mirror.stops
    for name in mirror.images:
        image = config.images[name]
        source, repository = f"{image.registry}/{image.repository}", _below(mirror.prefix, image.repository)
        for stop in stops:
            yield _only(f"mirrors.{mirror.name}.images", source, stop, repository, mirror.prefix)
    for place, upstream in enumerate(mirror.upstreams):
        path = f"mirrors.{mirror.name}.upstreams[{place}]"
        try:
            registry, own = config.upstream_at(upstream)
            repository = config.mirrored_repository(mirror, upstream)
        except ReferenceInvalid:  # another check's to tell of
            continue
        for stop in stops:
            yield replace(_only(path, f"{registry}/{own}", stop, repository, mirror.prefix), choice=upstream)


def _only(path: str, source: str, registry: str, repository: str, prefix: str) -> _Writer:
    return _Writer(path, source, registry, repository, prefix, example=repository)


def _synced(config: Config, sync: Sync) -> Iterable[_Writer]:
    from registry_pipelines.transfer.closure.selector import Selector

    left = (*sync.exclude_repositories, *config.never_synced(sync))
    globs = sync.repositories or (() if sync.repositories_regex else _ALL)
    for pattern, is_regex in (
        *((glob, False) for glob in globs),
        *((regex, True) for regex in sync.repositories_regex),
    ):
        example = "" if is_regex else _example(pattern)
        try:
            chooses = Selector(regex=(pattern,), exclude=left) if is_regex else Selector(glob=(pattern,), exclude=left)
        except InputError:  # told by the check of the sync itself
            continue
        for place, name in enumerate(sync.targets):
            target = config.targets[name]
            yield _Writer(
                path=f"syncs.{sync.name}.targets[{place}]",
                source=f"{sync.source}/{pattern}",
                registry=target.registry,
                repository=_below(target.prefix, _stripped(sync, pattern)),
                prefix=target.prefix,
                choice=sync,
                sync=sync.name,
                chooses=chooses,
                example=_below(target.prefix, _stripped(sync, example)) if example else "",
                strip=sync.strip,
            )


def _stripped(sync: Sync, name: str) -> str:
    return name.removeprefix(f"{sync.strip}/") if sync.strip else name


def _below(prefix: str, repository: str) -> str:
    return f"{prefix}/{repository}" if prefix else repository


def _example(pattern: str) -> str:
    """A name that a pattern takes; the pattern itself when it has no wildcards; empty for what is not understood."""
    example = _WILDCARD.sub(lambda wildcard: _ANYTHING if wildcard[0] == "*" else wildcard[1] or "q", pattern)
    return example if _head(example) == example and fnmatch.fnmatchcase(example, pattern) else ""


def _excluded(pattern: str, excluded: Sequence[str]) -> bool:
    example = _example(pattern)
    return bool(example) and any(fnmatch.fnmatchcase(example, each) for each in excluded)


def _head(pattern: str) -> str:
    """What stands before the first wildcard."""
    return str(_LITERAL.match(pattern)[0])  # type: ignore[index]


def _may_meet(pattern: str, other: str) -> bool:
    """Whether two patterns can match one tag; True when that is not plain to see."""
    first, second = _head(pattern), _head(other)
    if first == pattern and second == other:
        return pattern == other
    return first.startswith(second) or second.startswith(first)
