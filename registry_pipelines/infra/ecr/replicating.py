"""Replication of a registry: its rules in one call, backfills of what was pushed before, and whether it all arrived.

What a backfill is like (the ECR user guide and botocore's model, 2026): one at a time for each destination, ten for a
registry; it copies what matches the rules of that moment; ECR declares it FAILED when half of its copies failed, judged
once 100 were tried; one that ended is never taken up again, a new one is started. COMPLETE does not mean that every
image arrived, so arrivals are compared by digest with what the destination lists.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from registry_pipelines.errors import RegistryError, RegistryPipelinesError
from registry_pipelines.infra.ecr import forms, kinds
from registry_pipelines.infra.ecr.asking import Asking
from registry_pipelines.infra.ecr.owed import Owed
from registry_pipelines.infra.plan import Change, Outcome, done, failed
from registry_pipelines.infra.settings import Plain
from registry_pipelines.progress import count_text
from registry_pipelines.registry.ecr.calls import Answer

FIRST_LOOK_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between looks at backfills: half as long again each time, as they take minutes to hours."""

SHOWN = 5
"""Missing images that an outcome names; all of them are in the next one."""


class Waiting(msgspec.Struct, frozen=True):
    """How long backfills are waited for. limit_s: after that the change counts as failed, the backfill goes on, and the
    same command waits for it again."""

    limit_s: float = 6 * 3600.0
    first_s: float = FIRST_LOOK_S
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic


def current(asking: Asking) -> dict[str, dict[str, Plain]]:
    """The replication that a registry has, by destination. Raises the RegistryError family."""
    return edges(asking.ask("describe_registry"))


def edges(registry: Answer) -> dict[str, dict[str, Plain]]:
    """The same, of what ``describe_registry`` told."""
    told = registry.get("replicationConfiguration", {})
    return forms.edges(
        (
            [forms.destination_name(each) for each in rule.get("destinations", ())],
            [each["filter"] for each in rule.get("repositoryFilters", ())],
            bool(rule.get("deleteReplication", {}).get("enabled")),
        )
        for rule in told.get("rules", ())
    )


def set_rules(asking: Asking, changes: Sequence[Change], owed: Owed) -> Iterator[Outcome]:
    """All changed destinations in one call, beside those that nobody declared, as they are in this moment."""
    try:
        there = current(asking)
        moved = [each for each in changes if there.get(each.name) != each.found]
        kept = [each for each in changes if there.get(each.name) == each.found]
        for each in kept:
            there.pop(each.name, None)
            if each.action != "delete":
                there[each.name] = dict(each.wanted or {})
        if kept:
            # Before the rules: were this process killed in between, an older backfill would pass for theirs.
            owed.add(frozenset(each.name for each in kept if each.action != "delete"))
            asking.ask("put_replication_configuration", replicationConfiguration={"rules": forms.rules(there)})
    except RegistryPipelinesError as error:
        yield from (failed(each, error) for each in changes)
        return
    yield from (done(each) for each in kept)
    yield from (failed(each, "somebody changed it meanwhile; plan again") for each in moved)


class Backfills:
    """Starts backfills, waits for all of them together, and compares what arrived."""

    def __init__(
        self, asking: Asking, owed: Owed, waiting: Waiting, elsewhere: Mapping[str, Callable[[], Asking]]
    ) -> None:
        self._asking, self._owed, self._waiting, self._elsewhere = asking, owed, waiting, elsewhere

    def apply(self, changes: Sequence[Change]) -> Iterator[Outcome]:
        """Each destination's; those that are under way already are waited for, not started again."""
        running: dict[str, Change] = {}
        older: set[str] = set()
        for change in changes:
            try:
                running[self._begun(change, older)] = change
            except RegistryPipelinesError as error:
                yield failed(change, error)
        pending = set(running)
        for backfill, ended in self._ended(pending):
            change = running.pop(backfill)
            try:
                if backfill in older:
                    following = self._started(change)
                    running[following] = change
                    pending.add(following)
                else:
                    yield self._judged(change, backfill, ended)
            except RegistryPipelinesError as error:
                yield failed(change, error)
        for change in running.values():
            waited = f"is not done after {self._waiting.limit_s:.0f} s and goes on; the same command waits for it"
            yield failed(change, f"the backfill to {change.name} {waited}")

    def _begun(self, change: Change, older: set[str]) -> str:
        """The id of the backfill that serves a change. One that follows the rules of before is waited for (there is
        room for one at a destination), and noted in ``older``."""
        found = change.found or {}
        if found.get("status") in kinds.UNDER_WAY:
            if change.name in self._owed.read():
                older.add(str(found["id"]))
            return str(found["id"])
        return self._started(change)

    def _started(self, change: Change) -> str:
        destination = forms.destination_value(change.name)
        try:
            answer = self._asking.ask("start_replication_backfill", destination=destination)
        except RegistryError as error:
            if error.code != "ReplicationBackfillInProgressException":
                raise
            # Somebody started one since the plan, or our own call was answered too late.
            running = [each for each in self._listed() if each["status"] in kinds.UNDER_WAY]
            ours = [each for each in running if forms.destination_name(each["destination"]) == change.name]
            if not ours:
                raise
            answer = ours[0]
        self._owed.drop(change.name)
        return str(answer["replicationBackfillId"])

    def _listed(self) -> Iterator[dict[str, Any]]:
        yield from self._asking.pages("list_replication_backfills", "backfills", maxResults=50)

    def _ended(self, waited: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those that ended, each once, until all did or the time is up. One list tells of all."""
        ends, pause = self._waiting.clock() + self._waiting.limit_s, self._waiting.first_s
        while waited:
            self._waiting.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_S)
            try:
                listed = {each["replicationBackfillId"]: each for each in self._listed()}
            except RegistryPipelinesError:
                if self._waiting.clock() > ends:
                    return
                continue
            for backfill in sorted(waited):
                if backfill not in listed or listed[backfill]["status"] in kinds.ENDED:
                    waited.discard(backfill)
                    yield backfill, listed.get(backfill, {})
            if self._waiting.clock() > ends:
                return

    def _judged(self, change: Change, backfill: str, ended: dict[str, Any]) -> Outcome:
        results = list(
            self._asking.pages(
                "describe_replication_backfill_results", "results", replicationBackfillId=backfill, maxResults=1000
            )
        )
        lost = Counter(each.get("failureCode") or "unknown" for each in results if each["status"] == "FAILED")
        causes = ", ".join(f"{code} {number}" for code, number in lost.most_common())
        if (status := ended.get("status", "")) != kinds.BACKFILLED:
            why = (
                f"the backfill to {change.name} ended as {status or 'unknown'} {ended.get('failureCode', '')}".rstrip()
            )
            why += f": {lost.total()} of {count_text(len(results), 'image')} failed ({causes})" if lost else ""
            return failed(change, f"{why}. ECR gives up where half fail; remove the cause, then apply again")
        sent: dict[str, set[str]] = {}
        for each in results:
            sent.setdefault(each["repositoryName"], set()).add(each["imageId"].get("imageDigest", ""))
        missing = self.missing(change.name, sent)
        total = sum(map(len, sent.values()))
        if missing is None and lost:
            said = f"{lost.total()} of {count_text(len(results), 'image')} failed ({causes})"
            return failed(change, f"{change.name}: {said}; remove the cause, then apply again")
        if missing is None:
            why = f"{change.name} is another account, and no registry of the configuration"
            return done(change, images=total, verified=0, not_verified=why)
        if missing:
            named = ", ".join(f"{repository}@{digest}" for repository, digest in missing[:SHOWN])
            said = f"{len(missing)} of {count_text(total, 'image')} did not arrive at {change.name}: {named}"
            return failed(change, f"{said}{f' ({causes})' if causes else ''}; apply again starts another backfill")
        return done(change, images=total, verified=total, repositories=len(sent))

    def missing(self, destination: str, sent: dict[str, set[str]]) -> list[tuple[str, str]] | None:
        """What a destination does not list of what was sent, as (repository, digest); None for another account that is
        no registry of the configuration."""
        account, _, region = destination.partition("/")
        if account != self._asking.account and destination not in self._elsewhere:
            return None
        there = self._elsewhere[destination]() if destination in self._elsewhere else self._asking
        repositories = sorted(sent)

        def arrived(repository: str) -> set[str]:
            named = {"registryId": account, "repositoryName": repository, "maxResults": 1000, "region": region}
            try:
                return {each["imageDigest"] for each in there.pages("list_images", "imageIds", **named)}
            except RegistryError as error:
                if error.code != "RepositoryNotFoundException":
                    raise
                return set()

        found: list[tuple[str, str]] = []
        for repository, answer in zip(repositories, self._asking.each(repositories, arrived), strict=True):
            if isinstance(answer, RegistryPipelinesError):
                raise answer
            found += [(repository, digest) for digest in sorted(sent[repository] - answer)]
        return found
