"""The retention plan: a plain value that says what would be deleted and why all else stays. Nothing changes here."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from registry_pipelines.collect.decide import Decision, decide, decide_one
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.errors import ContentError, InputError, NotFound, RegistryError, Unsupported
from registry_pipelines.inventory.survey import Survey, state_of, survey
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.registry.hidden import hidden_tags
from registry_pipelines.registry.protocol import Place, Registry

PLAN_SCHEMA = 1
"""Of the JSON form; another number is refused."""

MAX_PLAN_BYTES = 256 * 1024 * 1024
"""A plan for 500,000 manifests has about 150 MB."""

_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Entry:
    """One tagged manifest. delete: empty when it stays, else all manifests that go with it, in order.

    freed_bytes: of manifests and blobs that nothing else needs once all entries before this one are gone, so the
    entries' sum is the plan's. created: RFC 3339, empty when unknown.
    """

    digest: Digest
    tags: tuple[str, ...]
    created: str
    reasons: tuple[str, ...]
    delete: tuple[Digest, ...] = ()
    freed_bytes: int = 0


@dataclass(frozen=True)
class RepositoryPlan:
    """One repository. tags: the list the plan was made from. refused: why nothing is planned for it, empty when all was
    clear."""

    repository: str
    tags: Mapping[str, Digest]
    entries: tuple[Entry, ...] = ()
    refused: str = ""

    @property
    def state(self) -> Digest:
        """The digest of the tag list."""
        return state_of(self.tags)


@dataclass(frozen=True)
class RetentionPlan:
    """What a registry could let go. registry: its name. made_at: RFC 3339. notes: what the numbers do not include.
    stopped: what could not be known, so that something stays until it is."""

    registry: str
    made_at: str
    repositories: tuple[RepositoryPlan, ...]
    notes: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()

    @property
    def deletions(self) -> Iterator[tuple[str, Entry]]:
        """(repository, entry) of all that goes."""
        for planned in self.repositories:
            yield from ((planned.repository, entry) for entry in planned.entries if not entry.reasons)

    @property
    def freed_bytes(self) -> int:
        """Bytes that the registry can free after the plan; layers that anything kept shares are not counted."""
        return sum(entry.freed_bytes for _, entry in self.deletions)

    @property
    def digest(self) -> Digest:
        """The digest of the JSON form: what an approval names."""
        return Digest.of(self.to_json().encode())

    def rows(self) -> list[dict[str, str | int]]:
        """A table: what goes first, then what stays and why."""
        rows: list[dict[str, str | int]] = []
        for planned in self.repositories:
            if planned.refused:
                rows.append(_row(planned.repository, "", "refuse", 0, "", planned.refused))
            for entry in planned.entries:
                action = "keep" if entry.reasons else "delete"
                reasons = "; ".join(entry.reasons) or "neither new, young, protected, in use nor needed"
                tags = ", ".join(entry.tags)
                rows.append(
                    _row(planned.repository, tags, action, entry.freed_bytes, entry.created, reasons, entry.digest)
                )
        order = {"refuse": 0, "delete": 1, "keep": 2}
        return sorted(rows, key=lambda row: (order[str(row["action"])], str(row["repository"])))

    def to_json(self) -> str:
        """The plan as JSON; :meth:`from_json` reads it."""
        return json.dumps({"schema": PLAN_SCHEMA, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RetentionPlan:
        """Read a stored plan. Raises InputError."""
        if len(text) > MAX_PLAN_BYTES:
            raise InputError(f"the plan is larger than {MAX_PLAN_BYTES} bytes")
        try:
            stored: Any = json.loads(text)
            if stored["schema"] != PLAN_SCHEMA:
                raise InputError(f"the plan has schema {stored['schema']}", do="Make a new plan with this version")
            repositories = tuple(_read_repository(repository) for repository in stored["repositories"])
            notes, stopped = (tuple(map(str, stored.get(name, ()))) for name in ("notes", "stopped"))
            return cls(str(stored["registry"]), str(stored["made_at"]), repositories, notes, stopped)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise InputError("this is not a retention plan", do="Make a new one") from error


def _row(
    repository: str, tags: str, action: str, freed: int, created: str, why: str, digest: str = ""
) -> dict[str, str | int]:
    return {
        "repository": repository,
        "tags": tags,
        "action": action,
        "freed_bytes": freed,
        "created": created,
        "why": why,
        "digest": digest,
    }


def _read_repository(stored: Any) -> RepositoryPlan:
    tags = {str(tag): Digest.parse(digest) for tag, digest in stored["tags"].items()}
    entries = tuple(
        Entry(
            Digest.parse(entry["digest"]),
            tuple(map(str, entry["tags"])),
            str(entry["created"]),
            tuple(map(str, entry["reasons"])),
            tuple(map(Digest.parse, entry["delete"])),
            int(entry["freed_bytes"]),
        )
        for entry in stored["entries"]
    )
    return RepositoryPlan(str(stored["repository"]), tags, entries, str(stored["refused"]))


def plan_retention(
    registry: Registry,
    rules: Sequence[RetentionRule],
    *,
    now: datetime,
    in_use: Live | Collection[Digest | str] | Mapping[Digest, str],
) -> RetentionPlan:
    """Plan what to delete: in each repository a rule names, whatever no rule keeps and nothing kept needs.

    now: with time zone. in_use: all that is live, or digests of images that run or are otherwise needed (index or
    platform manifest), or these with who needs them; give digests, since a running image's tag may have moved. Kept are
    also: index children, referrers, fallback and cosign tags of what is kept, tags under ``protect``, images of unknown
    age. A repository where anything is unclear is refused as a whole, with the reason. Raises InputError, RegistryError
    (the list of repositories).
    """
    if now.tzinfo is None:
        raise InputError("`now` has no time zone")
    used = Live.of(in_use)
    names, notes, listed = _repositories(registry, rules)
    surveys: list[Survey] = []
    refused: list[RepositoryPlan] = []
    for name in names:
        covered = any(rule.covers(name) for rule in rules)
        try:
            found, used = _survey(
                Place(registry, name), [rule for rule in rules if rule.covers(name)], now, used, notes
            )
            surveys.append(found)
        except (RegistryError, ContentError) as error:
            if isinstance(error, NotFound) and (not covered or (listed and error.code == "NAME_UNKNOWN")):
                continue  # gone, or what docker-registry says of a repository without tags
            if covered:
                refused.append(RepositoryPlan(name, {}, refused=str(error)))
            notes.append(f"{name} could not be read; layers it shares may be counted as freed")
    planned = _weigh(surveys, rules, now, used)
    together = sorted([*planned, *refused], key=lambda one: one.repository)
    stopped = tuple(map(str, used.stops))
    return RetentionPlan(registry.name, _written(now), tuple(together), (*notes, *used.notes), stopped)


def plan_deletion(
    place: Place, digest: Digest, rules: Sequence[RetentionRule], *, now: datetime, in_use: Mapping[Digest, str]
) -> RetentionPlan:
    """Plan to delete one manifest that somebody named, with its tags and the evidence that refers to it: a plan of one
    entry, which has reasons where an index, a subject, a channel or a tag that a rule protects still needs it.

    now: with time zone. rules: those of the registry; only what they ``protect`` counts. in_use: digest to who uses it,
    for people. Raises RegistryError, ContentError when anything about the repository is unclear.
    """
    notes = ["other repositories were not read; layers that they share are counted as freed"]
    surveyed = _with_hidden(place, survey(place, roots=[digest]), notes, roots=[digest])
    decision = decide_one(surveyed, digest, rules, in_use=Live.of(in_use))
    going = {one for steps in decision.steps.values() for one in steps}
    kept = {blob for one, node in surveyed.nodes.items() if one not in going for blob in node.blobs}
    return RetentionPlan(
        place.registry.name, _written(now), (_repository_plan(surveyed, decision, kept),), tuple(notes)
    )


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _survey(
    place: Place, rules: Sequence[RetentionRule], now: datetime, in_use: Live, notes: list[str]
) -> tuple[Survey, Live]:
    """What is there, and what is live with what came lately. Where something could go, the registry is asked first for
    tags that it does not list: what they name would go for want of a tag, or under a tag that is protected."""
    listed = survey(place)
    if not rules:
        return listed, in_use
    known = in_use.seen(place.repository, listed.tags)
    if not decide(listed, rules, now=now, in_use=known).steps:
        return listed, known
    whole = _with_hidden(place, listed, notes)
    return whole, known if whole is listed else in_use.seen(place.repository, whole.tags)


def _with_hidden(place: Place, listed: Survey, notes: list[str], roots: Sequence[Digest] = ()) -> Survey:
    """The survey, with the tags that the registry has and did not list."""
    hidden = hidden_tags(place, listed.tags)
    if hidden.asked:
        also_there = (
            f"; {len(hidden.tags)} are there all the same: {', '.join(hidden.tags[:10])}" if hidden.tags else ""
        )
        notes.append(
            f"{place.repository}: it was asked {count_text(hidden.asked, 'time')} whether it has tags that its list "
            f"leaves out{also_there or ': none'}"
        )
    return survey(place, hidden.tags, roots) if hidden.tags else listed


def _repositories(registry: Registry, rules: Sequence[RetentionRule]) -> tuple[list[str], list[str], bool]:
    """All repositories, since any may share layers; without a catalogue those the rules name in full. What the numbers
    do not include. Whether the registry listed them."""
    notes = ["manifests that no tag, index or referrer leads to are not seen; the registry collects them itself"]
    try:
        return sorted(registry.repositories()), notes, True
    except Unsupported as error:
        patterns = [pattern for rule in rules for pattern in rule.repositories]
        if any(_GLOB_CHARACTERS.intersection(pattern) for pattern in patterns):
            raise InputError(
                "the registry does not list its repositories, so patterns cannot be resolved",
                where=registry.name,
                do="Name the repositories of this registry's retention rules in full",
            ) from error
        notes.append("the registry does not list its repositories; layers shared with others are counted as freed")
        return sorted(set(patterns)), notes, False


def _weigh(
    surveys: Sequence[Survey], rules: Sequence[RetentionRule], now: datetime, in_use: Live
) -> list[RepositoryPlan]:
    """Decide each repository, then count bytes over all of them: a blob is freed once, and only if nothing keeps it."""
    decisions = [(surveyed, decide(surveyed, rules, now=now, in_use=in_use)) for surveyed in surveys]
    needed: set[Digest] = set()
    for surveyed, decision in decisions:
        going = {digest for steps in decision.steps.values() for digest in steps}
        for digest, node in surveyed.nodes.items():
            if digest not in going:
                needed.update(node.blobs)
    return [
        _repository_plan(surveyed, decision, needed)
        for surveyed, decision in decisions
        if any(rule.covers(surveyed.repository) for rule in rules)
    ]


def _repository_plan(surveyed: Survey, decision: Decision, counted: set[Digest]) -> RepositoryPlan:
    entries = []
    for unit in decision.units:
        steps = decision.steps.get(unit.digest, ())
        freed = 0
        for digest in steps:
            for blob, size in surveyed.nodes[digest].blobs.items():
                if blob not in counted:
                    counted.add(blob)
                    freed += size
        created = _written(unit.created) if unit.created else ""
        entries.append(Entry(unit.digest, unit.tags, created, tuple(unit.reasons), steps, freed))
    return RepositoryPlan(surveyed.repository, dict(surveyed.tags), tuple(entries))
