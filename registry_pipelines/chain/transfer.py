"""What images on the move cost: pulls of nodes and copies between registries, by edge of the configuration."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_pipelines.chain.advise import origin_of
from registry_pipelines.chain.prices import price_book
from registry_pipelines.chain.pull_counts import Counted, Counts, count_pulls
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError, Unavailable
from registry_pipelines.progress import count_text
from registry_pipelines.report.arithmetic import amount_text, doubts
from registry_pipelines.report.transfer import Copies, Pulls, Transfer, transfer
from registry_pipelines.settings import unknown
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest

if TYPE_CHECKING:
    from registry_pipelines.inventory.value import Inventory

DAYS = 30
"""Whose pulls count unless told."""
MOST_ROWS = 500
"""Of a table of repositories; the edges and sums have all of them."""


def transferred(
    session: Session,
    registries: Sequence[str] = (),
    *,
    days: int = DAYS,
    pulls: Path | None = None,
    prices: Path | None = None,
) -> StageResult:
    """What moves a month, by edge, and what it costs. registries: those that are pulled from; all with an edge of
    ``report.edges``, and all of ECR, unless named. days: whose pulls count. pulls: a file of them (``read_pulls``).
    ``reasons``: what is in no sum, and why; not ``ok`` where a source did not answer. Raises InputError."""
    started = time.monotonic()
    book = price_book(session.config, prices)
    found, counts, notes = measured(session, registries, days=days, pulls=pulls, prices=prices)
    edges = found.by_edge()
    unsure = doubts(found.lines, book, session.now().date(), old_after=session.config.report.prices_old_after)
    least = "at least " if found.unknown or counts.failed else ""
    return StageResult(
        stage="transfer",
        subject=", ".join(registries) or "all registries",
        action=f"{least}{amount_text(found.size)} a month, {least}{found.usd:.2f} {book.currency}",
        seconds=time.monotonic() - started,
        facts={
            "usd_per_month": round(found.usd, 2),
            "bytes_per_month": round(found.size),
            "edges": len(edges),
            "unknown": len(found.unknown),
            "days": days,
            "currency": book.currency,
            "prices_of": book.date.isoformat(),
            "sure": not unsure and not found.unknown,
        },
        rows=edges,
        tables={"repositories": [each.row() for each in found.moved[:MOST_ROWS]]},
        reasons=[*counts.failed, *found.unknown],
        notes=[*notes, *unsure, f"prices ({book.currency}) of {book.date.isoformat()}: {book.source}"],
        ok=not counts.failed,
        exit_code=Unavailable.exit_code if counts.failed else 0,
    )


def measured(
    session: Session,
    registries: Sequence[str] = (),
    *,
    days: int = DAYS,
    pulls: Path | None = None,
    prices: Path | None = None,
    copies: bool = True,
) -> tuple[Transfer, Counts, list[str]]:
    """The same as values: what moves, what was counted, and notes. copies: whether releases on their way to targets
    are looked at, too. Raises InputError."""
    names = _registries(session, registries)
    counts = count_pulls(session, names, days=days, file=pulls)
    sized, notes = _sized(session, counts, days)
    moving = _copies(session, registries) if copies else []
    origins = {name: origin_of(session.config, name) for name in session.config.registries}
    book = price_book(session.config, prices)
    edges = list(session.config.report.edges.values())
    found: list[Any] = []
    for name in dict.fromkeys(each.registry for each in sized):
        mine = [each for each in sized if each.registry == name]
        found += transfer(edges, origins, mine, (), book, days=counts.days.get(name, float(days))).moved
    found += transfer(edges, origins, (), moving, book, days=float(days)).moved
    if not names:
        notes.append("no pulls are counted: no registry is of kind ecr, and none has an edge in `report.edges`")
    if sized:
        notes.append("pulls count as those of nodes that have nothing of the image: one that has layers fetches less")
    return Transfer(moved=tuple(found)), counts, [*counts.notes, *notes]


def _registries(session: Session, named: Sequence[str]) -> list[str]:
    known = session.config.registries
    for name in named:
        if name not in known:
            raise InputError(unknown(name, known, "registry"), do="Name a registry of the configuration")
    edges = {each.registry for each in session.config.report.edges.values()}
    return list(dict.fromkeys(named)) or [
        name for name, settings in known.items() if name in edges or settings.kind == "ecr"
    ]


def _copies(session: Session, registries: Collection[str]) -> list[Copies]:
    """Releases on their way to targets, by image and target."""
    from registry_pipelines.chain.recent import recent
    from registry_pipelines.chain.ways import edges as ways_of

    found: list[Copies] = []
    looked: dict[str, tuple[float | None, float | None, str]] = {}
    for way in ways_of(session):
        if registries and way.source not in registries:
            continue
        if way.image not in looked:
            try:
                last = recent(session, session.image(way.image))
                looked[way.image] = (last.per_month, last.moved, last.why)
            except RegistryPipelinesError as error:
                looked[way.image] = (None, None, str(error))
        releases, moved, why = looked[way.image]
        found.append(
            Copies(
                source=way.source,
                registry=way.registry,
                image=way.image,
                releases=releases,
                moved_bytes=moved,
                why=why,
            )
        )
    return found


def _sized(session: Session, counts: Counts, days: int) -> tuple[list[Pulls], list[str]]:
    """Pulls with what one of them moves."""
    since = session.now() - timedelta(days=days)
    wanted: dict[str, set[str]] = {}
    for each in counts.counted:
        if each.given_bytes is None and each.repository != "*" and each.pulls != 0:
            wanted.setdefault(each.registry, set()).add(each.repository)
    sizes = {name: _Sizes(session, name, repositories, since) for name, repositories in wanted.items()}
    found = [_pulls_of(each, sizes.get(each.registry)) for each in counts.counted]
    return found, [note for each in sizes.values() for note in each.notes]


def _pulls_of(each: Counted, sizes: _Sizes | None) -> Pulls:
    pulls, why, size, size_of = each.pulls, each.why, None, ""
    if each.given_bytes is not None and pulls:
        size, size_of = each.given_bytes / pulls, "bytes of layers, by the log"
    elif sizes is not None and each.repository != "*":
        if pulls is None and sizes.read and not sizes.lately(each.repository):
            pulls, why = 0.0, ""  # CloudWatch has no point, and ECR's own pull times have none of that time either
        size, size_of = sizes.of(each.repository, each.digest or each.tag)
    return Pulls(
        registry=each.registry,
        repository=each.repository,
        pulls=pulls,
        each_bytes=size,
        size_of=size_of,
        edge=each.edge,
        why=f"{why}, and images of it were pulled lately" if pulls is None and sizes and sizes.read else why,
    )


class _Sizes:
    """Sizes of what is pulled, by an inventory of the repositories that count. read: whether there is one."""

    def __init__(self, session: Session, registry: str, repositories: Collection[str], since: datetime) -> None:
        from registry_pipelines.chain import inventory

        self._since = since
        self.notes: list[str] = []
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        self._named: dict[str, dict[str, dict[str, Any]]] = {}
        self._why = ""
        try:
            found = inventory.read(session, [registry], repositories=sorted(repositories), manifests="none")
            self._take(found)
            self.read = found.complete
            self.notes += [
                f"{registry}: {each.what}: {each.problem}" for source in found.sources for each in source.unread
            ]
        except RegistryPipelinesError as error:
            self.read, self._why = False, str(error)

    def _take(self, found: Inventory) -> None:
        columns = ["repository", "digest", "tags", "size_bytes", "children", "subject", "created", "pushed", "pulled"]
        for row in found.table().select(columns).to_pylist():
            self._by_name.setdefault(row["repository"], []).append(row)
            self._sizes.setdefault(row["repository"], {})[row["digest"]] = row["size_bytes"] or 0
            self._named.setdefault(row["repository"], {}).update(dict.fromkeys([row["digest"], *row["tags"]], row))

    def lately(self, repository: str) -> list[dict[str, Any]]:
        """Images that were pulled in that time, by the registry's own word. What refers to another is none of them."""
        rows = self._images(repository)
        return [row for row in rows if row["pulled"] is not None and row["pulled"] >= self._since]

    def of(self, repository: str, named: str) -> tuple[float | None, str]:
        """Bytes of one pull, and what they are of; or None, and why. named: digest or tag; empty where nobody says
        which image it was."""
        rows = self._images(repository)
        if not rows:
            return None, self._why or "there is no image in it now"
        if named:
            one = self._named[repository].get(named)
            return (self._size(repository, one), named) if one else (None, f"{named} is not there any more")
        if pulled := self.lately(repository):
            sizes = [self._size(repository, row) for row in pulled]
            if (low := min(sizes)) == (high := max(sizes)):
                return float(low), f"{count_text(len(sizes), 'image')} that were pulled lately"
            of = f"{count_text(len(sizes), 'image')} that were pulled lately, {amount_text(low)} to {amount_text(high)}"
            return sum(sizes) / len(sizes), of
        tagged = [row for row in rows if any(not is_named_after_digest(tag) for tag in row["tags"] or ())]
        dated = [row for row in tagged if row["pushed"] or row["created"]]
        newest = max(dated, key=lambda row: row["pushed"] or row["created"], default=tagged[-1] if tagged else None)
        if newest is None:
            return None, "no image in it has a tag, and nobody says which was pulled"
        return float(self._size(repository, newest)), f"its newest image, {newest['tags'][0]}: nobody says which it was"

    def _images(self, repository: str) -> list[dict[str, Any]]:
        return [row for row in self._by_name.get(repository, ()) if not row["subject"]]

    def _size(self, repository: str, row: dict[str, Any]) -> int:
        """Of an index its largest image, as ECR says it of its own."""
        known = self._sizes[repository]
        return max([row["size_bytes"] or 0, *(known.get(each, 0) for each in row["children"] or ())])


__all__ = ["DAYS", "measured", "transferred"]
