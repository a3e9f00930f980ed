"""What a cloud's half of this room offers to planning and applying."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from registry_pipelines.infra.settings import Setting

if TYPE_CHECKING:
    from registry_pipelines.infra.plan import Change, Outcome


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is there. settings: every declared one with what was found of it, then those that nobody declared. notes:
    what was not looked at, one sentence each. readers: who may read what, and where that comes from, as rows."""

    settings: tuple[Setting, ...]
    notes: tuple[str, ...] = ()
    readers: tuple[dict[str, str], ...] = ()


class SettingsCloud(Protocol):
    """The settings of one registry in one cloud. Safe for one thread; it may use its own."""

    place: str
    """The registry's name in the configuration."""
    where: str
    """What it is, whatever a configuration calls it: an account and a region, a project and a location."""
    order: Sequence[str]
    """Every kind it knows, in the order in which they are changed; deletions go the other way."""
    needs: Mapping[str, str]
    """By kind, the kind of the thing of the same name that must be there first: a repository before its policy."""

    def read(self, declared: Sequence[Setting]) -> Found:
        """Ask what is there: lists by pages, and one call for each declared thing that no list tells of. Changes
        nothing. Raises RegistryError where nothing can be read at all; one thing that cannot be read is ``unread``."""
        ...

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Make changes of one kind, and say of each what became of it; no failure stops the others. What one call can
        do for several (a registry's replication) is one call. Raises nothing but LocalError."""
        ...
