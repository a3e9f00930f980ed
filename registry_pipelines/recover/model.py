"""What the configuration says of backups."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from registry_pipelines.settings import GLOB, PREFIX, Duration, EntryName, Names


class Objectives(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised of a backup; a drill or a look that misses one is not `ok`."""

    rpo: Duration = Duration(hours=26)
    """Recovery point: how old the newest whole moment may be. Nightly, with two hours for the run."""
    rto: Duration = Duration(hours=4)
    """Recovery time: how long a restore may take."""


Count = Annotated[int, Meta(ge=0, le=10_000)]


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which moments `recover expire` leaves. Each rule adds; the newest moment always stays."""

    last: Count = 0
    """The last ones."""
    within: Duration | None = None
    """All that are younger."""
    daily: Count = 0
    """The last moment of each of so many days that have one (UTC)."""
    weekly: Count = 0
    """The same of weeks."""
    monthly: Count = 0
    """The same of months."""
    yearly: Count = 0
    """The same of years."""

    @property
    def says_nothing(self) -> bool:
        """Whether no rule is there."""
        return not (self.last or self.within or self.daily or self.weekly or self.monthly or self.yearly)


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registries whose images are kept at another place, with a signed record of what each tag named at each run
    (docs/recovery.md)."""

    name: EntryName
    registries: Annotated[tuple[Annotated[str, Names("registries")], ...], Meta(min_length=1)]
    """Registries to keep, each below its name at `to`."""
    to: Annotated[str, Names("registries")]
    """Where they are kept: best an object store of another account (`kind: store`), or any registry that keeps what has
    no tag."""
    prefix: Annotated[str, PREFIX] = ""
    """Put in front of every repository there."""
    repositories: tuple[Annotated[str, GLOB], ...] = ()
    """Names or patterns of repositories; all that a registry lists unless told."""
    exclude_repositories: tuple[Annotated[str, GLOB], ...] = ()
    """Patterns of repositories to leave."""
    objectives: Objectives = Objectives()
    """What is promised of it."""
    keep: Keep | None = None
    """Which moments stay when `recover expire` runs; without it none ever goes."""


__all__ = ["Backup", "Keep", "Objectives"]
