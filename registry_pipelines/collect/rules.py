"""What retention keeps: the rule that the configuration holds and :mod:`~registry_pipelines.collect.decide` applies."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.oci.digest import Digest
from registry_pipelines.settings import FILE, GLOB, NAME, Duration, Names

KEEP_NEWEST = 10
"""Of a rule that says neither a number nor a policy."""

EVERY = ("*",)
"""The patterns that every name matches."""

KEEP_DAYS = 30
"""As above, in days."""

GLOB_CHARACTERS = frozenset("*?[")
"""A pattern without any names one repository in full."""


class Collect(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to what retention lets go (docs/retention.md)."""

    quarantine: Annotated[int, Meta(ge=0, le=3650)] = 14
    """Days for which what a plan deletes can be brought back (`collect undo`): it is kept in `rp-quarantine/...` of the
    same registry, and frees its bytes after that, by `collect purge`. 0 deletes at once, and nothing comes back."""
    recent: Duration = Duration(hours=1)
    """What was pushed, or got a tag, within this time stays whatever the rules say, how old the image may be: by the
    registry's word where it tells (ECR, Artifact Registry), else by the tags that earlier plans saw. `0s` for none."""
    apply: Literal["manual", "auto"] = "manual"
    """`auto`: Dagster's weekly schedule applies a plan that it makes then, without anybody's approval. `manual`: a
    person materializes `collected/<registry>` with the plan's digest."""


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry keeps; whatever no rule keeps or protects is in the plan. Repositories no rule names are kept.
    Several rules for one repository add up. In patterns, * also matches a slash."""

    registry: Annotated[str, Names("registries")]
    """Registry it is for."""
    name: Annotated[str, NAME] | None = None
    """What plans call it; `rule` and its number unless told."""
    repositories: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of repositories."""
    tags: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of tags: `keep_newest` and `keep_days` count images with such a tag alone. An image with a tag that no
    rule's pattern matches stays."""
    keep_newest: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    """Keep so many of the newest images; 10 unless told, with `policy` none."""
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] | None = None
    """Keep what is younger than so many days; 30 unless told, with `policy` none."""
    protect: tuple[Annotated[str, GLOB], ...] = ()
    """Patterns of tags that are never removed."""
    policy: Annotated[Path, FILE] | None = None
    """A lifecycle policy of ECR or cleanup policies of Artifact Registry, as that cloud takes them: only what these
    delete may go, from any registry, and all reasons to keep hold as well (docs/retention.md)."""
    semantics: Literal["ecr", "gar"] | None = None
    """Whose grammar `policy` is in; told from the file unless given."""
    untagged_days: Annotated[int, Meta(ge=0, le=36_500)] | None = None
    """Let go of images without a tag that no index lists, after so many days; they stay unless told. Only registries of
    clouds list them all; elsewhere those are seen that have a signature under a tag."""
    keep_signed: bool = False
    """An image without a tag stays while it has a signature."""
    orphans_days: Annotated[int, Meta(ge=0, le=36_500)] | None = None
    """Let go of evidence (signatures, SBOMs, attestations) of an image that is gone, after so many days; it stays
    unless told. 0: whatever its age, which signatures of cosign do not tell."""
    incomplete: Literal["judge", "keep"] = "judge"
    """An index of which images are gone is judged as any other, by the age of those that are there, or stays."""

    @property
    def newest(self) -> int:
        """``keep_newest``, or what it is unless told."""
        if self.keep_newest is None:
            return KEEP_NEWEST if self.policy is None else 0
        return self.keep_newest

    @property
    def days(self) -> int:
        """``keep_days``, or what it is unless told."""
        if self.keep_days is None:
            return KEEP_DAYS if self.policy is None else 0
        return self.keep_days

    def covers(self, repository: str) -> bool:
        """Whether the rule is for this repository, in its registry."""
        return matches(repository, self.repositories)

    def speaks_of(self, tags: Iterable[str]) -> bool:
        """Whether it is about an image with these tags."""
        if self.tags == EVERY:
            return any(True for _ in tags)
        return any(matches(tag, self.tags) for tag in tags)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of the globs, case-sensitively."""
    found = _compiled(patterns if isinstance(patterns, tuple) else tuple(patterns))
    return found is not None and found.match(name) is not None


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    """All globs as one expression: a million tags against a handful of them take two seconds, one by one twenty."""
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


def label(rule: RetentionRule, number: int) -> str:
    """What plans call a rule. number: from 1 on, of the rules for its registry."""
    return rule.name or f"rule {number}"


def rules_digest(rules: Sequence[RetentionRule]) -> Digest:
    """One digest of all that rules say, in their order, with the bytes of their policies: whether a plan was made by
    the rules of now. A policy that cannot be read counts as empty; whoever plans by it is told."""
    told = msgspec.json.encode(rules, order="deterministic", enc_hook=str)
    return Digest.of(b"\n".join([told, *(_bytes(rule.policy) for rule in rules if rule.policy)]))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
