"""A plan from a stored inventory: the same rules and the same decision as from a survey, one repository in memory.

The plan is a file from the start. What each image frees is known when all repositories were read: the lines are spooled
without it, and written whole afterwards.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO

import numpy as np

from registry_pipelines.collect.decide import Decision, decide_ruled
from registry_pipelines.collect.live import Live, NoPushes
from registry_pipelines.collect.make import repository_plan, said_aside
from registry_pipelines.collect.plan import INVENTORY, RepositoryPlan, RetentionPlan
from registry_pipelines.collect.plan_file import header_line, just_written, repository_lines, with_freed, write_lines
from registry_pipelines.collect.policies import Policies, judge, read_policies
from registry_pipelines.collect.rules import RetentionRule, rules_digest
from registry_pipelines.collect.unmatched import TagPatterns, unmatched
from registry_pipelines.collect.weigh import KEPT, add_to_rule, sums
from registry_pipelines.collect.weigh_columns import Needs
from registry_pipelines.errors import LocalError, Unavailable
from registry_pipelines.inventory.reader import EVERYTHING
from registry_pipelines.inventory.stored import Stored, StoredInventory
from registry_pipelines.inventory.survey import Survey
from registry_pipelines.inventory.value import Inventory, Source, read
from registry_pipelines.oci.times import write_time
from registry_pipelines.registry.set_aside import is_quarantine, is_set_aside


def plan_inventory(
    path: Path,
    rules: Sequence[RetentionRule],
    *,
    registry: str,
    known_as: str,
    now: datetime,
    in_use: Live,
    output: Path,
) -> RetentionPlan:
    """Plan what a registry can let go by an inventory of it, and write that to ``output``.

    path: of the Parquet file, whose parts stand beside it. registry: the registry's own name, as plans have it;
    known_as: that of the configuration, as inventories have it. now: with time zone. What came since the inventory is
    not known here: such a plan is applied only after each image was looked at again. Raises InputError (no such
    inventory), LifecycleInvalid, LocalError; Unavailable where the inventory does not have all repositories.
    """
    stored = StoredInventory(path)
    source = stored.source(known_as)
    if any(each.what == EVERYTHING for each in source.unread):
        raise Unavailable(f"the inventory does not have all repositories of {known_as}", where=str(path))
    policies = read_policies(rules)
    judged = judge(rules, policies, _listed(path, known_as) if policies else None, now)
    try:
        with tempfile.TemporaryFile(dir=output.parent) as spool:
            # Who looks when tags came looks at the registry: when the plan is applied.
            making = _Making(rules, judged, now, replace(in_use, pushes=NoPushes()), spool)
            making.read(stored.repositories(known_as), {each.what: each.problem for each in source.unread})
            header = making.header(registry, source)
            digest = write_lines(making.lines(header), output)
    except OSError as error:
        raise LocalError(f"the plan cannot be written: {error.strerror or error}", where=str(output)) from error
    return just_written(header, output, digest)


def _listed(path: Path, known_as: str) -> Inventory:
    """For policies, which are evaluated over all at once."""
    found = read(path)
    return found.only((found.frame["registry"] == known_as).to_numpy())


class _Making:
    def __init__(
        self, rules: Sequence[RetentionRule], judged: Policies, now: datetime, in_use: Live, spool: IO[bytes]
    ) -> None:
        self._rules, self._judged, self._now, self._in_use, self._spool = rules, judged, now, in_use, spool
        self._needs = Needs()
        self._counts: list[tuple[str, int, int]] = []
        self._going = array("q")
        self._by: list[str] = []
        self._lines = 0
        self._patterns = TagPatterns(rules)
        self._names: list[str] = []
        self._strange: list[str] = []
        self._aside = 0
        self._freed: Sequence[int] = ()

    def read(self, repositories: Iterator[Stored], unread: Mapping[str, str]) -> None:
        """Decide each repository, and spool its lines. unread: repositories that were not read whole, and why."""
        waiting = sorted(unread)
        for one in repositories:
            name = one.survey.repository
            while waiting and waiting[0] < name:
                self._refuse(waiting.pop(0), unread)
            if is_set_aside(name):
                self._aside += is_quarantine(name)
            elif name in unread:
                self._refuse(waiting.pop(0), unread)
                self._needs.add(one.blob, one.size, np.full(len(one.blob), KEPT))
                self._counts.append((name, len(one.survey.nodes), 0))
            else:
                self._repository(one)
        for name in waiting:
            self._refuse(name, unread)

    def _refuse(self, name: str, unread: Mapping[str, str]) -> None:
        self._names.append(name)
        if any(rule.covers(name) for rule in self._rules):
            self._write(repository_lines(RepositoryPlan(name, {}, refused=unread[name])))

    def _repository(self, one: Stored) -> None:
        survey = one.having(self._in_use.contents)
        ruled = self._judged.of(survey.repository)
        in_use = self._in_use.seen(survey.repository, survey.tags)
        decision = decide_ruled(survey, ruled, now=self._now, in_use=in_use)
        planned = repository_plan(survey, decision, [0] * len(decision.units))
        first = len(self._going)
        if any(rule.covers(survey.repository) for rule in self._rules):
            at = self._lines + 1
            self._write(repository_lines(planned))
            for number, entry in enumerate(planned.entries):
                if not entry.reasons:
                    self._going.append(at + number)
                    self._by.append(entry.rule)
        self._patterns.see(survey.repository, survey.tags)
        self._strange += self._in_use.unknown({survey.repository: survey.nodes})
        self._names.append(survey.repository)
        self._counts.append((survey.repository, len(planned.entries), len(self._going) - first))
        self._needs.add(one.blob, one.size, _entries(survey, decision, first)[one.row])

    def _write(self, lines: Iterator[bytes]) -> None:
        for line in lines:
            self._spool.write(line)
            self._lines += 1

    def header(self, registry: str, source: Source) -> RetentionPlan:
        """The plan without its repositories."""
        weights = self._needs.weigh(len(self._going))
        self._freed = weights.freed.tolist()
        by_rule: dict[str, list[int]] = {}
        for rule, freed in zip(self._by, self._freed, strict=True):
            add_to_rule(by_rule, rule, freed)
        notes = (
            *source.notes,
            *([said_aside(self._aside)] if self._aside else []),
            *unmatched(self._rules, self._names),
            *self._patterns.unmatched(),
            *self._in_use.notes,
            *self._strange,
            f"made from an inventory of {write_time(source.answered)}; each image is looked at again before it goes",
        )
        return RetentionPlan(
            registry,
            write_time(self._now),
            (),
            notes,
            tuple(map(str, self._in_use.stops)),
            str(rules_digest(self._rules)),
            INVENTORY,
            write_time(source.answered),
            sums(self._counts, weights.held.tolist(), weights.gone.tolist(), by_rule),
        )

    def lines(self, header: RetentionPlan) -> Iterator[bytes]:
        """The whole plan, with what each image frees."""
        yield header_line(header)
        self._spool.seek(0)
        going = iter(zip(self._going, self._freed, strict=True))
        number, freed = next(going, (-1, 0))
        for at, line in enumerate(self._spool):
            if at == number:
                yield with_freed(line, freed)
                number, freed = next(going, (-1, 0))
            else:
                yield line


def _entries(survey: Survey, decision: Decision, first: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """By row the entry that a manifest goes with, counted from ``first`` over those that go, or KEPT."""
    found = np.full(len(survey.nodes), KEPT)
    if decision.steps:
        rows = {digest: at for at, digest in enumerate(survey.nodes)}
        goes = [unit for unit in decision.units if not unit.reasons]
        for number, unit in enumerate(goes, first):
            for digest in decision.steps[unit.digest]:
                found[rows[digest]] = number
    return found
