"""What retention keeps: the rule that the configuration holds and :mod:`~registry_pipelines.collect.decide` applies."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from registry_pipelines.oci.digest import Digest
from registry_pipelines.settings import GLOB, Names


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry keeps; whatever no rule keeps or protects is in the plan. Repositories no rule names are kept.
    Several rules for one repository add up. In patterns, * also matches a slash."""

    registry: Annotated[str, Names("registries")]
    """Registry it is for."""
    repositories: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of repositories."""
    tags: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of tags: `keep_newest` and `keep_days` count images with such a tag alone. An image with a tag that no
    rule's pattern matches stays."""
    keep_newest: Annotated[int, Meta(ge=0, le=1_000_000)] = 10
    """Keep so many of the newest images."""
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 30
    """Keep what is younger than so many days."""
    protect: tuple[Annotated[str, GLOB], ...] = ()
    """Patterns of tags that are never removed."""

    def covers(self, repository: str) -> bool:
        """Whether the rule is for this repository, in its registry."""
        return matches(repository, self.repositories)

    def speaks_of(self, tags: Iterable[str]) -> bool:
        """Whether it is about an image with these tags."""
        return any(matches(tag, self.tags) for tag in tags)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of the globs, case-sensitively."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def rules_digest(rules: Sequence[RetentionRule]) -> Digest:
    """One digest of all that rules say, in their order: whether a plan was made by the rules of now."""
    return Digest.of(msgspec.json.encode(rules, order="deterministic", enc_hook=str))
