"""The retention plan: a plain value that says what would be deleted and why all else stays. Nothing changes here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from registry_pipelines.inventory.survey import state_of
from registry_pipelines.oci.digest import Digest

SURVEY, INVENTORY = "survey", "inventory"
"""What a plan was made from: the registry itself, or a stored inventory of it, which may be old."""

Row = dict[str, str | int]
"""Of a table."""


@dataclass(frozen=True)
class Entry:
    """One image: a tagged manifest, or one without tags that nothing leads to (``tags`` is empty then). delete: empty
    when it stays, else all manifests that go with it, in order.

    reasons: why it stays; none means it goes. rule: the rule by which it goes, or which keeps it; empty where no rule
    decided. why: why it goes, in a sentence. freed_bytes: of manifests and blobs that nothing else needs once all
    entries before this one are gone, so the entries' sum is the plan's. created: RFC 3339, empty when unknown.
    """

    digest: Digest
    tags: tuple[str, ...]
    created: str
    reasons: tuple[str, ...]
    delete: tuple[Digest, ...] = ()
    freed_bytes: int = 0
    rule: str = ""
    why: str = ""


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
class Total:
    """Bytes before and after the plan. of: ``registry``, ``team`` (first part of a repository's name), ``repository``
    or ``rule``; name: which. images, going: entries. before: bytes that are held; freed: those that go.

    A blob that several repositories hold counts for each of them in equal parts, and once in all: repositories add up
    to their team, teams and rules to the registry, to the byte. Of a rule: what goes by it alone; ``before`` is then
    not told (0).
    """

    of: str
    name: str
    images: int
    going: int
    before: int
    freed: int

    @property
    def after(self) -> int:
        """Bytes that stay."""
        return max(0, self.before - self.freed)


@dataclass
class Overview:
    """A plan as a person reads it. refused: repositories that nothing is planned for, with the reason. going, staying:
    images. freed_bytes: of those that go. rows: see :meth:`RetentionPlan.rows`."""

    refused: list[str] = field(default_factory=list)
    going: int = 0
    staying: int = 0
    freed_bytes: int = 0
    rows: list[Row] = field(default_factory=list)

    def count(self, entry: Entry) -> None:
        """One more image."""
        if entry.reasons:
            self.staying += 1
        else:
            self.going += 1
            self.freed_bytes += entry.freed_bytes


@dataclass(frozen=True)
class RetentionPlan:
    """What a registry could let go. registry: its name. made_at: RFC 3339. notes: what the numbers do not include.
    stopped: what could not be known, so that something stays until it is.

    repositories: can be read more than once; a stored plan of a million images reads them from its file each time
    (``plan_file.open_plan``). rules: the digest of the rules it was made by (``rules.rules_digest``). source: SURVEY,
    or INVENTORY: of what a stored inventory said, ``read_at`` (RFC 3339), so that each entry is looked at again before
    anything goes.
    """

    registry: str
    made_at: str
    repositories: Iterable[RepositoryPlan]
    notes: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    rules: str = ""
    source: str = SURVEY
    read_at: str = ""
    totals: tuple[Total, ...] = ()
    stored_as: Digest | None = field(default=None, compare=False)
    """The digest of the file that it was read from; nobody gives it to a plan that was changed since."""

    @property
    def deletions(self) -> Iterator[tuple[str, Entry]]:
        """(repository, entry) of all that goes."""
        for planned in self.repositories:
            yield from ((planned.repository, entry) for entry in planned.entries if not entry.reasons)

    @property
    def freed_bytes(self) -> int:
        """Bytes that the registry can free after the plan; layers that anything kept shares are not counted."""
        for total in self.totals:
            if total.of == "registry":
                return total.freed
        return sum(entry.freed_bytes for _, entry in self.deletions)

    @property
    def digest(self) -> Digest:
        """The digest of the stored form: what an approval names."""
        from registry_pipelines.collect.plan_file import lines

        if self.stored_as is not None:
            return self.stored_as
        hasher = hashlib.sha256()
        for line in lines(self):
            hasher.update(line)
        return Digest(f"sha256:{hasher.hexdigest()}")

    def overview(self, most: int | None = None) -> Overview:
        """What a person is told of it, in one reading: a large plan is read from its file each time. most: so many rows
        at most."""
        found = Overview()
        kinds: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
        for planned in self.repositories:
            if planned.refused:
                found.refused.append(f"{planned.repository}: {planned.refused}")
                kinds[0].append(_row(planned.repository, "refuse", planned.refused))
            for entry in planned.entries:
                found.count(entry)
                rows = kinds[2 if entry.reasons else 1]
                if most is None or len(rows) < most:
                    rows.append(_entry_row(planned.repository, entry))
        for rows in kinds:
            rows.sort(key=lambda row: str(row["repository"]))
        found.rows = [row for rows in kinds for row in rows][:most]
        return found

    def rows(self, most: int | None = None) -> list[Row]:
        """A table: what goes first, then what stays and why. most: so many rows at most."""
        return self.overview(most).rows

    def to_json(self) -> str:
        """The stored form as one text; :meth:`from_json` reads it. Large plans go through ``plan_file``."""
        from registry_pipelines.collect.plan_file import lines

        return b"".join(lines(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> RetentionPlan:
        """Read a stored plan. Raises InputError."""
        from registry_pipelines.collect.plan_file import read_lines

        return read_lines(text.encode(errors="surrogatepass").splitlines())


def _entry_row(repository: str, entry: Entry) -> Row:
    action = "keep" if entry.reasons else "delete"
    why = "; ".join(entry.reasons) or entry.why or "neither new, young, protected, in use nor needed"
    return _row(
        repository, action, why, ", ".join(entry.tags), entry.freed_bytes, entry.created, entry.digest, entry.rule
    )


def _row(
    repository: str,
    action: str,
    why: str,
    tags: str = "",
    freed: int = 0,
    created: str = "",
    digest: str = "",
    rule: str = "",
) -> Row:
    return {
        "repository": repository,
        "tags": tags,
        "action": action,
        "freed_bytes": freed,
        "created": created,
        "rule": rule,
        "why": why,
        "digest": digest,
    }
