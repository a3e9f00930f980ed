"""Bytes: what a plan truly frees, and who holds what. A blob counts once in a registry, whoever shares it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from registry_pipelines.collect.plan import RepositoryPlan, Total

KEPT = 1 << 62
"""In place of an entry's number: what stays. Larger than any, since the last that needs a blob decides on it."""


@dataclass
class Held:
    """The blobs of one repository. entries: how many it has. last: by blob its bytes, and the last entry that needs it
    (a number, or KEPT)."""

    entries: int
    last: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, blob: str, size: int, entry: int) -> None:
        """One manifest's need of one blob."""
        before = self.last.get(blob)
        if before is None or entry > before[1]:
            self.last[blob] = (size, entry)


@dataclass(frozen=True)
class Weights:
    """By repository. freed: what each of its entries frees. held, gone: what it holds, and what of that goes, where a
    blob of several repositories counts in equal parts."""

    freed: Sequence[Sequence[int]]
    held: Sequence[int]
    gone: Sequence[int]


def weigh(repositories: Sequence[Held]) -> Weights:
    """Count each blob once: its bytes are freed by the last entry, in the order of repositories and entries, that needs
    it, and only where nothing keeps it."""
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for at, held in enumerate(repositories):
        for blob in held.last:
            holders[blob].append(at)
    freed = [[0] * held.entries for held in repositories]
    holds, gone = [0] * len(repositories), [0] * len(repositories)
    for blob, places in holders.items():
        size, entry = repositories[places[-1]].last[blob]
        goes = all(repositories[at].last[blob][1] != KEPT for at in places)
        if goes:
            freed[places[-1]][entry] += size
        for at, part in zip(places, _parts(size, len(places)), strict=True):
            holds[at] += part
            gone[at] += part if goes else 0
    return Weights(freed, holds, gone)


def _parts(size: int, count: int) -> Iterable[int]:
    """Equal parts; what is over goes to the first, a byte each, so that the sum is the whole."""
    part, over = divmod(size, count)
    return (part + (at < over) for at in range(count))


def team_of(repository: str) -> str:
    """Whose a repository is: the first part of its name."""
    return repository.partition("/")[0]


def totals(plans: Sequence[RepositoryPlan], weights: Weights) -> tuple[Total, ...]:
    """The sums of a plan: registry, teams, repositories, rules. plans: all repositories that were weighed."""
    counts = [(each.repository, len(each.entries), sum(not entry.reasons for entry in each.entries)) for each in plans]
    by_rule: dict[str, list[int]] = {}
    for planned, freed in zip(plans, weights.freed, strict=True):
        for entry, size in zip(planned.entries, freed, strict=True):
            if not entry.reasons:
                add_to_rule(by_rule, entry.rule, size)
    return sums(counts, weights.held, weights.gone, by_rule)


def add_to_rule(by_rule: dict[str, list[int]], rule: str, freed: int) -> None:
    """One more entry that goes by a rule."""
    found = by_rule.setdefault(rule, [0, 0])
    found[0] += 1
    found[1] += freed


def sums(
    counts: Sequence[tuple[str, int, int]], held: Sequence[int], gone: Sequence[int], by_rule: dict[str, list[int]]
) -> tuple[Total, ...]:
    """As :func:`totals`. counts: repository, entries, and how many of them go. by_rule: entries and bytes."""
    teams: dict[str, list[int]] = {}
    repositories = []
    for (name, images, going), before, freed in zip(counts, held, gone, strict=True):
        repositories.append(Total("repository", name, images, going, int(before), int(freed)))
        team = teams.setdefault(team_of(name), [0, 0, 0, 0])
        for at, value in enumerate((images, going, int(before), int(freed))):
            team[at] += value
    whole = [sum(column) for column in zip(*teams.values(), strict=True)] or [0, 0, 0, 0]
    return (
        Total("registry", "", *whole),
        *(Total("team", name, *teams[name]) for name in sorted(teams)),
        *sorted(repositories, key=lambda each: each.name),
        *(Total("rule", name, going, going, 0, freed) for name, (going, freed) in sorted(by_rule.items())),
    )
