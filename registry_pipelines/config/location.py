"""What the code location in Dagster says of itself: who owns what, where its code is, how much runs at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.settings import NAME, OWNER, SOURCE, Duration, unknown

PLATFORM, SECURITY = "platform", "security"
DUTIES = (PLATFORM, SECURITY)
"""Who is there without being written: who runs it, and who judges."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What Dagster keeps of what was. Its own `retention` is about ticks alone: runs and keys stay for ever otherwise.
    Evidence is in the registries, and stays."""

    apply: Literal["look", "auto"] = "look"
    """`look`: the nightly job says what would go. `auto`: it removes it."""
    runs: Duration = Duration(days=90)
    """Ended runs that are older go. Never one that something still stands on: the newest about a release, of a job, of
    an asset or one of its partitions."""
    superseded: Duration | None = None
    """Partitions of releases go when a later one of the image was promoted so long ago; never those that a channel
    names. The release itself stays where it is. None unless told: they go with their release, by `collect`."""
    most: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    """Runs that go in one night, and as many partitions; the oldest first."""


class DagsterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What people find in Dagster beside the work itself (docs/dagster.md)."""

    owners: dict[Annotated[str, NAME], tuple[Annotated[str, OWNER], ...]] = {}
    """Who owns what, as e-mail addresses and `team:NAME`: of `platform` (what moves images, `team:platform` unless
    told), of `security` (what scans, signs and judges, `team:security` unless told), and of each team of `report.teams`
    (its images, `team:` and its name unless told)."""
    source: Annotated[str, SOURCE] = ""
    """Where the folder that holds `dagster_project` is to be read, at the commit that runs:
    `https://github.com/ORG/REPO/blob/COMMIT`, in GitLab `https://gitlab.com/ORG/REPO/-/blob/COMMIT`. Every asset links
    to its file and line there; to the file on this machine unless told."""
    configuration_source: Annotated[str, SOURCE] = ""
    """The same of the folder that holds this file: mirrors, targets, backups and the like link to their lines in it."""
    pools: dict[Annotated[str, NAME], Annotated[int, Meta(ge=1, le=1000)]] = {}
    """How many steps run at once in a pool, on all machines together: of a registry (4 unless told) those that copy to
    it, list it or delete there; `start` (1) those that measure starts, `rescan` (1) runs that share the 256 parts of a
    rescan, `sweep` (1) those of each other sweep."""
    sweeps: tuple[Literal["drift", "lag", "cost"], ...] = ()
    """What is swept every night beside the rescan, in the same 256 parts: `drift` (whether targets have what sources
    have), `lag` (how far they are behind), `cost` (what registries hold, and what that costs)."""
    history: History = History()
    """What goes of old runs and partitions."""


def problems(
    settings: DagsterSettings, teams: Mapping[str, Sequence[str]], registries: Iterable[str], pools: Sequence[str]
) -> Iterable[tuple[str, str]]:
    """What names nothing: path and message. pools: those that are no registry's."""
    for name in settings.owners:
        if name not in (*DUTIES, *teams):
            yield f"dagster.owners.{name}", unknown(name, (*DUTIES, *teams), "team")
    known = (*pools, *registries)
    for name in settings.pools:
        if name not in known:
            yield f"dagster.pools.{name}", unknown(name, known, "pool")


__all__ = ["DUTIES", "PLATFORM", "SECURITY", "DagsterSettings", "History", "problems"]
